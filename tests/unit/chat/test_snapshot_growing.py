"""A growing answer told from what is stored, to somebody of whom it is known what they have seen."""

from __future__ import annotations

from datetime import UTC, datetime

from hypothesis import given, settings
from hypothesis import strategies as st

from services.chat.answer import merged
from services.chat.domain import (
    Event,
    Kind,
    Part,
    PartKind,
    Progress,
    Reasoning,
    Reset,
    Run,
    RunStarted,
    RunStatus,
    Stored,
    Text,
    Thinking,
    ToolResult,
    ToolUse,
    UserMessage,
)
from services.chat.log import RunLog
from services.chat.snapshot import events_after

NOW = datetime(2026, 11, 21, tzinfo=UTC)
RUN = Run("r", "c", "u", "a", "fast", RunStatus.RUNNING, "", NOW, None)
OPENING: tuple[Kind, ...] = (RunStarted("c", "a", "u", "fast"), UserMessage("u", "Hi", NOW), Thinking())
USE, RESULT = Part(PartKind.TOOL_USE, "{}", "1", "t"), Part(PartKind.TOOL_RESULT, "ok", "1", "t")


def text(body: str) -> Part:
    return Part(PartKind.TEXT, body)


def more(seq: int, told: tuple[Part, ...], *parts: Part, last: int = 40) -> list[Event]:
    return events_after(Stored(RUN, "Hi", NOW, parts, None, last), seq, request_id="req", told=told)


def test_a_text_that_has_grown_is_gone_on_with() -> None:
    assert more(9, (USE, RESULT, text("Hel")), USE, RESULT, text("Hello")) == [Event(40, Text("lo", 3))]


def test_what_has_come_since_comes_in_its_order_and_claims_no_more_than_it_tells() -> None:
    """Whoever leaves in the middle of it goes on in the log itself, and must miss nothing there."""
    assert more(9, (text("Hel"),), text("Hello"), USE, RESULT, text("!")) == [
        Event(10, Text("lo", 3)),
        Event(11, ToolUse("1", "t", "{}", 1)),
        Event(12, ToolResult("1", "t", "ok")),
        Event(40, Text("!", 5)),
    ]


def test_a_step_that_was_done_again_is_taken_back() -> None:
    again = USE._replace(tool_call_id="2")
    assert more(9, (text("So: "), USE, RESULT, text("Hel"), again), text("So: "), USE, RESULT, text("Good")) == [
        Event(10, Reset(2, 4)),
        Event(40, Text("Good", 4)),
    ]


def test_where_nothing_has_come_nothing_is_told() -> None:
    assert more(9, (USE, RESULT), USE, RESULT) == []
    assert more(40, (USE,), USE, RESULT) == []


def test_where_it_is_not_known_what_was_seen_nothing_is_told_before_the_end() -> None:
    assert events_after(Stored(RUN, "Hi", NOW, (USE, RESULT, text("Hel")), None, 40), 9, request_id="req") == []


STEPS = st.lists(
    st.one_of(
        st.tuples(st.sampled_from(["write", "think"]), st.text("abé", min_size=1, max_size=3)),
        st.tuples(st.sampled_from(["call", "answer", "reset", "go on"]), st.just("")),
    ),
    max_size=25,
)


def written(steps: list[tuple[str, str]]) -> RunLog:
    """Returns the log of an owner that has done all of this."""
    log, calls = RunLog(), 0
    for kind in OPENING:
        log.append(kind)
    for step, said in steps:
        waiting = log.answer.open_calls()
        if step == "answer" and waiting:
            log.append(ToolResult(waiting[0].tool_call_id, "t", "ok"))
        elif step == "reset":
            log.append(Reset(log.answer.step, log.answer.step_offset))
        elif step == "call" and not any(part.kind is PartKind.TOOL_RESULT for part in log.answer.step_parts()):
            calls += 1
            log.append(ToolUse(str(calls), "t", "{}", log.answer.step))
        elif waiting:
            continue
        elif step == "go on" and log.answer.step_parts():
            log.append(Progress(log.answer.step + 1, "Going on with the answer"))
        elif step == "write":
            log.write(said)
        elif step == "think":
            log.think(said)
    return log


def upto(log: RunLog, seq: int) -> RunLog:
    copy = RunLog()
    copy.load(event for event in log.unsent(0) if event.seq <= seq)
    return copy


def show(screen: RunLog, event: Event) -> None:
    """Takes an event as clients do: a call, or a result, that is told again stays where it is."""
    kind = event.kind
    if isinstance(kind, ToolUse | ToolResult):
        shown = {part.tool_call_id for part in screen.parts() if part.kind is _PART_OF[type(kind)]}
        if kind.tool_call_id in shown:
            return
    screen.load([event])


_PART_OF = {ToolUse: PartKind.TOOL_USE, ToolResult: PartKind.TOOL_RESULT}


@settings(max_examples=500)
@given(STEPS, st.data())
def test_whatever_has_been_seen_and_stored_the_screen_shows_what_is_stored(
    steps: list[tuple[str, str]], data: st.DataObject
) -> None:
    """And wherever the telling is broken off, the log itself goes on from there without a loss."""
    log = written(steps)
    seq = data.draw(st.integers(len(OPENING), log.last_seq))
    last = data.draw(st.integers(seq, log.last_seq))
    screen, kept = upto(log, seq), upto(log, last)
    stored = Stored(RUN, "Hi", NOW, kept.parts(), None, last)
    events = events_after(stored, seq, request_id="req", told=screen.parts())
    numbers = [event.seq for event in events]
    assert numbers == sorted(set(numbers))
    assert all(seq < number <= last for number in numbers)
    if any(isinstance(event.kind, Reasoning) for event in log.unsent(0)):
        return  # has no place, so that it is told roughly
    broken_off = data.draw(st.integers(0, len(events)))
    for event in events[:broken_off]:
        show(screen, event)
    whole = broken_off == len(events)
    for event in [] if whole else log.unsent(events[broken_off - 1].seq if broken_off else seq):
        show(screen, event)
    wanted = kept if whole else log
    assert merged(screen.parts()) == merged(wanted.parts())
