"""The events of a run from what is stored of it, where its log is no longer to be had."""

from __future__ import annotations

from typing import TYPE_CHECKING

from services.chat import failures
from services.chat.domain import (
    CursorAhead,
    Done,
    Event,
    Failed,
    PartKind,
    Reasoning,
    RunStarted,
    RunStatus,
    Text,
    Thinking,
    Usage,
    UserMessage,
)

if TYPE_CHECKING:
    from services.chat.domain import Stored

_OPENING = 3
"""`run`, `user_message` and `thinking` are the first events of every log."""
_CLOSING = 2
"""`usage` and `done` or `error` are the last ones."""


def events_after(stored: Stored, seq: int, *, request_id: str) -> list[Event]:
    """Returns the events after a position.

    They are fewer than the log held: one `text` stands for all deltas, with the number of the last of them, so that a cursor means the
    same here and in the log. Whoever has seen a part of the text gets all of it at offset 0 and replaces what is on the screen;
    reasoning, which has no offset, comes only to those who have seen none of it.

    Args:
        stored: A run, running or ended.
        seq: The cursor.
        request_id: Put into the `error` event of a failed run, whose own is not stored.

    Raises: CursorAhead: the run has ended before the cursor.
    """
    ended = stored.run.status is not RunStatus.RUNNING
    if ended and seq > stored.last_seq:
        raise CursorAhead
    body = stored.last_seq - _CLOSING if ended else stored.last_seq
    events = _opening(stored) if seq < _OPENING else []
    if body > _OPENING and seq < body:
        events += _body(stored, body, with_reasoning=seq <= _OPENING)
    if ended:
        events.append(Event(stored.last_seq - 1, stored.usage or Usage(0, 0, estimated=True)))
        events.append(Event(stored.last_seq, _end(stored, request_id)))
    return [event for event in events if event.seq > seq]


def _opening(stored: Stored) -> list[Event]:
    run = stored.run
    return [
        Event(1, RunStarted(run.conversation_id, run.message_id, run.user_message_id, run.model)),
        Event(2, UserMessage(run.user_message_id, stored.content, stored.asked_at)),
        Event(3, Thinking()),
    ]


def _body(stored: Stored, seq: int, *, with_reasoning: bool) -> list[Event]:
    text = "".join(part.text for part in stored.parts if part.kind is PartKind.TEXT)
    reasoning = "".join(part.text for part in stored.parts if part.kind is PartKind.REASONING)
    events = []
    if reasoning and with_reasoning:
        # Both were there, so there were at least two deltas: the number before the text's is theirs too.
        events.append(Event(seq - 1 if text else seq, Reasoning(reasoning)))
    if text:
        events.append(Event(seq, Text(text, 0)))
    return events


def _end(stored: Stored, request_id: str) -> Done | Failed:
    run = stored.run
    if run.status is not RunStatus.FAILED:
        return Done(run.status, run.message_id)
    return Failed(run.error_reason, failures.sentence(run.error_reason), request_id)
