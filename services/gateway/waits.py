"""The deadlines of one call, over all the targets it is tried at."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from services.gateway.failures import AttemptFailed, FirstTokenTimeout, RunTimeout, StreamStalled

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from services.gateway.domain import ProviderDelta, Timeouts


class Waits:
    """How long is waited, and for what.

    Attributes:
        begun: The first delta of the attempt at hand is here.
    """

    def __init__(self) -> None:
        self._clock = asyncio.get_running_loop().time
        self._called = self._asked = self._clock()
        self._gap_s = self._share = self._first = self._total = 0.0
        self.begun = False

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

    def anew(self) -> None:
        """Counts the wait for the first delta from now on, since what was given out is void; the whole call takes no longer for it."""
        self._asked = self._clock()

    def allows(self, wait_s: float) -> bool:
        """Tells whether a pause leaves time for another attempt."""
        return self._clock() + wait_s < self._first

    async def next(self, batches: AsyncIterator[Sequence[ProviderDelta]]) -> Sequence[ProviderDelta] | None:
        """Returns the next batch, or None at the end.

        Only the wait for the provider counts: a caller that reads slowly does not make the provider late.

        Raises: AttemptFailed: FirstTokenTimeout, StreamStalled, RunTimeout.
        """
        due = self._clock() + self._gap_s if self.begun else self._share
        try:
            async with asyncio.timeout_at(min(due, self._total)):
                return await anext(batches, None)
        except TimeoutError:
            raise AttemptFailed(self._late(), retryable=False, cause="late") from None

    def _late(self) -> FirstTokenTimeout | StreamStalled | RunTimeout:
        if self._clock() >= self._total:
            return RunTimeout("The answer took longer than it may.")
        if not self.begun:
            return FirstTokenTimeout("The model did not begin to answer in time.")
        return StreamStalled("The model stopped in the middle of its answer.")
