"""A turn from the message to the stored answer."""

from __future__ import annotations

import asyncio
import uuid
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from prometheus_client import REGISTRY

from parley.chat.v1 import chat_pb2 as pb
from parley.data.v1 import data_pb2
from parley.gateway.v1 import gateway_pb2
from runtime.errors import (
    AlreadyExists,
    InvalidArgument,
    NotFound,
    ResourceExhausted,
    Unauthenticated,
    Unavailable,
)
from tests.contract.chat.screen import Screen
from tests.contract.chat.scripted_gateway import MODEL, Gate, Think, finished
from tests.contract.chat.world import Instance, Person, World, refusal


async def test_events_come_in_order_and_numbered_without_gaps(world: World, chat: Instance, ada: Person) -> None:
    world.gateway.script(Think("Hm."), "Hel", "lo ", "you")
    screen = await ada.ask(chat, "Who is there?", model="fast")
    assert screen.kinds == ["run", "user_message", "thinking", "reasoning", "text", "usage", "done"]
    assert [event.seq for event in screen.events] == list(range(1, len(screen.events) + 1))
    assert (screen.text, screen.reasoning) == ("Hello you", "Hm.")
    started, message = screen.events[0].run, screen.events[1].user_message
    assert (started.model, message.content) == ("fast", "Who is there?")
    assert (started.user_message_id, started.message_id) == (message.message_id, screen.last.done.message_id)
    assert screen.last.done.status == pb.RUN_STATUS_COMPLETED


async def test_the_answer_is_stored_before_done_is_sent(world: World, chat: Instance, ada: Person) -> None:
    world.gateway.script(Think("Hm."), "Hello")
    screen = await ada.ask(chat)
    stored = await ada.stored(screen.run_id)
    assert [part.reasoning or part.text for part in stored.answer.parts] == ["Hm.", "Hello"]
    assert stored.answer.state == data_pb2.MESSAGE_STATE_COMPLETE
    assert (stored.run.status, stored.run.last_seq) == (data_pb2.RUN_STATUS_COMPLETED, screen.seq)
    assert (stored.run.model, stored.run.response_model, stored.answer.model) == ("", MODEL, MODEL)
    assert (stored.answer.usage.output_tokens, stored.answer.usage.cost_usd) == (7, 0.25)


async def test_the_first_events_come_before_the_model_answers(world: World, chat: Instance, ada: Person) -> None:
    gate = Gate()
    world.gateway.script(gate, "Hello")
    screen = Screen()
    responses = ada.start(chat)
    screen.take(await anext(responses))
    assert screen.kinds == ["run", "user_message", "thinking"]
    gate.open()
    assert (await screen.read(responses)).text == "Hello"


async def test_deltas_that_arrived_together_are_one_event(world: World, chat: Instance, ada: Person) -> None:
    world.gateway.script(["a", "b", Think("x"), Think("y"), "c"])
    screen = await ada.ask(chat)
    pieces = [event.text.delta or event.reasoning.delta for event in screen.events[3:-2]]
    assert pieces == ["ab", "xy", "c"]


async def test_a_character_that_cannot_be_stored_is_streamed_as_it_is_stored(
    world: World, chat: Instance, ada: Person
) -> None:
    world.gateway.script("a\x00b")
    screen = await ada.ask(chat)
    assert screen.text == "a\ufffdb" == await ada.stored_text(screen.run_id)


async def test_a_message_without_a_conversation_opens_one_and_the_next_one_sees_it(
    world: World, chat: Instance, ada: Person
) -> None:
    world.gateway.script("Ada.")
    first = await ada.ask(chat, "What is my name?")
    await ada.ask(chat, "Again?", conversation_id=first.conversation_id)
    asked = world.gateway.requests[-1]
    assert asked.conversation_id == first.conversation_id
    assert [(message.role, message.text) for message in asked.messages[1:]] == [
        (gateway_pb2.ROLE_USER, "What is my name?"),
        (gateway_pb2.ROLE_ASSISTANT, "Ada."),
        (gateway_pb2.ROLE_USER, "Again?"),
    ]
    assert asked.messages[0].role == gateway_pb2.ROLE_SYSTEM


async def test_an_empty_system_prompt_is_not_sent(world: World, ada: Person) -> None:
    async with world.chat(system_prompt="") as chat:
        await ada.ask(chat, "Hi")
    assert [message.text for message in world.gateway.requests[-1].messages] == ["Hi"]


