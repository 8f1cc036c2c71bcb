"""Runs that are not live here: their tail, what is stored of them, and their end when the owner is gone."""

from __future__ import annotations

import asyncio
import time
from dataclasses import replace
from typing import TYPE_CHECKING

import structlog

from runtime.errors import FailedPrecondition, Unavailable
from services.chat import snapshot
from services.chat.domain import CursorAhead, NotStopped, PartKind, RunStatus, Usage
from services.chat.ports import Ending
from services.chat.prompt import estimate_tokens

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable

    from runtime.context import Identity
    from services.chat.domain import Event, Run, Stored
    from services.chat.log import RunLog
    from services.chat.ports import Data, Signals, Tail

log = structlog.stdlib.get_logger()

UNSEEN_MAX_EVENTS = 10_000
"""How far a live log may be ahead of what is stored or in the tail: about a second of the fastest model."""
_FIRST_LOOK_S = 0.25
_LOOK_EVERY_S = 2.0
_CANCEL_FOR_S = 5.0
_CANCEL_ASK_EVERY_S = 0.25


class Elsewhere:
    """Other instances' runs, and those that nobody owns any more.

    Args:
        data: What is stored.
        tail: What is live.
        signals: Word to the owners.
        clock: Seconds since the epoch.
        lapsed_for_s: How long a lease must have lapsed, unchanged, before its owner counts as gone.
    """

    def __init__(
        self, data: Data, tail: Tail, signals: Signals, clock: Callable[[], float], *, lapsed_for_s: float
    ) -> None:
        self._data = data
        self._tail = tail
        self._signals = signals
        self._clock = clock
        self._lapsed_for_s = lapsed_for_s

    async def follow(
        self, stored: Stored, seq: int, *, caller: Identity, token: str, request_id: str
    ) -> AsyncGenerator[list[Event], None]:
        """Replays a run after a position and follows it to its end.

        The tail is followed as it grows. While it is silent, what is stored is looked at every two seconds: it is all there is when the
        tail is away, it tells when the owner is gone, and it closes a log whose end the tail has missed.

        Yields: at least one event, in order.
        Raises: RunNotFound; CursorAhead.
        """
        run_id = stored.run.id
        watch = Lease(self._clock, self._lapsed_for_s)
        async with self._tail.replica(caller.org_id, run_id) as replica:
            look_in_s = _FIRST_LOOK_S
            while True:
                if stored.run.status is not RunStatus.RUNNING:
                    if events := snapshot.events_after(stored, seq, request_id=request_id):
                        yield events
                    return
                known = max(stored.last_seq, replica.last_seq)
                if seq > known + UNSEEN_MAX_EVENTS:
                    raise CursorAhead
                if watch.lapsed(stored):
                    stored = await self._interrupt(stored, replica, seen=max(known, seq), token=token)
                    continue
                while await _grown(replica, seq, look_in_s):
                    while events := replica.after(seq):
                        yield events
                        seq = events[-1].seq
                    if replica.ended:
                        return
                    look_in_s = _LOOK_EVERY_S
                look_in_s = _LOOK_EVERY_S
                stored = await self._data.get_run(run_id, token=token)
                if stored.run.status is RunStatus.RUNNING and (
                    events := snapshot.events_after(stored, seq, request_id=request_id)
                ):
                    yield events
                    seq = events[-1].seq

    async def cancel(self, stored: Stored, *, token: str) -> Run:
        """Has the owner stop a run; returns the run once it has ended.

        Raises: NotStopped; RunNotFound; Unavailable.
        """
        run_id = stored.run.id
        watch = Lease(self._clock, self._lapsed_for_s)
        give_up_at = time.monotonic() + max(_CANCEL_FOR_S, self._lapsed_for_s + 1)
        while stored.run.status is RunStatus.RUNNING:
            if watch.lapsed(stored):
                stored = await self.end(stored, RunStatus.CANCELLED, seen=stored.last_seq, token=token)
                continue
            if time.monotonic() > give_up_at:
                raise NotStopped
            try:
                await self._signals.ask_to_cancel(stored.owner, run_id)
            except Unavailable:
                if not watch.lapsing:  # otherwise there may be nobody to ask
                    raise
            await asyncio.sleep(_CANCEL_ASK_EVERY_S)
            stored = await self._data.get_run(run_id, token=token)
        return stored.run

    async def _interrupt(self, stored: Stored, replica: RunLog, *, seen: int, token: str) -> Stored:
        if replica.last_seq > stored.last_seq:  # the tail has more of it than the last checkpoint
            stored = replace(stored, parts=replica.parts())
        return await self.end(stored, RunStatus.INTERRUPTED, seen=seen, token=token)

    async def end(self, stored: Stored, status: RunStatus, *, seen: int, token: str) -> Stored:
        """Ends a run that nobody owns, with what is left of its answer; returns it as it is stored then.

        Its last number is beyond all that any client can have seen of the lost log, so that every cursor stays good.
        """
        written = sum(estimate_tokens(part.text) for part in stored.parts)
        thought = sum(estimate_tokens(part.text) for part in stored.parts if part.kind is PartKind.REASONING)
        ending = Ending(
            run_id=stored.run.id,
            fence=stored.fence,
            status=status,
            error_reason="",
            parts=stored.parts,
            usage=Usage(estimate_tokens(stored.content), written, reasoning_tokens=thought, estimated=True),
            model="",
            last_seq=seen + UNSEEN_MAX_EVENTS,
        )
        try:
            await self._data.finish_run(ending, token=token)
            log.warning("ownerless_run_ended", run_id=stored.run.id, owner=stored.owner, status=status)
        except FailedPrecondition as error:
            log.info("ownerless_run_taken", run_id=stored.run.id, reason=error.code)
        return await self._data.get_run(stored.run.id, token=token)


class Lease:
    """Tells whether a run's owner is gone: its lease has lapsed and stays as it is for a while.

    Once is not enough. An owner that could not reach data for a while renews its lease as soon as it can, and must get the chance.
    And a lease that changes has a living owner, however late it is by the clock here: clocks of two machines differ.

    Args:
        clock: Seconds since the epoch.
        lapsed_for_s: The while; longer than an owner that lives leaves its lease alone.
    """

    def __init__(self, clock: Callable[[], float], lapsed_for_s: float) -> None:
        self._clock = clock
        self._lapsed_for_s = lapsed_for_s
        self._lapsed_since: float | None = None
        self._seen: float | None = None

    @property
    def lapsing(self) -> bool:
        """Whether it had lapsed when last looked at."""
        return self._lapsed_since is not None

    def lapsed(self, stored: Stored) -> bool:
        """Looks at what is stored now; says whether the owner is gone."""
        now, lease = self._clock(), stored.lease_expires_at
        if lease is None or lease > now:
            self._lapsed_since = None
        elif self._lapsed_since is None or lease != self._seen:
            self._lapsed_since = now
        self._seen = lease
        return self._lapsed_since is not None and now - self._lapsed_since >= self._lapsed_for_s


async def _grown(replica: RunLog, seq: int, timeout_s: float) -> bool:
    """Returns True once a log holds something after a position, False after the timeout."""
    try:
        async with asyncio.timeout(timeout_s):
            while replica.last_seq <= seq:
                await replica.changed()
    except TimeoutError:
        return False
    return True
