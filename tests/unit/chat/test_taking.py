"""What a new owner finds of a run's log."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

from services.chat.domain import (
    Done,
    Part,
    PartKind,
    Progress,
    Run,
    RunStarted,
    RunStatus,
    Text,
    Thinking,
    ToolResult,
    ToolUse,
    UserMessage,
)
from services.chat.log import RunLog
from services.chat.ports import Begun, ClaimKind, TakenTail
from services.chat.snapshot import UNSEEN_MAX_EVENTS
from services.chat.taking import UNSEEN_EVENTS, Found, found

NOW = datetime(2026, 11, 21, tzinfo=UTC)
RUN = Run("r", "c", "u", "a", "fast", RunStatus.RUNNING, "", NOW, None)
HEL = (Part(PartKind.TEXT, "Hel"),)


def claimed(kind: ClaimKind = ClaimKind.LAPSED, *, last_seq: int = 0, tries: int = 1) -> Begun:
    answer = HEL if last_seq > 3 else ()
    return Begun(RUN, 2, "Hi", NOW, (), existing=False, answer=answer, last_seq=last_seq, claim=kind, tries=tries)


def a_log(*kinds: Text | ToolUse | ToolResult | Progress | Done) -> RunLog:
    log = RunLog()
    for kind in (RunStarted("c", "a", "u", "fast"), UserMessage("u", "Hi", NOW), Thinking(), *kinds):
        log.append(kind)
    return log


def test_a_dead_owners_log_goes_on_where_it_ends_and_leaves_room_for_what_it_had_shown() -> None:
    log = a_log(Text("Hel", 0))
    assert found(claimed(), TakenTail(log)) == Found(log, 4, UNSEEN_EVENTS)


def test_where_the_log_holds_nothing_of_the_step_its_owner_may_have_shown_some_all_the_same() -> None:
    """It was cut off from the stores while the model was thinking, and went on for as long as its lease let it."""
    for log in (a_log(), a_log(ToolUse("1", "t", "{}"), ToolResult("1", "t", "ok"))):
        assert found(claimed(), TakenTail(log)).unseen_events == UNSEEN_EVENTS


def test_a_watcher_who_has_seen_more_is_met_by_a_reset_too() -> None:
    assert found(claimed(), TakenTail(a_log(), seen=5)).unseen_events == UNSEEN_EVENTS
    assert found(claimed(), TakenTail(a_log(), seen=203)).unseen_events == 201
    assert found(claimed(), TakenTail(a_log(), seen=2**40)).unseen_events == UNSEEN_MAX_EVENTS


def test_an_owner_that_hands_over_has_shown_nothing_that_its_log_does_not_hold() -> None:
    log = a_log(Text("Hel", 0))
    assert found(claimed(ClaimKind.RELEASED), TakenTail(log)) == Found(log, 4, 0)


def test_a_log_that_is_behind_what_is_stored_is_made_anew_beyond_every_cursor() -> None:
    for taken in (TakenTail(a_log(Text("H", 0))), TakenTail(None), TakenTail(None, away=True)):
        made = found(claimed(last_seq=9), taken)
        assert made.log is not None
        assert (made.log.parts(), made.sent_seq) == (HEL, 0)
        assert made.log.last_seq >= 9 + UNSEEN_MAX_EVENTS


def test_a_log_that_cannot_be_read_may_have_shown_anything() -> None:
    made = found(claimed(), TakenTail(None, away=True))
    assert made.log is not None
    assert made.log.last_seq >= UNSEEN_MAX_EVENTS


def test_an_owner_that_died_before_its_first_flush_has_shown_little() -> None:
    assert found(claimed(), TakenTail(None)) == Found(None, 0, UNSEEN_EVENTS)


def test_a_queued_run_begins_with_nothing() -> None:
    assert found(claimed(ClaimKind.QUEUED), TakenTail(None)) == Found(None)


def test_a_dead_letter_does_not_go_on_after_its_end() -> None:
    log = a_log(Text("Hel", 0), Done(RunStatus.INTERRUPTED, "a"))
    made = found(replace(claimed(ClaimKind.QUEUED, last_seq=5)), TakenTail(log)).log
    assert made is not None
    assert not made.ended