async def test_a_run_goes_on_when_its_caller_has_gone(world: World, chat: Instance, ada: Person) -> None:
    gate = Gate()
    world.gateway.script("Hel", gate, "lo")
    screen = await Screen().read(ada.start(chat), until=lambda screen: screen.text)
    gate.open()
    rest = await Screen().read(ada.watch(chat, screen.run_id))
    assert (rest.text, rest.last.done.status) == ("Hello", pb.RUN_STATUS_COMPLETED)
    assert not world.gateway.closed.is_set()


async def test_a_resend_is_the_same_run(world: World, chat: Instance, ada: Person) -> None:
    first = await ada.ask(chat, client_message_id="m1")
    again = await ada.ask(chat, client_message_id="m1")
    assert (again.run_id, again.text, len(world.gateway.requests)) == (first.run_id, first.text, 1)


async def test_resends_at_once_are_one_run(world: World, chat: Instance, ada: Person) -> None:
    screens = await asyncio.gather(*(ada.ask(chat, client_message_id="m1") for _ in range(8)))
    assert len({(screen.run_id, screen.text) for screen in screens}) == 1
    assert len(world.gateway.requests) == 1


async def test_a_used_id_with_other_content_is_refused(chat: Instance, ada: Person) -> None:
    first = await ada.ask(chat, "one", client_message_id="m1")
    again = ada.start(chat, "two", client_message_id="m1", conversation_id=first.conversation_id)
    error = await refusal(again)
    assert (type(error), error.code) == (AlreadyExists, "CLIENT_MESSAGE_ID_REUSED")


@pytest.mark.parametrize(
    ("field", "fields"),
    [
        ("message", {"message": ""}),
        ("message", {"message": " \n\t"}),
        ("message", {"message": "x" * 10_001}),
        ("message", {"message": "a\x00b"}),
        ("conversation_id", {"conversation_id": "not-a-uuid"}),
        ("client_message_id", {"client_message_id": "x" * 129}),
        ("client_message_id", {"client_message_id": "a\x00"}),
        ("model", {"model": "m" * 201}),
        ("model", {"model": "a\x00"}),
    ],
)
async def test_a_bad_field_is_refused_by_name(
    world: World, chat: Instance, ada: Person, field: str, fields: dict[str, Any]
) -> None:
    error = await refusal(ada.start(chat, fields.pop("message", "Hello"), **fields))
    assert (type(error), error.metadata.get("field")) == (InvalidArgument, field)
    assert world.gateway.requests == []


async def test_the_longest_message_is_taken(chat: Instance, ada: Person) -> None:
    assert (await ada.ask(chat, "\U0001f600" * 10_000)).last.done.status == pb.RUN_STATUS_COMPLETED


async def test_an_unknown_model_is_refused_before_the_run_begins(world: World, chat: Instance, ada: Person) -> None:
    await ada.ask(chat)  # the list of models comes beside the first run
    error = await refusal(ada.start(chat, model="no-such-model"))
    assert (type(error), error.code, error.metadata["field"]) == (InvalidArgument, "MODEL_NOT_FOUND", "model")
    assert len(world.gateway.requests) == 1


async def test_a_model_of_a_known_provider_may_be_named_without_being_listed(chat: Instance, ada: Person) -> None:
    await ada.ask(chat)
    for name in ("openai/newer", "plain-model"):
        assert (await ada.ask(chat, model=name)).last.done.status == pb.RUN_STATUS_COMPLETED


async def test_somebody_elses_conversation_is_like_an_unknown_one(chat: Instance, ada: Person, bob: Person) -> None:
    theirs = (await ada.ask(chat)).conversation_id
    errors = [await refusal(bob.start(chat, conversation_id=id_)) for id_ in (theirs, str(uuid.uuid4()))]
    assert {(type(error), error.code, error.message, *error.metadata.items()) for error in errors} == {
        (NotFound, "CONVERSATION_NOT_FOUND", "There is no such conversation.")
    }


async def test_runs_beyond_the_bound_are_refused(world: World, ada: Person) -> None:
    gate = Gate()
    world.gateway.script(gate, "one")
    async with world.chat(max_live_runs=1) as chat:
        first = await Screen().read(ada.start(chat), until=lambda screen: screen.events)
        error = await refusal(ada.start(chat))
        assert (type(error), error.code, error.retry_after_s) == (ResourceExhausted, "TOO_MANY_RUNS", 2)
        gate.open()
        await Screen().read(ada.watch(chat, first.run_id))
        assert (await ada.ask(chat)).text


