"""How runs end: stopped, failed, lost, drained, and while stores are away."""

from __future__ import annotations

import asyncio

import pytest

from parley.chat.v1 import chat_pb2 as pb
from parley.data.v1 import data_pb2
from parley.gateway.v1 import gateway_pb2
from runtime.config import Secret
from runtime.errors import Internal, InvalidArgument, ParleyError, ResourceExhausted, Unavailable
from tests.contract.chat.screen import Screen
from tests.contract.chat.scripted_gateway import Gate, Think, finished
from tests.contract.chat.world import Instance, Person, World, eventually, refusal


async def test_cancel_closes_the_upstream_and_keeps_the_partial(world: World, chat: Instance, ada: Person) -> None:
    world.gateway.script("Hel", Gate(), "lo")
    live = await ada.begin(chat, text="Hel")
    run = await ada.cancel(chat, live.run_id)
    async with asyncio.timeout(5):
        await world.gateway.closed.wait()
    screen = await live.rest()
    assert (run.status, screen.last.done.status) == (pb.RUN_STATUS_CANCELLED, pb.RUN_STATUS_CANCELLED)
    stored = await ada.stored(live.run_id)
    assert (stored.run.status, stored.answer.state) == (
        data_pb2.RUN_STATUS_CANCELLED,
        data_pb2.MESSAGE_STATE_CANCELLED,
    )
    assert await ada.stored_text(live.run_id) == screen.text == "Hel"


async def test_a_cancelled_run_tells_what_it_used_as_far_as_we_can_tell(
    world: World, chat: Instance, ada: Person
) -> None:
    world.gateway.script(Think("Hm, well"), "Hello you", Gate())
    live = await ada.begin(chat, text="Hello you")
    await ada.cancel(chat, live.run_id)
    usage = (await live.rest()).events[-2].usage
    assert (usage.estimated, usage.output_tokens, usage.reasoning_tokens) == (True, 5, 2)
    assert usage.input_tokens > 0


async def test_cancelling_an_ended_run_changes_nothing(chat: Instance, ada: Person) -> None:
    screen = await ada.ask(chat)
    assert (await ada.cancel(chat, screen.run_id)).status == pb.RUN_STATUS_COMPLETED
    assert (await ada.cancel(chat, screen.run_id)).status == pb.RUN_STATUS_COMPLETED


async def test_a_run_may_be_cancelled_twice_at_once(world: World, chat: Instance, ada: Person) -> None:
    world.gateway.script("Hel", Gate())
    live = await ada.begin(chat, text="Hel")
    runs = await asyncio.gather(*(ada.cancel(chat, live.run_id) for _ in range(5)))
    assert {run.status for run in runs} == {pb.RUN_STATUS_CANCELLED}
    await live.rest()


async def test_a_malformed_id_is_refused_by_name(chat: Instance, ada: Person) -> None:
    for call in (ada.cancel, ada.get):
        error = await refusal(call(chat, "x"))
        assert (type(error), error.metadata["field"]) == (InvalidArgument, "run_id")


@pytest.mark.parametrize("visible", [True, False])
async def test_a_failure_is_the_last_event_and_keeps_the_partial(
    world: World, chat: Instance, ada: Person, visible: bool
) -> None:
    fault = ResourceExhausted.of("PROVIDER_RATE_LIMITED", "upstream-words", retry_after_s=7.0)
    world.gateway.script(*(["Hel"] if visible else []), fault)
    screen = await ada.ask(chat)
    assert screen.kinds[-2:] == ["usage", "error"]
    error = screen.last.error
    assert (error.reason, error.retry_after_s) == ("PROVIDER_RATE_LIMITED", 7.0)
    assert "upstream-words" not in error.message
    assert error.request_id
    stored = await ada.stored(screen.run_id)
    assert (stored.run.status, stored.run.error_reason) == (data_pb2.RUN_STATUS_FAILED, "PROVIDER_RATE_LIMITED")
    assert stored.answer.state == data_pb2.MESSAGE_STATE_FAILED
    assert await ada.stored_text(screen.run_id) == ("Hel" if visible else "")
    replay = await Screen().read(ada.watch(chat, screen.run_id))
    assert (replay.last.error.reason, replay.last.error.message) == (error.reason, error.message)


@pytest.mark.parametrize(
    ("steps", "reason"),
    [
        ((), "EMPTY_ANSWER"),
        ((Think("Hm."),), "EMPTY_ANSWER"),
        ((finished(gateway_pb2.FINISH_REASON_LENGTH),), "EMPTY_ANSWER"),
        (("Hel", finished(gateway_pb2.FINISH_REASON_CONTENT_FILTER)), "CONTENT_FILTERED"),
        (("Hel", Internal("internal error")), "INTERNAL"),
    ],
)
async def test_an_answer_that_is_none_fails(
    world: World, chat: Instance, ada: Person, steps: tuple[object, ...], reason: str
) -> None:
    world.gateway.script(*steps)
    screen = await ada.ask(chat)
    assert screen.last.error.reason == reason
    assert (await ada.stored(screen.run_id)).run.error_reason == reason


async def test_a_prompt_that_is_too_long_is_sent_again_with_less_history(
    world: World, chat: Instance, ada: Person
) -> None:
    first = await ada.ask(chat, "one")
    too_long: ParleyError = InvalidArgument.of("CONTEXT_TOO_LONG", "The prompt does not fit the model.")
    world.gateway.script(too_long)
    screen = await ada.ask(chat, "two", conversation_id=first.conversation_id)
    assert screen.last.done.status == pb.RUN_STATUS_COMPLETED
    roles = [[message.role for message in request.messages] for request in world.gateway.requests[-2:]]
    system, user, assistant = gateway_pb2.ROLE_SYSTEM, gateway_pb2.ROLE_USER, gateway_pb2.ROLE_ASSISTANT
    assert roles == [[system, user, assistant, user], [system, user]]


