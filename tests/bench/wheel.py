"""Sends the paced tokens of all streams from one timer, spread over its ticks."""

from __future__ import annotations

import asyncio
import heapq
import itertools
import time
from typing import Protocol

from tests.bench.answers import token

TICK_NS = 1_000_000
_GOLDEN = 0.6180339887498949


class Paced(Protocol):
    """A stream on the wheel."""

    def send(self, text: bytes) -> bool:
        """Sends one token; returns whether more are to come."""
        ...


class Wheel:
    """Calls `send` of every stream at its own times, within a millisecond.

    A stream's times are fixed when it joins, so that a late tick shifts nothing after it. Streams that join together are spread
    over their interval: where they all would speak at once, the burst would be measured and not the load.

    Attributes:
        lateness_ns: How late each tick since the last `clear` was.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._slots: dict[int, list[tuple[Paced, int, int]]] = {}
        self._order: list[int] = []
        self._timer: asyncio.TimerHandle | None = None
        self._armed_for = 0
        self._joined = itertools.count(1)
        self.lateness_ns: list[int] = []

    def join(self, stream: Paced, rate: int) -> None:
        """Lets a stream speak `rate` times a second; the first time within one interval from now."""
        interval_ns = 1_000_000_000 // rate
        phase_ns = int(next(self._joined) * _GOLDEN % 1 * interval_ns)
        self._put(stream, time.monotonic_ns() + phase_ns + TICK_NS, interval_ns)
        self._arm()

    def _put(self, stream: Paced, due_ns: int, interval_ns: int) -> None:
        slot = due_ns // TICK_NS
        entries = self._slots.get(slot)
        if entries is None:
            entries = self._slots[slot] = []
            heapq.heappush(self._order, slot)
        entries.append((stream, due_ns, interval_ns))

    def _arm(self) -> None:
        if not self._order:
            return
        slot = self._order[0]
        if self._timer is not None:
            if self._armed_for <= slot:
                return
            self._timer.cancel()
        delay_ns = slot * TICK_NS - time.monotonic_ns()
        self._armed_for = slot
        self._timer = self._loop.call_later(max(delay_ns, 0) / 1e9, self._tick)

    def _tick(self) -> None:
        self._timer = None
        now_ns = time.monotonic_ns()
        while self._order and self._order[0] * TICK_NS <= now_ns:
            slot = heapq.heappop(self._order)
            self.lateness_ns.append(now_ns - slot * TICK_NS)
            text = token(time.monotonic_ns())
            for stream, due_ns, interval_ns in self._slots.pop(slot):
                if stream.send(text):
                    self._put(stream, due_ns + interval_ns, interval_ns)
        self._arm()
