"""The events of a run from what is stored of it, where its log is no longer to be had."""

from __future__ import annotations

from typing import TYPE_CHECKING

from services.chat import failures
from services.chat.answer import merged, retold
from services.chat.domain import (
    CursorAhead,
    Done,
    Event,
    Failed,
    PartKind,
    Progress,
    Reasoning,
    Reset,
    RunStarted,
    RunStatus,
    Text,
    Thinking,
    Usage,
    UserMessage,
)
from services.chat.log import RunLog

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from datetime import datetime

    from services.chat.domain import Kind, Part, Run, Stored

UNSEEN_MAX_EVENTS = 10_000
"""How far a live log may be ahead of what is stored or in the tail: about a second of the fastest model."""
AHEAD_MAX_EVENTS = 2 * UNSEEN_MAX_EVENTS
"""How far a good cursor may be: a log that was made anew begins that far ahead, and both stores may not have heard of it yet."""
OPENING = 3
"""`run`, `user_message` and `thinking` are the first events of every log; one of a queued run holds the first two."""
_WRITTEN = (PartKind.TEXT, PartKind.REASONING)
_CLOSING = 2
"""`usage` and `done` or `error` are the last ones."""


def events_after(stored: Stored, seq: int, *, request_id: str, told: Sequence[Part] | None = None) -> list[Event]:
    """Returns the events after a position.

    They are fewer than the log held: one `text` stands for all deltas between two other events. A number says that all events up to it
    have been told, wherever its reader goes on: so the last event of a body has the number of the last that is stored, and those before
    it have numbers that the log reached no later. Whoever has seen a part of a text gets all of it, with the place where it begins, and
    replaces what is on the screen; reasoning, which has no offset, comes only to those who have seen none of it.

    Of an answer with tools that is still being written, whoever has seen a part of it gets what has been added to that. Where it is not
    known what they have seen, a number does not say it: they get nothing more until the run's end, which tells all of it.

    Args:
        stored: A run, queued, running or ended.
        seq: The cursor.
        request_id: Put into the `error` event of a failed run, whose own is not stored.
        told: What has been told of the answer up to the cursor; None: that is not known.

    Raises: CursorAhead: the run has ended before the cursor.
    """
    ended = stored.run.status not in (RunStatus.RUNNING, RunStatus.QUEUED)
    # One that was stopped before anybody owned it has told nothing.
    last = max(stored.last_seq, OPENING + _CLOSING) if ended else stored.last_seq
    if ended and seq > last:
        raise CursorAhead
    body = last - _CLOSING if ended else last
    events = _opening(stored.run, stored.content, stored.asked_at)
    if stored.run.status is RunStatus.QUEUED and body <= OPENING:
        events.pop()
    if body > OPENING and seq < body:
        kinds = retold(merged(stored.parts) if ended else stored.parts)
        if ended:
            events += _up_to(body, kinds, with_reasoning=seq <= OPENING)
        elif seq <= OPENING:
            events += _numbered(OPENING, body, kinds)
        elif not any(part.kind is PartKind.TOOL_USE for part in (*stored.parts, *(told or ()))):
            events.append(Event(body, Text("".join(kind.delta for kind in kinds if isinstance(kind, Text)), 0)))
        elif told is not None:
            # That a step begins may have been told already: what follows must not count it.
            more = [kind for kind in _added(tuple(told), stored.parts) if not isinstance(kind, Progress)]
            events += _numbered(seq, body, more)
    if ended:
        events.append(Event(last - 1, stored.usage or Usage(0, 0, estimated=True)))
        events.append(Event(last, _end(stored.run, request_id)))
    return [event for event in events if event.seq > seq]


def remade(run: Run, content: str, asked_at: datetime, parts: tuple[Part, ...], *, last_seq: int) -> RunLog:
    """Returns a log for the new owner of a run whose log is lost.

    What is stored comes with numbers beyond all that any client can have seen of the lost log, so that every cursor stays good and
    leads to all of it.
    """
    log = RunLog()
    log.load(_opening(run, content, asked_at))
    kinds = _whole(retold(parts))
    first = max(last_seq, OPENING) + UNSEEN_MAX_EVENTS
    log.load(Event(first + index, kind) for index, kind in enumerate(kinds))
    return log


def _opening(run: Run, content: str, asked_at: datetime) -> list[Event]:
    return [
        Event(1, RunStarted(run.conversation_id, run.message_id, run.user_message_id, run.model)),
        Event(2, UserMessage(run.user_message_id, content, asked_at)),
        Event(3, Thinking()),
    ]


def _up_to(last: int, kinds: list[Kind], *, with_reasoning: bool) -> list[Event]:
    """Numbers an ended answer's events backwards from the last. Each was one event of the log at least, so that there are enough."""
    whole = _whole(kinds)
    if last - len(whole) >= OPENING:
        kinds = whole
    first = last + 1 - len(kinds)
    return [
        Event(first + index, kind)
        for index, kind in enumerate(kinds)
        if with_reasoning or not isinstance(kind, Reasoning)
    ]


def _numbered(seq: int, last: int, kinds: Sequence[Kind]) -> list[Event]:
    """Numbers what a growing answer has added since a position: no event has a number that it had not reached in the log."""
    if not kinds or seq + len(kinds) > last:
        return []
    events = [Event(seq + 1 + index, kind) for index, kind in enumerate(kinds)]
    events[-1] = Event(last, kinds[-1])
    return events


def _added(told: tuple[Part, ...], parts: tuple[Part, ...]) -> list[Kind]:
    """Returns the events that make the answer that has been told into the one that is stored."""
    kinds = retold(parts)
    known = retold(told)
    if parts[: len(told)] == told:
        return kinds[len(known) :]
    before, last = told[:-1], told[-1]
    grown = parts[len(before)] if len(parts) > len(before) and parts[: len(before)] == before else last
    if grown is not last and grown.kind is last.kind and grown.kind in _WRITTEN and grown.text.startswith(last.text):
        delta, written = grown.text[len(last.text) :], known[-1]
        more = Text(delta, written.offset + len(last.text)) if isinstance(written, Text) else Reasoning(delta)
        return [more, *kinds[len(known) :]]
    return _done_again(told, parts)


def _done_again(told: tuple[Part, ...], parts: tuple[Part, ...]) -> list[Kind]:
    """Returns the events that take back the step in which two answers part, and tell it, and all after it, as it is stored."""
    same = next(
        (index for index, (one, other) in enumerate(zip(told, parts, strict=False)) if one != other), len(parts)
    )
    log = RunLog()
    # With the mark, if there is one, that the step has begun which is taken back.
    for kind in retold(told[: same + 1])[:-1]:
        log.append(kind)
    kept = retold(log.answer.finished_parts())
    return [Reset(log.answer.step, log.answer.step_offset), *retold(parts)[len(kept) :]]


def _whole(kinds: Iterable[Kind]) -> list[Kind]:
    """Returns events that leave nothing on a screen but what they say: the last of them says where the text ends."""
    kinds = list(kinds)
    if not kinds or not isinstance(kinds[-1], Text):
        kinds.append(Text("", sum(len(kind.delta) for kind in kinds if isinstance(kind, Text))))
    return kinds


def _end(run: Run, request_id: str) -> Done | Failed:
    if run.status is not RunStatus.FAILED:
        return Done(run.status, run.message_id, run.response_model)
    return Failed(run.error_reason, failures.sentence(run.error_reason), request_id)
