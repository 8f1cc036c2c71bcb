"""What waits to be written on a connection: one batch that grows for as long as the write before it takes."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import TYPE_CHECKING, Any

from runtime.mux.wire import BATCH_BYTES, WAITING_BYTES

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable


class Outbox:
    """Gathers frames into batches and writes them in order.

    A batch leaves at once when nothing is being written, otherwise as soon as the write under way has returned: so it holds as much as the
    wire is busy, and a frame never waits for a clock.

    Args:
        make: Makes an empty batch: a message with `frames`.
        write: Writes one.
    """

    def __init__(self, make: Callable[[], Any], write: Callable[[Any], Awaitable[None]]) -> None:
        self._make = make
        self._write = write
        self._batches: deque[tuple[Any, int]] = deque()
        self._batch: Any = None
        self._batch_bytes = 0
        self._waiting_bytes = 0
        self._wake: asyncio.Future[None] | None = None
        self._room: asyncio.Event = asyncio.Event()
        self._room.set()
        self._empty: asyncio.Event = asyncio.Event()
        self._empty.set()
        self._closed = False

    def frame(self, size_bytes: int) -> Any:
        """Returns a new frame at the end of what waits, to be filled before anything is awaited.

        Args:
            size_bytes: About what it will hold.
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
        if self._waiting_bytes > WAITING_BYTES:
            self._room.clear()
        if self._batch_bytes >= BATCH_BYTES:
            self._close_batch()
        wake = self._wake
        if wake is not None and not wake.done():
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
        try:
            while True:
                if not self._batches:
                    if self._batch is None:
                        self._empty.set()
                        self._wake = asyncio.get_running_loop().create_future()
                        await self._wake
                    self._close_batch()
                batch, size_bytes = self._batches.popleft()
                await self._write(batch)
                self._waiting_bytes -= size_bytes
                if self._waiting_bytes <= WAITING_BYTES:
                    self._room.set()
        finally:
            self._closed = True
            self._room.set()
            self._empty.set()

    def _close_batch(self) -> None:
        if self._batch is not None:
            self._batches.append((self._batch, self._batch_bytes))
            self._batch = None
