"""What waits to be written on a connection: one batch that grows for as long as the write before it takes, and under load a little longer."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import TYPE_CHECKING, Any

from runtime.mux.wire import BATCH_BYTES, WAITING_BYTES

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

TICK_S = 0.004
"""How long after the batch before it a batch of patient frames leaves, under load."""
BUSY_FRAMES_S = 1_500
"""Load: so many patient frames a second, which is thirty answers of fifty tokens a second."""
_LOOK_EVERY_S = 0.05
_FULL_BYTES = 32 * 1024


class Outbox:
    """Gathers frames into batches and writes them in order.

    A batch leaves at once when nothing is being written, otherwise as soon as the write under way has returned: so it holds as much as the
    wire is busy. Under load, when each write wakes up a process on the other side that is busy, too, a batch of nothing but patient frames
    leaves a tick after the one before it; any other frame takes with it what waits.

    Args:
        make: Makes an empty batch: a message with `frames`.
        write: Writes one.
        tick_s: The tick.
    """

    def __init__(
        self, make: Callable[[], Any], write: Callable[[Any], Awaitable[None]], *, tick_s: float = TICK_S
    ) -> None:
        self._make = make
        self._write = write
        self._tick_s = tick_s
        self._batches: deque[tuple[Any, int]] = deque()
        self._batch: Any = None
        self._batch_bytes = 0
        self._waiting_bytes = 0
        self._wake: asyncio.Future[None] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._left_at = 0.0
        self._busy = False
        self._patient_frames = 0
        self._looked_at = 0.0
        self._room: asyncio.Event = asyncio.Event()
        self._room.set()
        self._empty: asyncio.Event = asyncio.Event()
        self._empty.set()
        self._closed = False

    def frame(self, size_bytes: int, *, patient: bool = False) -> Any:
        """Returns a new frame at the end of what waits, to be filled before anything is awaited.

        Args:
            size_bytes: About what it will hold.
            patient: It may wait for a tick, under load.
        """
        if self._closed:
            return self._make().frames.add()
        if self._batch is None:
            self._batch = self._make()
            self._batch_bytes = 0
            self._empty.clear()
        frame = self._batch.frames.add()
        self._batch_bytes += size_bytes
        self._waiting_bytes += size_bytes
        self._patient_frames += patient
        if self._waiting_bytes > WAITING_BYTES:
            self._room.clear()
        if self._batch_bytes >= BATCH_BYTES:
            self._close_batch()
        wake = self._wake
        if wake is not None and not wake.done():
            if patient and self._busy and self._batch_bytes < _FULL_BYTES:
                self._leave_with_the_tick(wake)
            else:
                wake.set_result(None)
        return frame

    @property
    def full(self) -> bool:
        """Whether more waits than should."""
        return not self._room.is_set()

    async def room(self) -> None:
        """Returns once less waits, or when nothing will be written any more."""
        await self._room.wait()

    async def empty(self) -> None:
        """Returns once everything has been written, or when nothing will be written any more."""
        await self._empty.wait()

    async def run(self) -> None:
        """Writes until cancelled or until a write fails; what has not been written by then is lost."""
        loop = asyncio.get_running_loop()
        try:
            while True:
                if not self._batches:
                    if self._batch is None:
                        self._empty.set()
                        self._wake = loop.create_future()
                        await self._wake
                    self._close_batch()
                    self._left_at = loop.time()
                    if self._left_at - self._looked_at >= _LOOK_EVERY_S:
                        self._look()
                batch, size_bytes = self._batches.popleft()
                await self._write(batch)
                self._waiting_bytes -= size_bytes
                if self._waiting_bytes <= WAITING_BYTES:
                    self._room.set()
        finally:
            self._closed = True
            self._stop_timer()
            self._room.set()
            self._empty.set()

    def _leave_with_the_tick(self, wake: asyncio.Future[None]) -> None:
        if self._timer is not None:
            return
        loop = asyncio.get_running_loop()
        left_s = self._left_at + self._tick_s - loop.time()
        if left_s <= 0:
            wake.set_result(None)
        else:
            self._timer = loop.call_later(left_s, self._tick)

    def _tick(self) -> None:
        self._timer = None
        if self._wake is not None and not self._wake.done():
            self._wake.set_result(None)

    def _look(self) -> None:
        """Finds out whether there is load."""
        self._busy = self._patient_frames >= BUSY_FRAMES_S * (self._left_at - self._looked_at)
        self._patient_frames = 0
        self._looked_at = self._left_at

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _close_batch(self) -> None:
        self._stop_timer()
        if self._batch is not None:
            self._batches.append((self._batch, self._batch_bytes))
            self._batch = None
