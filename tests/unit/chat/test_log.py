"""The log of a run: numbered, replayed from anywhere, followed by anybody."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime

from hypothesis import given
from hypothesis import strategies as st

from services.chat.domain import (
    Done,
    Event,
    Kind,
    Part,
    PartKind,
    Reasoning,
    RunStarted,
    RunStatus,
    Text,
    Thinking,
    Usage,
    UserMessage,
)
from services.chat.log import BATCH_MAX_CHARS, BATCH_MAX_EVENTS, RunLog

OPENING: list[Kind] = [RunStarted("c", "a", "u", "fast"), UserMessage("u", "Hi", datetime.now(UTC)), Thinking()]
CLOSING: list[Kind] = [Usage(1, 2), Done(RunStatus.COMPLETED, "a")]

WRITTEN = (PartKind.TEXT, PartKind.REASONING)
pieces = st.lists(st.tuples(st.sampled_from(WRITTEN), st.text(min_size=1, max_size=4)), max_size=600)
"""Deltas as they come, more of them than are kept loose."""


def written(log: RunLog, deltas: list[tuple[PartKind, str]]) -> None:
    for kind, delta in deltas:
        if kind is PartKind.TEXT:
            log.write(delta)
        else:
            log.think(delta)


def whole(deltas: list[tuple[PartKind, str]]) -> RunLog:
    log = RunLog()
    for kind in OPENING:
        log.append(kind)
    written(log, deltas)
    for kind in CLOSING:
        log.append(kind)
    return log


def replayed(log: RunLog, seq: int) -> list[Event]:
    events: list[Event] = []
    while batch := log.after(seq):
        events += batch
        seq = batch[-1].seq
    return events


@given(pieces, st.data())
def test_a_replay_from_anywhere_is_the_end_of_the_whole(
    deltas: list[tuple[PartKind, str]], data: st.DataObject
) -> None:
    log = whole(deltas)
    events = replayed(log, 0)
    assert [event.seq for event in events] == list(range(1, log.last_seq + 1))
    assert [event.kind.delta for event in events if isinstance(event.kind, Text | Reasoning)] == [
        delta for _, delta in deltas
    ]
    seq = data.draw(st.integers(0, log.last_seq))
    assert replayed(log, seq) == events[seq:]


@given(pieces)
def test_each_text_says_where_it_begins(deltas: list[tuple[PartKind, str]]) -> None:
    text = ""
    for event in replayed(whole(deltas), 0):
        if isinstance(event.kind, Text):
            assert event.kind.offset == len(text)
            text += event.kind.delta
    assert text == "".join(delta for kind, delta in deltas if kind is PartKind.TEXT)


@given(pieces)
def test_what_is_stored_is_what_was_streamed(deltas: list[tuple[PartKind, str]]) -> None:
    parts = whole(deltas).parts()
    for kind in WRITTEN:
        assert "".join(part.text for part in parts if part.kind is kind) == "".join(
            delta for of, delta in deltas if of is kind
        )
    assert all(parts[index].kind is not parts[index + 1].kind for index in range(len(parts) - 1))


@given(pieces, st.integers(0, 600))
def test_a_copy_made_of_the_events_is_the_same_log(deltas: list[tuple[PartKind, str]], start: int) -> None:
    log, copy = whole(deltas), RunLog()
    for event in replayed(log, 0):
        copy.append(event.kind)
    assert replayed(copy, start) == replayed(log, start)
    assert (copy.ended, copy.parts()) == (True, log.parts())


def test_parts_come_in_the_order_in_which_they_were_written() -> None:
    log = whole([(PartKind.REASONING, "x"), (PartKind.TEXT, "a"), (PartKind.TEXT, "b"), (PartKind.REASONING, "y")])
    assert log.parts() == (Part(PartKind.REASONING, "x"), Part(PartKind.TEXT, "ab"), Part(PartKind.REASONING, "y"))


def test_a_batch_holds_no_more_events_than_it_may() -> None:
    log = whole([(PartKind.TEXT, "a")] * (BATCH_MAX_EVENTS + 10))
    assert len(log.after(0)) == BATCH_MAX_EVENTS


def test_a_batch_holds_no_more_text_than_one_delta_beyond_the_bound() -> None:
    log = whole([(PartKind.TEXT, "a" * (BATCH_MAX_CHARS // 2))] * 4)
    assert [event.seq for event in log.after(0)] == [1, 2, 3, 4, 5]
    assert len(replayed(log, 0)) == 9


@given(st.lists(st.lists(st.text(min_size=1, max_size=3), min_size=1, max_size=5), max_size=20), st.data())
async def test_followers_assemble_the_answer_whenever_they_join(batches: list[list[str]], data: st.DataObject) -> None:
    """Whatever the batches and wherever a follower joins, it gets each event once and in order."""
    log = RunLog()
    for kind in OPENING:
        log.append(kind)

    async def follow(seq: int) -> list[Event]:
        events: list[Event] = []
        async for batch in log.follow(seq):
            assert batch
            events += batch
        return events

    followers: list[tuple[int, asyncio.Task[list[Event]]]] = []
    for batch in batches:
        if data.draw(st.booleans()):
            seq = data.draw(st.integers(0, log.last_seq))
            followers.append((seq, asyncio.create_task(follow(seq))))
        if data.draw(st.booleans()):
            await asyncio.sleep(0)
        for delta in batch:
            log.write(delta)
        log.announce()
    for kind in CLOSING:
        log.append(kind)
    log.announce()
    events = replayed(log, 0)
    for seq, follower in followers:
        assert await follower == events[seq:]


async def test_a_follower_that_is_behind_gets_all_of_it_as_one_batch() -> None:
    log = whole([(PartKind.TEXT, "a")])
    batches = [batch async for batch in log.follow(0)]
    assert [len(batch) for batch in batches] == [6]


async def test_a_follower_that_leaves_takes_nothing_from_the_others() -> None:
    log = RunLog()
    log.append(OPENING[0])
    leaving, staying = asyncio.create_task(log.changed()), asyncio.create_task(log.changed())
    await asyncio.sleep(0)
    leaving.cancel()
    await asyncio.sleep(0)
    log.announce()
    await staying
    assert leaving.cancelled()
    assert log._waiting == []


async def test_a_follower_of_an_ended_log_at_its_end_gets_nothing() -> None:
    log = whole([])
    assert [batch async for batch in log.follow(log.last_seq)] == []
