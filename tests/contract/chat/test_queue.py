"""Runs in the background, one run at a time, and what becomes of those that fail."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
from prometheus_client import REGISTRY

from parley.chat.v1 import chat_pb2 as pb
from parley.data.v1 import data_pb2
from runtime.errors import Conflict, NotFound, PermissionDenied, ResourceExhausted, Unavailable
from tests.contract.chat.screen import Screen
from tests.contract.chat.scripted_gateway import Gate
from tests.contract.chat.world import Instance, Person, World, eventually, refusal

DOWN = Unavailable.of("PROVIDER_UNAVAILABLE", "down")


@pytest.fixture
async def other(world: World) -> AsyncIterator[Instance]:
    async with world.chat() as instance:
        yield instance


async def ended(person: Person, run_id: str) -> data_pb2.Run:
    """Returns a run once it has ended."""

    async def has_ended() -> bool:
        status = (await person.stored(run_id)).run.status
        return status not in (data_pb2.RUN_STATUS_QUEUED, data_pb2.RUN_STATUS_RUNNING)

    await eventually(has_ended)
    return (await person.stored(run_id)).run


async def test_a_submitted_run_is_answered_without_anybody_waiting(chat: Instance, ada: Person) -> None:
    run = await ada.submit(chat, "Hello?")
    assert run.status == pb.RUN_STATUS_QUEUED
    assert (await ended(ada, run.id)).status == data_pb2.RUN_STATUS_COMPLETED
    assert await ada.stored_text(run.id) == "Hello from the script."


async def test_a_submitted_run_is_watched_from_its_beginning(
    world: World, chat: Instance, other: Instance, ada: Person
) -> None:
    """Whoever takes it, and wherever it is watched."""
    gate = Gate()
    world.gateway.script("Hel", gate, "lo")
    run = await ada.submit(chat)
    screens = [Screen(), Screen()]
    streams = [ada.watch(chat, run.id), ada.watch(other, run.id)]
    for screen, responses in zip(screens, streams, strict=True):
        while screen.text != "Hel":
            screen.take(await anext(responses))
    gate.open()
    for screen, responses in zip(screens, streams, strict=True):
        await screen.read(responses)
        assert (screen.text, screen.gapless) == ("Hello", True)
    assert screens[0].events == screens[1].events


async def test_a_run_submitted_twice_is_one(chat: Instance, ada: Person) -> None:
    first = await ada.submit(chat, client_message_id="once")
    second = await ada.submit(chat, client_message_id="once")
    assert first.id == second.id
    assert (await ended(ada, first.id)).status == data_pb2.RUN_STATUS_COMPLETED


async def test_queued_runs_survive_that_no_instance_is_there(world: World, chat: Instance, ada: Person) -> None:
    await chat.chat.claims.stop()
    run = await ada.submit(chat)
    async with world.chat():
        assert (await ended(ada, run.id)).status == data_pb2.RUN_STATUS_COMPLETED


async def test_an_instance_takes_no_more_than_it_may(world: World, ada: Person, bob: Person) -> None:
    gate = Gate()
    world.gateway.script("Hel", gate)
    async with world.chat(max_background_runs=1) as chat:
        first = await ada.submit(chat)
        await gate.reached.wait()
        second = await bob.submit(chat)
        screen = await Screen().read(bob.watch(chat, second.id), until=lambda screen: screen.seq == 2)
        assert screen.kinds == ["run", "user_message"]
        assert len(world.gateway.requests) == 1
        gate.open()
        assert (await screen.read(bob.watch(chat, second.id, 2))).last.done.status == pb.RUN_STATUS_COMPLETED
        assert screen.gapless
        await ended(ada, first.id)


async def test_a_second_run_is_refused_while_one_is_active(
    world: World, chat: Instance, ada: Person, bob: Person
) -> None:
    """And names the one in the way; somebody else's is no matter."""
    gate = Gate()
    world.gateway.script("Hel", gate, "lo")
    live = await ada.begin(chat, text="Hel")
    error = await refusal(ada.start(chat))
    assert (type(error), error.code, error.metadata["run_id"]) == (Conflict, "CONCURRENT_REQUEST", live.run_id)
    assert (await bob.ask(chat)).last.done.status == pb.RUN_STATUS_COMPLETED
    gate.open()
    await live.rest()
    assert (await ada.ask(chat)).last.done.status == pb.RUN_STATUS_COMPLETED