async def test_a_gateway_that_is_away_for_a_moment_costs_no_answer(world: World, chat: Instance, ada: Person) -> None:
    world.gateway.script(Unavailable("The gateway is starting; try again."))
    assert (await ada.ask(chat)).last.done.status == pb.RUN_STATUS_COMPLETED
    assert len(world.gateway.requests) == 2


async def test_a_gateway_that_dies_in_the_answer_fails_the_run(world: World, chat: Instance, ada: Person) -> None:
    world.gateway.script("Hel", Gate())
    live = await ada.begin(chat, text="Hel")
    async with world.without("gateway"):
        screen = await live.rest()
    assert (screen.text, screen.kinds[-1]) == ("Hel", "error")


async def test_what_is_visible_is_stored_while_it_grows(world: World, chat: Instance, ada: Person) -> None:
    gate = Gate()
    world.gateway.script("Hel", gate, "lo")
    screen = (await ada.begin(chat, text="Hel")).screen

    async def is_stored() -> bool:
        return await ada.stored_text(screen.run_id) == "Hel"

    await eventually(is_stored)
    stored = await ada.stored(screen.run_id)
    assert (stored.run.status, stored.run.last_seq) == (data_pb2.RUN_STATUS_RUNNING, screen.seq)
    gate.open()


async def test_the_lease_is_renewed_while_nothing_comes(world: World, ada: Person) -> None:
    world.gateway.script("Hel", Gate())
    async with world.chat(lease_s=3) as chat:
        live = await ada.begin(chat, text="Hel")

        async def lease() -> float:
            return (await ada.stored(live.run_id)).run.lease_expire_time.ToNanoseconds() / 1e9

        first = await lease()

        async def is_renewed() -> bool:
            return await lease() > first + 2

        await eventually(is_renewed)


async def test_a_run_whose_conversation_is_deleted_stops(world: World, chat: Instance, ada: Person) -> None:
    world.gateway.script("Hel", Gate())
    live = await ada.begin(chat, text="Hel")
    conversation_id = world.gateway.requests[-1].conversation_id
    await ada.delete_conversation(conversation_id)
    screen = await live.rest()
    assert screen.last.done.status == pb.RUN_STATUS_CANCELLED
    async with asyncio.timeout(5):
        await world.gateway.closed.wait()


async def test_an_answer_that_cannot_be_stored_is_kept_and_stored_later(world: World, ada: Person) -> None:
    """Data is away when the answer ends: the client sees its end all the same, and finds the answer once data is back."""
    gate = Gate()
    world.gateway.script("Hel", gate, "lo")
    async with world.chat(finish_patience_s=0.2) as chat:
        live = await ada.begin(chat, text="Hel")
        async with world.without("data"):
            gate.open()
            screen = await live.rest()
            assert (screen.text, screen.last.done.status) == ("Hello", pb.RUN_STATUS_COMPLETED)
            assert (await ada.get(chat, live.run_id)).status == pb.RUN_STATUS_COMPLETED
            assert (await Screen().read(ada.watch(chat, live.run_id))).events == screen.events

        async def is_stored() -> bool:
            return (await ada.stored(live.run_id)).run.status == data_pb2.RUN_STATUS_COMPLETED

        await eventually(is_stored)
        assert await ada.stored_text(live.run_id) == "Hello"
        assert (await ada.stored(live.run_id)).run.last_seq == screen.seq


async def test_without_redis_a_run_completes_and_is_watched(world: World, ada: Person) -> None:
    async with world.chat(redis_url=Secret("redis://127.0.0.1:1/0")) as chat:
        gate = Gate()
        world.gateway.script("Hel", gate, "lo")
        live = await ada.begin(chat, text="Hel")
        joined = asyncio.create_task(Screen().read(ada.watch(chat, live.run_id)))
        gate.open()
        assert (await live.rest()).text == (await joined).text == "Hello"
        assert await ada.stored_text(live.run_id) == "Hello"


async def test_drain_refuses_new_runs_and_waits_for_those_there_are(world: World, chat: Instance, ada: Person) -> None:
    gate = Gate()
    world.gateway.script("Hel", gate, "lo")
    live = await ada.begin(chat, text="Hel")
    draining = asyncio.create_task(chat.chat.drain(20))
    await asyncio.sleep(0)
    error = await refusal(ada.start(chat))
    assert (type(error), error.code, error.retry_after_s) == (Unavailable, "DRAINING", 1)
    gate.open()
    await draining
    assert (await live.rest()).last.done.status == pb.RUN_STATUS_COMPLETED


async def test_drain_gives_back_what_takes_too_long_and_keeps_its_partial(
    world: World, chat: Instance, ada: Person
) -> None:
    world.gateway.script("Hel", Gate(), "lo")
    live = await ada.begin(chat, text="Hel")
    await chat.chat.drain(0.2)
    error = await refusal(live.responses)
    assert (type(error), error.code) == (Unavailable, "RUN_MOVED")
    await world.gateway.closed.wait()
    assert await ada.stored_text(live.run_id) == "Hel"
    async with world.chat() as other:
        assert (await Screen().read(ada.watch(other, live.run_id))).last.done.status == pb.RUN_STATUS_COMPLETED
