"""Watchers who are told at the moment of the announcement get the same as those who are woken up."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.chat.domain import Done, Event, Progress, RunMoved, RunStatus, Text, UserMessage
from services.chat.log import RunLog, Tap

DONE = Done(RunStatus.COMPLETED, "m", "mini")


class Watcher:
    """Follows a log through a tap that takes what it is told to; texts as they are, where it says so."""

    def __init__(self, log: RunLog, seq: int = 0, *, texts: bool = False) -> None:
        self.refuse = False
        self.events: list[Event] = []
        self.tapped = 0
        self.tap = Tap(self._take, self._write if texts else None)
        self.task = asyncio.create_task(self._follow(log, seq))

    def _take(self, events: list[Event]) -> bool:
        if not self.refuse:
            self.events += events
            self.tapped += len(events)
        return not self.refuse

    def _write(self, seq: int, offset: int, texts: list[str]) -> bool:
        events: list[Event] = []
        for number, text in enumerate(texts, seq):
            events.append(Event(number, Text(text, offset)))
            offset += len(text)
        return self._take(events)

    async def _follow(self, log: RunLog, seq: int) -> None:
        async for events in log.follow(seq, self.tap):
            self.events += events


async def settled() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


def begun() -> RunLog:
    log = RunLog()
    log.append(UserMessage("u", "Hello?", datetime.now(UTC)))
    return log


@given(st.lists(st.tuples(st.integers(0, 3), st.booleans(), st.booleans(), st.booleans()), max_size=30), st.booleans())
async def test_each_event_comes_once_and_in_order_whatever_the_tap_takes(
    turns: list[tuple[int, bool, bool, bool]], texts: bool
) -> None:
    log = begun()
    watcher = Watcher(log, texts=texts)
    for deltas, other, refuse, pause in turns:
        watcher.refuse = refuse
        for number in range(deltas):
            (log.think if other and number % 2 else log.write)(f"<{log.last_seq}>")
        if other:
            log.append(Progress(1, "…"))
        log.announce()
        if pause:
            await settled()
    log.append(DONE)
    log.announce()
    await watcher.task
    assert watcher.events == log.unsent(0)


async def test_what_is_announced_while_a_watcher_waits_has_been_taken_when_that_returns() -> None:
    log = begun()
    watcher = Watcher(log)
    await settled()
    log.write("Hel")
    log.write("lo")
    log.announce()
    assert [event.seq for event in watcher.events] == [1, 2, 3]
    assert watcher.tapped == 2
    watcher.task.cancel()
    await asyncio.wait([watcher.task])
    assert not log.taps


async def test_what_is_announced_for_soon_is_taken_as_one() -> None:
    log = begun()
    watcher = Watcher(log)
    batches: list[int] = []

    def take(events: list[Event]) -> bool:
        batches.append(len(events))
        return True

    watcher.tap._take = take
    await settled()
    for delta in "abc":
        log.write(delta)
        log.announce_soon()
    await settled()
    assert batches == [3]
    watcher.task.cancel()


async def test_the_end_is_left_to_who_follows() -> None:
    """What stands before it may have been taken; the last batch says that there is nothing more."""
    log = begun()
    watcher = Watcher(log)
    await settled()
    log.write("a")
    log.append(DONE)
    log.announce()
    assert not watcher.tapped
    await watcher.task
    assert watcher.events == log.unsent(0)


@pytest.mark.parametrize("texts", [False, True])
async def test_a_tap_is_shown_nothing_that_is_held(texts: bool) -> None:
    log = begun()
    log.confirm(1)
    watcher = Watcher(log, texts=texts)
    await settled()
    log.hold()
    log.write("a")
    log.announce()
    await settled()
    assert [event.seq for event in watcher.events] == [1]
    log.confirm(2)
    assert [event.seq for event in watcher.events] == [1, 2]
    watcher.task.cancel()


async def test_who_follows_a_log_that_moves_is_sent_elsewhere() -> None:
    log = begun()
    watcher = Watcher(log)
    await settled()
    log.write("a")
    log.announce()
    log.move()
    with pytest.raises(RunMoved):
        await watcher.task
    assert [event.seq for event in watcher.events] == [1, 2]
    assert watcher.tap.seq == 2


async def test_what_a_tap_raises_is_raised_where_the_watcher_waits_and_nowhere_else() -> None:
    log = begun()
    watcher, other = Watcher(log), Watcher(log)
    await settled()

    def take(_: list[Event]) -> bool:
        raise ValueError("no")

    watcher.tap._take = take
    log.write("a")
    log.announce()
    with pytest.raises(ValueError, match="no"):
        await watcher.task
    assert [event.seq for event in other.events] == [1, 2]
    other.task.cancel()