async def test_a_second_run_may_wait_for_the_first(world: World, chat: Instance, other: Instance, ada: Person) -> None:
    """It is shown at once, begins when its time has come, on whatever instance, and without a gap."""
    gate = Gate()
    world.gateway.script("Hel", gate, "lo")
    world.gateway.script("Good ", "day")
    live = await ada.begin(chat, text="Hel")
    waiting, screen = ada.start(other, on_conflict=pb.ON_CONFLICT_ENQUEUE), Screen()
    screen.take(await anext(waiting))
    assert screen.kinds == ["run", "user_message"]
    assert (await ada.get(chat, screen.run_id)).status == pb.RUN_STATUS_QUEUED
    assert len(world.gateway.requests) == 1
    gate.open()
    assert (await live.rest()).text == "Hello"
    await screen.read(waiting)
    assert (screen.text, screen.gapless) == ("Good day", True)


async def test_a_second_run_may_stop_the_first(world: World, chat: Instance, other: Instance, ada: Person) -> None:
    world.gateway.script("Hel", Gate(), "lo")
    world.gateway.script("Good ", "day")
    live = await ada.begin(chat, text="Hel")
    screen = await Screen().read(ada.start(other, on_conflict=pb.ON_CONFLICT_INTERRUPT))
    assert screen.text == "Good day"
    assert (await live.rest()).last.done.status == pb.RUN_STATUS_CANCELLED
    assert await ada.stored_text(live.run_id) == "Hel"


async def test_as_many_runs_of_a_user_wait_as_may(world: World, ada: Person) -> None:
    async with world.chat(queued_per_user=1) as chat:
        await chat.chat.claims.stop()
        waits = await ada.submit(chat)
        error = await refusal(ada.submit(chat))
        assert (type(error), error.code) == (ResourceExhausted, "QUEUE_FULL")
        await ada.cancel(chat, waits.id)  # or the next test's instance would take it


async def test_without_limits_runs_do_not_mind_each_other(world: World, ada: Person) -> None:
    world.gateway.script("Hel", Gate())
    async with world.chat(max_runs_per_user=0, max_runs_per_conversation=0) as chat:
        live = await ada.begin(chat, text="Hel")
        assert (await ada.ask(chat)).last.done.status == pb.RUN_STATUS_COMPLETED
        await live.leave()


async def test_a_queued_run_is_stopped_before_anybody_owns_it(world: World, chat: Instance, ada: Person) -> None:
    await chat.chat.claims.stop()
    run = await ada.submit(chat)
    assert (await ada.cancel(chat, run.id)).status == pb.RUN_STATUS_CANCELLED
    screen = await Screen().read(ada.watch(chat, run.id))
    assert (screen.kinds[:2], screen.last.done.status) == (["run", "user_message"], pb.RUN_STATUS_CANCELLED)
    assert not world.gateway.requests


async def test_a_background_run_is_tried_three_times_and_then_is_a_dead_letter(
    world: World, chat: Instance, ada: Person
) -> None:
    def counted() -> float:
        return REGISTRY.get_sample_value("parley_chat_dead_letters_total", {"reason": "PROVIDER_UNAVAILABLE"}) or 0

    async def counted_once_more() -> bool:
        return counted() == before + 1

    before = counted()

    for _ in range(3):
        world.gateway.script(DOWN)
    run = await ada.submit(chat)
    last = await ended(ada, run.id)
    await eventually(counted_once_more)
    assert (last.status, last.error_reason, last.tries) == (data_pb2.RUN_STATUS_FAILED, "PROVIDER_UNAVAILABLE", 3)
    letters = (await ada.dead_letters(chat)).dead_letters
    assert [(letter.run.id, letter.tries, letter.run.error_reason) for letter in letters] == [
        (run.id, 3, "PROVIDER_UNAVAILABLE")
    ]


