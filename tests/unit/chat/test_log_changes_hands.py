"""The log of a run with steps, tools, resets and owners: whatever happens, a client that follows it holds what is stored."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.chat.answer import GOING_ON, merged, retold
from services.chat.domain import (
    Done,
    Event,
    Kind,
    Part,
    PartKind,
    Progress,
    Reasoning,
    Reset,
    RunMoved,
    RunStatus,
    Text,
    ToolResult,
    ToolUse,
)
from services.chat.log import RunLog
from tests.unit.chat.turns import events, result, text, use

DONE = Done(RunStatus.COMPLETED, "a")


@dataclass
class Client:
    """What a client makes of events, by the words of the contract and nothing else."""

    parts: list[Part] = field(default_factory=list)
    text_chars: int = 0
    seq: int = 0
    begins: int = 0
    step: int = 1

    def take(self, event: Event) -> None:
        seq, kind = event
        assert seq > self.seq
        self.seq = seq
        match kind:
            case Text(delta, offset):
                self._cut(offset)
                self._add(Part(PartKind.TEXT, delta))
                self.text_chars += len(delta)
            case Reasoning(delta):
                self._add(Part(PartKind.REASONING, delta))
            case ToolUse():
                self._add(Part(PartKind.TOOL_USE, kind.input_json, kind.tool_call_id, kind.name))
            case ToolResult():
                self._add(Part(PartKind.TOOL_RESULT, kind.content, kind.tool_call_id, kind.name, kind.is_error))
                if not self._open():
                    self.begins, self.step = len(self.parts), self.step + 1
            case Progress() if kind.step > self.step:
                self.begins, self.step = len(self.parts), kind.step
            case Reset():
                if kind.step <= self.step:
                    del self.parts[self.begins :]
                    self.text_chars = sum(len(part.text) for part in self.parts if part.kind is PartKind.TEXT)
                self._cut(kind.offset)

    def _open(self) -> set[str]:
        mine = self.parts[self.begins :]
        answered = {part.tool_call_id for part in mine if part.kind is PartKind.TOOL_RESULT}
        return {part.tool_call_id for part in mine if part.kind is PartKind.TOOL_USE} - answered

    def _add(self, part: Part) -> None:
        if part.text or part.kind in (PartKind.TOOL_USE, PartKind.TOOL_RESULT):
            self.parts.append(part)

    def _cut(self, offset: int) -> None:
        """Drops the visible text from a place on."""
        while self.text_chars > offset:
            index = max(i for i, part in enumerate(self.parts) if part.kind is PartKind.TEXT)
            last = self.parts[index]
            kept = last.text[: max(len(last.text) - (self.text_chars - offset), 0)]
            self.text_chars -= len(last.text) - len(kept)
            if kept:
                self.parts[index] = Part(PartKind.TEXT, kept)
            else:
                del self.parts[index]
                self.begins -= index < self.begins


def assembled(log: RunLog) -> Client:
    client = Client()
    for event in events(log):
        client.take(event)
    return client


class Owner:
    """Writes a log as owners do: steps with texts and tools, done again or gone on with; and hands it on."""

    def __init__(self) -> None:
        self.log = RunLog()
        self.uses = 0

    def do(self, deed: str, words: str, number: int) -> None:  # noqa: C901, PLR0912 - a case for each deed
        log, answer = self.log, self.log.answer
        calls = answer.open_calls()
        match deed:
            case "text" if not calls:
                log.write(words)
            case "reasoning" if not calls:
                log.think(words)
            case "tools" if not calls:
                for _ in range(number % 3 + 1):
                    self.uses += 1
                    log.append(ToolUse(f"t{self.uses}", "act", "{}"))
            case "result" if calls:
                log.append(ToolResult(calls[number % len(calls)].tool_call_id, "act", words, number % 2 == 0))
            case "progress":
                log.append(Progress(answer.step, words))
            case "reset" if not calls:
                for _ in range(number % 3 + 1):
                    log.append(Reset(answer.step, answer.step_offset))
            case "resets beside calls" if calls:
                log.append(Reset(answer.step + 1, log.text_chars))
            case "snapshot" if not calls and not answer.finished_parts():
                log.append(Text(words, 0))
            case "kept" if answer.step_parts() and not calls:
                log.append(Progress(answer.step + 1, GOING_ON))
            case "lost":
                self.log = RunLog()
                kinds = retold(log.parts())
                first = log.last_seq + 10_000
                self.log.load(Event(first + index, kind) for index, kind in enumerate(kinds))
            case "taken":
                self.log = RunLog()
                self.log.load(events(log))


DEEDS = (
    "text",
    "text",
    "reasoning",
    "tools",
    "result",
    "result",
    "progress",
    "reset",
    "resets beside calls",
    "snapshot",
    "kept",
    "lost",
    "taken",
)
deeds = st.lists(
    st.tuples(st.sampled_from(DEEDS), st.text("abé😀", min_size=1, max_size=3), st.integers(0, 5)), max_size=40
)


def written(done: list[tuple[str, str, int]]) -> RunLog:
    owner = Owner()
    for deed in done:
        owner.do(*deed)
    return owner.log


@given(deeds)
def test_what_a_client_assembles_is_what_is_stored(done: list[tuple[str, str, int]]) -> None:
    log = written(done)
    client = assembled(log)
    assert merged(client.parts) == merged(log.parts())
    assert client.text_chars == log.text_chars == sum(len(p.text) for p in log.parts() if p.kind is PartKind.TEXT)


@given(deeds, st.data())
def test_a_client_that_comes_back_with_a_cursor_ends_with_the_same(
    done: list[tuple[str, str, int]], data: st.DataObject
) -> None:
    log = written(done)
    every = events(log)
    client = Client()
    while client.seq < log.last_seq:
        rest = log.after(client.seq)
        assert rest == every[len(every) - len(rest) :]
        for event in rest[: data.draw(st.integers(1, len(rest)))]:
            client.take(event)
    assert merged(client.parts) == merged(log.parts())


@given(deeds, deeds)
def test_a_log_that_was_taken_over_goes_on_as_if_it_had_not_been(
    done: list[tuple[str, str, int]], more: list[tuple[str, str, int]]
) -> None:
    one, other = Owner(), Owner()
    for deed in done:
        one.do(*deed)
        other.do(*deed)
    other.do("taken", "", 0)
    for deed in more:
        one.do(*deed)
        other.do(*deed)
    assert (other.log.parts(), events(other.log)) == (one.log.parts(), events(one.log))
    assert other.log.answer.step_parts() == one.log.answer.step_parts()


@given(deeds)
def test_what_is_stored_makes_a_log_that_holds_the_same(done: list[tuple[str, str, int]]) -> None:
    parts = written(done).parts()
    log = RunLog()
    for kind in retold(parts):
        log.append(kind)
    assert log.parts() == parts


@given(deeds, st.data())
def test_while_a_log_is_held_nothing_is_shown_that_is_not_confirmed(
    done: list[tuple[str, str, int]], data: st.DataObject
) -> None:
    owner = Owner()
    confirmed = 0
    for deed in done:
        owner.do(*deed) if deed[0] not in ("lost", "taken") else None
        owner.log.hold()
        if data.draw(st.booleans()):
            confirmed = max(confirmed, data.draw(st.integers(0, owner.log.last_seq)))
            owner.log.confirm(confirmed)
        shown = owner.log.after(0)
        assert [event.seq for event in shown] == list(range(1, confirmed + 1))
        assert owner.log.unsent(0) == events(owner.log)
    owner.log.release()
    assert owner.log.after(0) == events(owner.log)


async def test_a_follower_of_a_held_log_waits_for_what_is_confirmed_also_at_its_end() -> None:
    log = RunLog()
    log.write("a")
    log.hold()
    log.append(DONE)
    got: list[Event] = []

    async def follow() -> None:
        async for batch in log.follow(0):
            got.extend(batch)

    following = asyncio.create_task(follow())
    await asyncio.sleep(0)
    assert got == []
    log.confirm(1)
    await asyncio.sleep(0)
    assert [event.seq for event in got] == [1]
    log.release()
    await following
    assert [event.seq for event in got] == [1, 2]


async def test_followers_of_a_log_that_moves_see_what_is_shown_and_are_sent_on() -> None:
    log = RunLog()
    log.write("a")
    log.write("b")
    log.confirm(1)
    log.hold()
    following = log.follow(0)
    assert [event.seq for event in await anext(following)] == [1]
    log.move()
    with pytest.raises(RunMoved) as moved:
        await anext(following)
    assert (moved.value.code, moved.value.retry_after_s) == ("RUN_MOVED", 0.2)


async def test_a_held_log_that_has_moved_shows_no_more() -> None:
    """A renewal that was answered late must not show what the next owner cannot know of."""
    log = RunLog()
    log.write("a")
    log.hold()
    log.move()
    log.release()
    with pytest.raises(RunMoved):
        await anext(log.follow(0))


async def test_a_log_that_has_ended_sends_nobody_on() -> None:
    log = RunLog()
    log.append(DONE)
    log.move()
    assert [event.kind async for batch in log.follow(0) for event in batch] == [DONE]


def test_a_log_is_loaded_in_order() -> None:
    log = RunLog()
    log.load([Event(1, DONE)])
    with pytest.raises(ValueError, match="event 1 after event 1"):
        log.load([Event(1, DONE)])


def test_a_cursor_in_a_gap_leads_to_what_comes_after_it() -> None:
    log = RunLog()
    kinds: list[tuple[int, Kind]] = [(1, Text("a", 0)), (2, DONE), (10, Text("b", 1)), (11, Text("c", 2)), (20, DONE)]
    log.load(Event(seq, kind) for seq, kind in kinds)
    for cursor in range(21):
        assert [event.seq for event in log.after(cursor)] == [seq for seq, _ in kinds if seq > cursor]


def test_two_texts_in_a_row_are_told_as_two_steps() -> None:
    parts = (text("Hel"), text("lo"), use("t"), result("t", "done"), text("!"))
    assert retold(parts)[1] == Progress(2, GOING_ON)
    assert merged(parts) == (text("Hello"), *parts[2:])
