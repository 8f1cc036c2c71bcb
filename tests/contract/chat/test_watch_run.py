"""Watching a run: from anywhere, as often as one likes, and only one's own."""

from __future__ import annotations

import asyncio
import uuid

import pytest

from parley.chat.v1 import chat_pb2 as pb
from runtime.errors import InvalidArgument, NotFound, OutOfRange, ParleyError, ResourceExhausted
from tests.contract.chat.screen import Live, Screen
from tests.contract.chat.scripted_gateway import Gate, Think
from tests.contract.chat.world import Instance, Person, World, eventually, refusal

PIECES = ["Al", "pha ", "\U0001f600", "beta", " γάμμα"]
TEXT = "".join(PIECES)


async def test_a_watcher_of_a_live_run_may_join_at_every_position(world: World, chat: Instance, ada: Person) -> None:
    """Each gets exactly the events after its cursor, and a screen that had what came before ends up whole."""
    gate = Gate()
    world.gateway.script(Think("Hm."), *PIECES, gate, "!")
    so_far = await Screen().read(ada.start(chat), until=lambda screen: screen.text == TEXT)
    watchers = []
    for seq in range(so_far.seq + 1):
        screen = Screen()
        responses = ada.watch(chat, so_far.run_id, seq)
        for event in so_far.events[:seq]:
            screen.take(pb.WatchRunResponse(run_id=so_far.run_id, events=[event]))
        watchers.append(asyncio.create_task(screen.read(responses)))

    async def all_have_joined() -> bool:
        return chat.chat.runs._watchers == len(watchers)

    await eventually(all_have_joined)
    gate.open()
    for seq, screen in enumerate(await asyncio.gather(*watchers)):
        assert [event.seq for event in screen.events] == list(range(1, so_far.seq + 4)), seq
        assert (screen.text, screen.reasoning) == (TEXT + "!", "Hm.")


async def test_an_ended_run_plays_back_from_every_position(world: World, chat: Instance, ada: Person) -> None:
    """What is stored stands for the log: the same cursors, the same screen, the same end."""
    world.gateway.script(Think("Hm."), *PIECES)
    whole = await ada.ask(chat)
    for seq in range(whole.seq + 1):
        screen = Screen()
        for event in whole.events[:seq]:
            screen.take(pb.WatchRunResponse(run_id=whole.run_id, events=[event]))
        await screen.read(ada.watch(chat, whole.run_id, seq))
        assert (screen.text, screen.reasoning, screen.last) == (TEXT, "Hm.", whole.last), seq
        assert screen.events[-2] == whole.events[-2]
    replay = await Screen().read(ada.watch(chat, whole.run_id))
    assert replay.events[1:3] == whole.events[1:3]
    assert replay.conversation_id == whole.conversation_id
    assert replay.kinds == ["run", "user_message", "thinking", "reasoning", "text", "usage", "done"]


async def test_a_watcher_that_does_not_read_holds_nobody_up(world: World, chat: Instance, ada: Person) -> None:
    gate = Gate()
    world.gateway.script(gate, *(f"{number} " * 5_000 for number in range(100)))
    fast = await ada.begin(chat, text="")
    slow = ada.watch(chat, fast.run_id)
    screen = Screen()
    screen.take(await anext(slow))
    gate.open()
    done = await fast.rest()  # the slow one has read nothing since
    await screen.read(slow)
    assert screen.text == done.text


async def test_two_watchers_see_the_same_events(world: World, chat: Instance, ada: Person) -> None:
    gate = Gate()
    world.gateway.script("a", gate, "b")
    first = await ada.begin(chat, text="a")
    second = Live(Screen(), ada.watch(chat, first.run_id))
    second.screen.take(await anext(second.responses))
    gate.open()
    assert (await first.rest()).events == (await second.rest()).events


@pytest.mark.parametrize("ended", [True, False])
async def test_a_cursor_past_the_end_is_refused(world: World, chat: Instance, ada: Person, ended: bool) -> None:
    gate = Gate()
    world.gateway.script("a", *([] if ended else [gate]))
    screen = await Screen().read(ada.start(chat), until=None if ended else lambda screen: screen.text)
    error = await refusal(ada.watch(chat, screen.run_id, screen.seq + 1))
    assert (type(error), error.code, error.metadata["field"]) == (OutOfRange, "CURSOR_AHEAD", "after_seq")
    gate.open()


async def test_a_cursor_at_the_end_ends_at_once(chat: Instance, ada: Person) -> None:
    whole = await ada.ask(chat)
    assert (await Screen().read(ada.watch(chat, whole.run_id, whole.seq))).events == []


@pytest.mark.parametrize(("field", "run_id", "seq"), [("run_id", "x", 0), ("run_id", "", 0), ("after_seq", None, -1)])
async def test_a_bad_field_is_refused_by_name(
    chat: Instance, ada: Person, field: str, run_id: str | None, seq: int
) -> None:
    error = await refusal(ada.watch(chat, str(uuid.uuid4()) if run_id is None else run_id, seq))
    assert (type(error), error.metadata["field"]) == (InvalidArgument, field)


@pytest.mark.parametrize("live", [True, False])
async def test_somebody_elses_run_is_like_an_unknown_one(
    world: World, chat: Instance, ada: Person, bob: Person, live: bool
) -> None:
    gate = Gate()
    world.gateway.script("a", *([gate] if live else []))
    theirs = (await Screen().read(ada.start(chat), until=(lambda screen: screen.text) if live else None)).run_id
    errors: list[ParleyError] = []
    for run_id in (theirs, str(uuid.uuid4())):
        errors.append(await refusal(bob.watch(chat, run_id)))
        errors.append(await refusal(bob.get(chat, run_id)))
        errors.append(await refusal(bob.cancel(chat, run_id)))
    assert {(type(e), e.code, e.message, e.domain, tuple(e.metadata)) for e in errors} == {
        (NotFound, "RUN_NOT_FOUND", "There is no such run.", "chat.parley", ())
    }
    assert not world.gateway.closed.is_set()
    gate.open()


async def test_watchers_beyond_the_bound_are_refused(world: World, ada: Person) -> None:
    gate = Gate()
    world.gateway.script("a", gate)
    async with world.chat(max_watchers=1) as chat:
        responses = ada.start(chat)
        screen = Screen()
        screen.take(await anext(responses))
        error = await refusal(ada.watch(chat, screen.run_id))
        assert (type(error), error.code) == (ResourceExhausted, "TOO_MANY_WATCHERS")
        gate.open()
        await screen.read(responses)
        assert (await Screen().read(ada.watch(chat, screen.run_id))).text == "a"


async def test_get_tells_where_a_run_stands(world: World, chat: Instance, ada: Person) -> None:
    gate = Gate()
    world.gateway.script("a", gate)
    screen = await Screen().read(ada.start(chat, model="fast"), until=lambda screen: screen.text)
    live = await ada.get(chat, screen.run_id)
    assert (live.status, live.model, live.HasField("end_time")) == (pb.RUN_STATUS_RUNNING, "fast", False)
    gate.open()
    await screen.read(ada.watch(chat, screen.run_id, screen.seq))
    ended = await ada.get(chat, screen.run_id)
    assert (ended.status, ended.model, ended.response_model) == (pb.RUN_STATUS_COMPLETED, "fast", "scripted-model")
    assert ended.HasField("end_time")
    assert ended.message_id == screen.last.done.message_id
