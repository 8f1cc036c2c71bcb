"""What the new owner of a run finds of its log."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from services.chat.ports import ClaimKind
from services.chat.snapshot import OPENING, UNSEEN_MAX_EVENTS, remade

if TYPE_CHECKING:
    from services.chat.log import RunLog
    from services.chat.ports import Begun, TakenTail

UNSEEN_EVENTS = 64
"""How many events a dead owner can have shown that had not been flushed: more than any model writes in that time."""


class Found(NamedTuple):
    """What there is of a run's log.

    Attributes:
        log: What has been told; None: nothing.
        sent_seq: How much of it the tail holds.
        unseen_events: How many events beyond that the owner before may have shown, for a row of resets to stand in for; 0: none.
    """

    log: RunLog | None
    sent_seq: int = 0
    unseen_events: int = 0


def found(begun: Begun, taken: TakenTail) -> Found:
    """Returns where a claimed run goes on: at the end of its log, or, where that is lost or behind, at what is stored."""
    log = taken.log
    queued, lapsed = begun.claim is ClaimKind.QUEUED, begun.claim is ClaimKind.LAPSED
    # The log of a dead letter that is tried again tells of its end.
    if log is None or log.last_seq < begun.last_seq or (queued and log.ended):
        if begun.last_seq or begun.tries > 1 or (lapsed and taken.away):
            return Found(remade(begun.run, begun.content, begun.asked_at, begun.answer, last_seq=begun.last_seq))
        # Its owner was gone before the first flush, or nobody has begun it.
        return Found(None, 0, _unseen(OPENING, taken.seen) if lapsed else 0)
    if not lapsed or log.ended:
        return Found(log, log.last_seq)
    # Also where the log holds nothing of the step: an owner that was cut off while the model was still thinking has shown what came then.
    return Found(log, log.last_seq, _unseen(log.last_seq, taken.seen))


def _unseen(last_seq: int, seen: int) -> int:
    return min(max(UNSEEN_EVENTS, seen + 1 - last_seq), UNSEEN_MAX_EVENTS)