async def test_a_failed_try_is_made_good_by_the_next(world: World, chat: Instance, ada: Person) -> None:
    """What the failed one had shown is reset."""
    world.gateway.script("Hel", DOWN)
    world.gateway.script("Good ", "day")
    run = await ada.submit(chat)
    screen = Screen()
    async with asyncio.timeout(20):
        while not screen.events or screen.last.WhichOneof("kind") != "done":
            try:
                await screen.read(ada.watch(chat, run.id, screen.seq))
            except Unavailable as error:
                assert error.code == "RUN_MOVED"  # noqa: PT017 - it may come any number of times
    assert (screen.text, screen.gapless) == ("Good day", True)
    assert await ada.stored_text(run.id) == "Good day"


async def test_a_dead_letter_is_tried_again_when_somebody_says_so(world: World, ada: Person, bob: Person) -> None:
    world.gateway.script(DOWN)
    async with world.chat(background_tries=1) as chat:
        run = await ada.submit(chat)
        await ended(ada, run.id)
        error = await refusal(bob.retry_dead_letter(chat, run.id))
        assert (type(error), error.code) == (NotFound, "DEAD_LETTER_NOT_FOUND")
        assert (await ada.retry_dead_letter(chat, run.id)).status == pb.RUN_STATUS_QUEUED
        assert (await ended(ada, run.id)).status == data_pb2.RUN_STATUS_COMPLETED
        assert not (await ada.dead_letters(chat)).dead_letters
        screen = await Screen().read(ada.watch(chat, run.id))
    assert (screen.text, screen.last.done.status) == ("Hello from the script.", pb.RUN_STATUS_COMPLETED)


async def test_a_dead_letter_is_dropped_and_stays_failed(world: World, ada: Person) -> None:
    world.gateway.script(DOWN)
    async with world.chat(background_tries=1) as chat:
        run = await ada.submit(chat)
        await ended(ada, run.id)
        await ada.drop_dead_letter(chat, run.id)
        assert not (await ada.dead_letters(chat)).dead_letters
        assert (await ada.get(chat, run.id)).status == pb.RUN_STATUS_FAILED


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"message": ""}, "message"),
        ({"message": "x", "regenerate_message_id": "m"}, "regenerate_message_id"),
        ({"message": "x", "edit_message_id": "01a1fe32-b237-7d7f-98f0-8caec147536e"}, "conversation_id"),
        ({"message": "x", "on_conflict": 9}, "on_conflict"),
        ({"message": "x", "conversation_id": "c"}, "conversation_id"),
        (
            {
                "message": "x",
                "conversation_id": "01a1fe32-b237-7d7f-98f0-8caec147536e",
                "continue_message_id": "01a1fe32-b237-7d7f-98f0-8caec147536e",
            },
            "message",
        ),
    ],
)
async def test_what_does_not_go_together_is_refused_by_its_name(
    chat: Instance, ada: Person, fields: dict[str, Any], field: str
) -> None:
    for refused in (ada.submit(chat, **fields), ada.start(chat, **fields)):
        error = await refusal(refused)
        assert (error.code, error.metadata["field"]) == ("INVALID_ARGUMENT", field)


async def test_who_may_not_looks_at_no_dead_letters(world: World, chat: Instance, ada: Person) -> None:
    member = await world.as_member(ada)
    for refused in (member.dead_letters(chat), member.drop_dead_letter(chat, "x"), member.retry_dead_letter(chat, "x")):
        error = await refusal(refused)
        assert (type(error), error.code) == (PermissionDenied, "PERMISSION_DENIED")