async def test_a_run_does_not_begin_for_a_caller_who_can_have_no_stream(world: World, ada: Person) -> None:
    gate = Gate()
    world.gateway.script(gate, "one")
    async with world.chat(max_watchers=1) as chat:
        first = ada.start(chat)
        conversation_id = (await anext(first)).events[0].run.conversation_id
        error = await refusal(ada.start(chat, conversation_id=conversation_id))
        assert (type(error), error.code) == (ResourceExhausted, "TOO_MANY_WATCHERS")
        assert len(await ada.messages(conversation_id)) == 2  # the first run's
        gate.open()
        await Screen().read(first)
        assert (await ada.ask(chat, conversation_id=conversation_id)).text


async def test_a_watchers_place_is_given_back_however_it_goes(world: World, ada: Person) -> None:
    gate = Gate()
    world.gateway.script(gate, "one")
    async with world.chat(max_watchers=1) as chat:
        assert isinstance(await refusal(ada.start(chat, conversation_id=str(uuid.uuid4()))), NotFound)
        assert isinstance(await refusal(ada.watch(chat, str(uuid.uuid4()))), NotFound)
        leaving = ada.start(chat)
        first = await anext(leaving)
        await leaving.aclose()
        gate.open()
        async with asyncio.timeout(5):
            while True:  # word of the caller's leaving is on its way
                try:
                    assert (await Screen().read(ada.watch(chat, first.run_id))).text == "one"
                    break
                except ResourceExhausted:
                    await asyncio.sleep(0.01)
        assert (await ada.ask(chat)).text


async def test_metrics_name_listed_models_only(chat: Instance, ada: Person) -> None:
    """Any text behind a known prefix is a model's name, and callers have many texts."""

    def counted(model: str) -> list[float]:
        tokens = [("parley_chat_tokens_total", {"kind": kind}) for kind in ("input", "output")]
        names = [*tokens, ("parley_chat_first_delta_seconds_count", {})]
        return [REGISTRY.get_sample_value(name, {"model": model, **more}) or 0 for name, more in names]

    await ada.ask(chat)  # the list of models comes beside the first run
    labels = ("fast", "other", MODEL, "openai/newer")
    before = [counted(label) for label in labels]
    await ada.ask(chat, model="fast")
    await ada.ask(chat, model="openai/newer")
    grown = [
        [now - then for now, then in zip(counted(label), was, strict=True)]
        for label, was in zip(labels, before, strict=True)
    ]
    assert grown == [[11, 7, 1], [11, 7, 1], [0, 0, 0], [0, 0, 0]]


async def test_without_data_no_run_begins(world: World, chat: Instance, ada: Person) -> None:
    async with world.without("data"):
        error = await refusal(ada.start(chat))
    assert isinstance(error, Unavailable)
    assert world.gateway.requests == []


async def test_an_answer_at_the_output_limit_is_limited(world: World, chat: Instance, ada: Person) -> None:
    world.gateway.script("As far as", finished(gateway_pb2.FINISH_REASON_LENGTH))
    screen = await ada.ask(chat)
    assert screen.last.done.status == pb.RUN_STATUS_LIMITED
    assert (await ada.stored(screen.run_id)).run.status == data_pb2.RUN_STATUS_LIMITED


async def refused(person: Person, run_id: str) -> bool:
    """Says whether a person's token is no good any more."""
    try:
        await person.stored(run_id)
    except Unauthenticated:
        return True
    return False


async def test_the_first_call_uses_the_users_token_and_the_end_a_delegated_one(
    world: World, chat: Instance, ada: Person
) -> None:
    """The run outlives the user's token: what is stored at the end is stored with one that lasts."""
    gate = Gate()
    world.gateway.script("Hel", gate, "lo")
    # Clocks may differ by five seconds, so it is good for three more.
    ends_at = datetime.now(UTC) - timedelta(seconds=2)
    ending = await world.until(ends_at, ada)
    screen = await Screen().read(ending.start(chat), until=lambda screen: screen.text)
    assert world.gateway.tokens == [ending.token]
    await asyncio.sleep((ends_at - datetime.now(UTC)).total_seconds() + 5.1)
    assert await refused(ending, screen.run_id)
    gate.open()
    await Screen().read(ada.watch(chat, screen.run_id))
    assert (await ada.stored(screen.run_id)).run.status == data_pb2.RUN_STATUS_COMPLETED


async def test_a_run_completes_while_auth_is_away(world: World, chat: Instance, ada: Person) -> None:
    await ada.ask(chat)  # the keys are known
    async with world.without("auth"):
        screen = await ada.ask(chat)
    assert screen.last.done.status == pb.RUN_STATUS_COMPLETED
