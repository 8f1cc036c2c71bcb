"""A growing answer told from what is stored, to somebody of whom it is known what they have seen."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime

from hypothesis import given, settings
from hypothesis import strategies as st

from services.chat.domain import (
    Event,
    Kind,
    Part,
    PartKind,
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
from tests.chaos import history as told
from tests.chaos.assembled import Screen

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
        st.tuples(st.sampled_from(["call", "answer", "reset"]), st.just("")),
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
        elif step == "write":
            log.write(said)
        elif step == "think":
            log.think(said)
    return log


def upto(log: RunLog, seq: int) -> RunLog:
    copy = RunLog()
    copy.load(event for event in log.unsent(0) if event.seq <= seq)
    return copy


def seen(events: Iterable[Event]) -> Screen:
    """Returns what a client has on its screen, by the rules that clients are told."""
    screen = Screen()
    for seq, kind in events:
        data = {field: getattr(kind, field) for field in _SHOWN.get(type(kind), ())}
        if isinstance(kind, ToolUse):
            data["input"] = kind.input_json
        name = {Text: "text", Reset: "reset", ToolUse: "tool_use", ToolResult: "tool_result"}.get(type(kind))
        if name is not None:
            screen.show(told.Event(0.0, "tab", "r", seq, name, data))
    return screen


_SHOWN = {
    Text: ("delta", "offset"),
    Reset: ("step", "offset"),
    ToolUse: ("tool_call_id", "name", "step"),
    ToolResult: ("tool_call_id", "name", "content", "is_error"),
}


@settings(max_examples=300)
@given(STEPS, st.data())
def test_whatever_has_been_seen_and_stored_the_screen_shows_what_is_stored(
    steps: list[tuple[str, str]], data: st.DataObject
) -> None:
    """And wherever the telling is broken off, the log itself goes on from there without a loss."""
    log = written(steps)
    seq = data.draw(st.integers(len(OPENING), log.last_seq))
    last = data.draw(st.integers(seq, log.last_seq))
    stored = Stored(RUN, "Hi", NOW, upto(log, last).parts(), None, last)
    events = events_after(stored, seq, request_id="req", told=upto(log, seq).parts())
    numbers = [event.seq for event in events]
    assert numbers == sorted(set(numbers))
    assert all(seq < number <= last for number in numbers)
    whole = log.unsent(0)
    before = [event for event in whole if event.seq <= seq]
    screens = [(seen([*before, *events]), seen(event for event in whole if event.seq <= last))]
    for number in range(len(events)):
        reached = events[number].seq
        rest = [event for event in whole if event.seq > reached]
        screens.append((seen([*before, *events[: number + 1], *rest]), seen(whole)))
    for screen, wanted in screens:
        assert (screen.text, screen.tools) == (wanted.text, wanted.tools)
