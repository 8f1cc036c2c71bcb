"""The deadlines of one call, over all the targets it is tried at."""

from __future__ import annotations

import asyncio
import math
from typing import TYPE_CHECKING, Self

from services.gateway.failures import AttemptFailed, FirstTokenTimeout, RunTimeout, StreamStalled

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from services.gateway.domain import ProviderDelta, Timeouts

# Before a provider is called late its connection is looked at again: so many turns of the loop read what waits there and hand it on.
_LOOKS = 3
_LOOK_S = 0.001
# Timers may come a little early.
_LATE_S = 0.001
# A timer that goes off so much too late says that this process, or the machine, stood still.
_STOOD_STILL_S = 0.5


class Waits:
    """How long is waited, and for what, within a block.

    One timer serves a whole call. It is not moved with every delta: when it goes off it looks whether the deadline has moved on meanwhile.

    Attributes:
        begun: The first delta of the attempt at hand is here.
    """

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._clock = self._loop.time
        self._task = asyncio.current_task(self._loop)
        self._called = self._asked = self._clock()
        self._gap_s = self._share = self._first = self._total = 0.0
        # When what is awaited now is late, infinity while nothing is; and the time it was given.
        self._due = math.inf
        self._wait_s = 0.0
        self._timer: asyncio.TimerHandle | None = None
        self._timer_at = math.inf
        self._looked_for, self._looks = math.inf, 0
        self._expired = False
        self.begun = False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def start(self) -> None:
        """Begins the call: time is counted from here on, or from the start of the block where this is not said."""
        self._called = self._asked = self._clock()

    def attempt(self, timeouts: Timeouts, others: int) -> None:
        """Begins an attempt.

        Args:
            timeouts: Counted from the start of the call. What is left until the first delta is shared with the others.
            others: Targets that could be asked besides, should this one stay silent.
        """
        self.begun = False
        now = self._clock()
        self._gap_s = timeouts.gap_s
        self._total = self._called + timeouts.total_s
        self._first = min(self._asked + timeouts.first_token_s, self._total)
        self._share = now + (self._first - now) / (1 + others)

    def begin(self) -> None:
        """Notes that the first delta is here."""
        self.begun = True

    def moved(self) -> None:
        """Notes that something has come, and was taken past `next`."""
        self._due = min(self._clock() + self._gap_s, self._total)

    def anew(self) -> None:
        """Counts the wait for the first delta from now on, since what was given out is void; the whole call takes no longer for it."""
        self._asked = self._clock()

    def allows(self, wait_s: float) -> bool:
        """Tells whether a pause leaves time for another attempt."""
        return self._clock() + wait_s < self._first

    def close(self) -> None:
        """Waits for nothing any more, and lets go of the task: one that was cancelled holds where that was, and so this and the call."""
        self._task = None
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    async def next(self, batches: AsyncIterator[Sequence[ProviderDelta]]) -> Sequence[ProviderDelta] | None:
        """Returns the next batch, or None at the end.

        Only the wait for the provider counts: a caller that reads slowly does not make the provider late, and neither does a process or a
        machine that had no time to read what had come.

        Raises: AttemptFailed: FirstTokenTimeout, StreamStalled, RunTimeout.
        """
        now = self._clock()
        self._wait_s = self._gap_s if self.begun else self._share - now
        self._due = due = min(now + self._wait_s, self._total)
        if self._timer is None or due < self._timer_at - _LATE_S:
            self._set(due + _LATE_S)
        try:
            return await anext(batches, None)
        except asyncio.CancelledError:
            if not self._expired or self._task is None:
                raise
            self._expired = False
            if self._task.uncancel() > 0:
                # Somebody else has cancelled it too.
                raise
            raise AttemptFailed(self._late(), retryable=False, cause="late") from None
        finally:
            self._due = math.inf

    def _set(self, at: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer_at = at
        self._timer = self._loop.call_at(at, self._look)

    def _look(self) -> None:
        """Ends the wait, unless what it is for has come or may still be on its way; while nothing could be read nobody was late."""
        self._timer = None
        if self._due == math.inf:
            return
        now = self._clock()
        if now - self._timer_at > _STOOD_STILL_S:
            # For how long nobody knows: what is waited for has its whole time again.
            self._due = min(now + self._wait_s, self._total)
        if self._clock() < self._due:
            self._set(self._due + _LATE_S)
        elif self._looked_for != self._due:
            self._looked_for, self._looks = self._due, 1
            self._set(self._clock() + _LOOK_S)
        elif self._looks < _LOOKS:
            self._looks += 1
            self._set(self._clock() + _LOOK_S)
        elif self._task is not None:
            self._expired = True
            self._task.cancel()

    def _late(self) -> FirstTokenTimeout | StreamStalled | RunTimeout:
        if self._clock() >= self._total:
            return RunTimeout("The answer took longer than it may.")
        if not self.begun:
            return FirstTokenTimeout("The model did not begin to answer in time.")
        return StreamStalled("The model stopped in the middle of its answer.")
