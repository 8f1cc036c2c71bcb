"""A run's events from what is stored of it."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.chat.domain import (
    CursorAhead,
    Done,
    Event,
    Failed,
    Kind,
    Part,
    PartKind,
    Reasoning,
    Run,
    RunStarted,
    RunStatus,
    Stored,
    Text,
    Thinking,
    ToolResult,
    ToolUse,
    Usage,
    UserMessage,
)
from services.chat.snapshot import events_after

NOW = datetime(2026, 11, 21, tzinfo=UTC)
TEXT, THOUGHT = Part(PartKind.TEXT, "Hello"), Part(PartKind.REASONING, "Hm.")
USE, RESULT = Part(PartKind.TOOL_USE, "{}", "1", "t"), Part(PartKind.TOOL_RESULT, "ok", "1", "t")
RAN_ON: tuple[Kind, ...] = (RunStarted("c", "a", "u", "fast"), UserMessage("u", "Hi", NOW), Thinking())


def stored(status: RunStatus, last_seq: int, *parts: Part, reason: str = "") -> Stored:
    ended_at = None if status in (RunStatus.RUNNING, RunStatus.QUEUED) else NOW
    run = Run("r", "c", "u", "a", "fast", status, reason, NOW, ended_at)
    usage = None if ended_at is None else Usage(3, 5)
    return Stored(run, "Hi", NOW, parts, usage, last_seq)


def after(found: Stored, seq: int) -> list[Event]:
    return events_after(found, seq, request_id="req")


def test_an_ended_run_has_one_text_numbered_as_the_last_delta_was() -> None:
    events = after(stored(RunStatus.COMPLETED, 40, TEXT), 0)
    assert events == [
        *(Event(seq, kind) for seq, kind in enumerate(RAN_ON, 1)),
        Event(38, Text("Hello", 0)),
        Event(39, Usage(3, 5)),
        Event(40, Done(RunStatus.COMPLETED, "a")),
    ]


def test_reasoning_comes_before_the_text_to_whoever_has_seen_none() -> None:
    found = stored(RunStatus.COMPLETED, 40, THOUGHT, TEXT)
    assert [event.kind for event in after(found, 3)[:2]] == [Reasoning("Hm."), Text("Hello", 0)]
    assert [event.kind for event in after(found, 4)[:1]] == [Text("Hello", 0)]


def test_parts_come_in_their_order_and_neighbours_of_one_kind_as_one() -> None:
    found = stored(RunStatus.COMPLETED, 40, THOUGHT, TEXT, TEXT, THOUGHT, TEXT)
    kinds = [event.kind for event in after(found, 3)[:4]]
    assert kinds == [Reasoning("Hm."), Text("HelloHello", 0), Reasoning("Hm."), Text("Hello", 10)]


def test_tools_come_between_the_texts_around_them() -> None:
    events = after(stored(RunStatus.COMPLETED, 40, TEXT, USE, RESULT, TEXT), 3)[:4]
    assert events == [
        Event(35, Text("Hello", 0)),
        Event(36, ToolUse("1", "t", "{}")),
        Event(37, ToolResult("1", "t", "ok")),
        Event(38, Text("Hello", 5)),
    ]


def test_a_call_names_its_step_also_where_it_is_told_from_what_is_stored() -> None:
    """As the log numbers them: text that an answer is gone on with is a step of its own."""
    again = USE._replace(tool_call_id="2"), RESULT._replace(tool_call_id="2")
    growing = stored(RunStatus.RUNNING, 40, TEXT, TEXT, USE, RESULT, *again)
    assert [event.kind.step for event in after(growing, 3) if isinstance(event.kind, ToolUse)] == [2, 3]


def test_a_growing_answer_claims_no_more_than_it_tells() -> None:
    """Whoever leaves in the middle of it goes on in the log itself, and must miss nothing there."""
    growing = stored(RunStatus.RUNNING, 40, TEXT, USE, RESULT, TEXT)
    assert [event.seq for event in after(growing, 3)] == [4, 5, 6, 40]
    assert after(growing, 5) == []
    assert after(stored(RunStatus.RUNNING, 40, TEXT, THOUGHT, TEXT), 5) == [Event(40, Text("HelloHello", 0))]


def test_what_a_reset_took_back_does_not_stay_on_a_screen() -> None:
    """The last event of a body says where the text ends."""
    assert after(stored(RunStatus.CANCELLED, 40, TEXT, USE, RESULT), 37)[0] == Event(38, Text("", 5))


def test_a_queued_run_shows_who_asks_what() -> None:
    assert [event.seq for event in after(stored(RunStatus.QUEUED, 0), 0)] == [1, 2]


def test_a_run_that_was_stopped_before_it_began_has_an_end() -> None:
    events = after(stored(RunStatus.CANCELLED, 0), 2)
    assert [event.seq for event in events] == [3, 4, 5]
    assert events[-1].kind == Done(RunStatus.CANCELLED, "a")


def test_whoever_has_seen_the_whole_text_gets_the_end_alone() -> None:
    assert [event.seq for event in after(stored(RunStatus.COMPLETED, 40, TEXT), 38)] == [39, 40]


def test_a_failed_run_ends_with_its_reason_in_words() -> None:
    event = after(stored(RunStatus.FAILED, 5, reason="STREAM_STALLED"), 4)[-1]
    assert isinstance(event.kind, Failed)
    assert (event.kind.reason, event.kind.request_id) == ("STREAM_STALLED", "req")
    assert event.kind.message == "The model stopped in the middle of its answer. Try again."


def test_a_running_run_shows_its_checkpoint_and_no_end() -> None:
    events = after(stored(RunStatus.RUNNING, 17, TEXT), 0)
    assert [event.seq for event in events] == [1, 2, 3, 17]
    assert after(stored(RunStatus.RUNNING, 17, TEXT), 20) == []


def test_a_run_without_a_checkpoint_shows_its_beginning() -> None:
    assert [event.seq for event in after(stored(RunStatus.RUNNING, 0), 0)] == [1, 2, 3]


def test_a_cursor_past_the_end_is_refused() -> None:
    with pytest.raises(CursorAhead):
        after(stored(RunStatus.COMPLETED, 40, TEXT), 41)


@given(st.integers(0, 40), st.booleans(), st.booleans())
def test_cursors_only_grow_and_the_rest_follows_whatever_was_seen(seq: int, text: bool, thought: bool) -> None:
    """Cut a playback anywhere, go on from the last number seen: nothing comes twice, and the end comes."""
    found = stored(RunStatus.COMPLETED, 40, *([THOUGHT] if thought else []), *([TEXT] if text else []))
    events = after(found, seq)
    assert all(event.seq > seq for event in events)
    assert [event.seq for event in events] == sorted({event.seq for event in events})
    for index, event in enumerate(events):
        rest = after(found, event.seq)
        assert [later for later in rest if not isinstance(later.kind, Reasoning)] == [
            later for later in events[index + 1 :] if not isinstance(later.kind, Reasoning)
        ]
