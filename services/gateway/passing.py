"""Passes on what a model writes at the moment it arrives: within the reader that has read it, so that nobody is woken up for it."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeAlias

from services.gateway.domain import Logprobs, Reasoning, Text
from services.gateway.tally import MAX_ANSWER_BYTES

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from services.gateway.domain import Delta, ProviderDelta
    from services.gateway.tally import Tally
    from services.gateway.waits import Waits

Offer: TypeAlias = "Callable[[Sequence[Delta]], bool]"
"""Sends deltas to the caller where that needs no wait; says False, and sends nothing, where it would."""


class Passage:
    """The short way of one attempt's deltas, for those in its middle: what begins or ends an answer, or calls tools, goes the long one.

    Args:
        offer: Where they go.
        waits: Is told that something has come.
        tally: Counts them.
    """

    __slots__ = ("_offer", "_tally", "_waits")

    def __init__(self, offer: Offer, waits: Waits, tally: Tally) -> None:
        self._offer = offer
        self._waits = waits
        self._tally = tally

    def take(self, deltas: Sequence[ProviderDelta]) -> bool:
        """See `domain.Take`."""
        size = 0
        for delta in deltas:
            if type(delta) is Text or type(delta) is Reasoning:
                # As `size_bytes` counts; written out, since this is done for every token there is.
                text = delta.text
                size += len(text) if text.isascii() else len(text.encode())
            elif type(delta) is not Logprobs:
                return False
        tally = self._tally
        # The first is waited for under a deadline of its own, and what is too long is refused where that ends the attempt.
        if not self._waits.begun or tally.written_bytes + size > MAX_ANSWER_BYTES or not self._offer(deltas):  # type: ignore[arg-type]
            return False
        tally.written_bytes += size
        self._waits.moved()
        return True
