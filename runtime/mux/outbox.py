"""What is to be written on a connection: it leaves at once where the connection has been quiet, and else as one batch of many frames."""

from __future__ import annotations

import asyncio
import contextvars
import time
from collections import deque
from typing import TYPE_CHECKING

from runtime.mux.wire import BATCH_BYTES, WAITING_BYTES

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

_QUIET_S = 0.002
"""A connection that has carried nothing for as long is quiet. Timers go by milliseconds, so tokens come in bursts one apart: this is longer."""
_NO_CONTEXT = contextvars.Context()  # what is written is of many calls


class Outbox:
    """Gathers what is to be written, and hands it on in order.

    On a quiet connection a frame is written before `send` returns. On a busy one it leaves together with all that comes in the same turn of the event
    loop, since a write costs the same whatever it holds. Where the connection takes nothing, a batch grows until it does. No frame waits for a clock.

    Belongs to the event loop it is made in.

    Args:
        write: Takes a batch; says whether it can take another, or else calls `resume` once it can.
        writable: Whether it can take the first.
    """

    def __init__(self, write: Callable[[bytes], bool], *, writable: bool = True) -> None:
        self.loop = asyncio.get_running_loop()
        self._write = write
        self._writable = writable
        self._frames: deque[bytes] = deque()
        self._waiting_bytes = 0
        self._quiet_at_s = 0.0
        self._room = asyncio.Event()
        self._room.set()
        self._empty = asyncio.Event()
        self._empty.set()
        self._closed = False

    def send(self, frame: bytes) -> None:
        """Sends a frame, as the batch that holds it alone is spelt; behind each other such batches are one."""
        if self._closed:
            return
        if not self._frames:  # otherwise it is known when they leave
            if self._writable:
                if time.monotonic() >= self._quiet_at_s:
                    self._hand_on(frame)
                    return
                self.loop.call_soon(self._flush, context=_NO_CONTEXT)
            self._empty.clear()
        self._frames.append(frame)
        self._waiting_bytes += len(frame)
        if self._waiting_bytes > WAITING_BYTES:
            self._room.clear()

    @property
    def busy(self) -> bool:
        """Whether something waits for the next turn of the loop, or for the connection."""
        return bool(self._frames)

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

    def resume(self) -> None:
        """The connection can take another batch."""
        self._writable = True
        self._flush()

    def close(self) -> None:
        """Writes nothing any more; what waits is lost."""
        self._closed = True
        self._frames.clear()
        self._room.set()
        self._empty.set()

    def _flush(self) -> None:
        frames = self._frames
        while frames and self._writable:
            batch, size_bytes = [], 0
            while frames and size_bytes < BATCH_BYTES:
                batch.append(frames.popleft())
                size_bytes += len(batch[-1])
            self._hand_on(b"".join(batch))
            self._waiting_bytes -= size_bytes
        if self._waiting_bytes <= WAITING_BYTES:
            self._room.set()
        if not frames and self._writable:
            self._empty.set()

    def _hand_on(self, batch: bytes) -> None:
        self._writable = self._write(batch)
        self._quiet_at_s = time.monotonic() + _QUIET_S
        if not self._writable:
            self._empty.clear()


class Writer:
    """Writes to a stream of gRPC, one batch after the other.

    Args:
        write: Writes one.

    Attributes:
        outbox: What there is to write; it waits until `run`.
    """

    def __init__(self, write: Callable[[bytes], Awaitable[None]]) -> None:
        self.outbox = Outbox(self._take, writable=False)
        self._write = write
        self._batch: asyncio.Future[bytes]

    async def run(self) -> None:
        """Writes until cancelled or until a write fails; what has not been written by then is lost."""
        loop = asyncio.get_running_loop()
        try:
            while True:
                self._batch = loop.create_future()
                self.outbox.resume()
                await self._write(await self._batch)
        finally:
            self.outbox.close()

    def _take(self, batch: bytes) -> bool:
        if not self._batch.done():  # it is cancelled, which its outbox does not know yet
            self._batch.set_result(batch)
        return False
