"""The frames of a connection over a plain TCP connection of their own: each batch behind its length, nothing else."""

from __future__ import annotations

import asyncio
import socket
from typing import TYPE_CHECKING, Any, cast

import structlog

from runtime.errors import ParleyError
from runtime.mux.outbox import Outbox
from runtime.mux.wire import KEY_BYTES, MAX_BATCH_BYTES

if TYPE_CHECKING:
    from collections.abc import Callable

log = structlog.stdlib.get_logger()

_LENGTH_BYTES = 4
_KEY_TIMEOUT_S = 5.0
_LIVENESS = [
    (socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1),
    *(
        (socket.IPPROTO_TCP, getattr(socket, name), value)
        for name, value in (
            ("TCP_KEEPIDLE", 20),  # seconds of silence
            ("TCP_KEEPINTVL", 5),
            ("TCP_KEEPCNT", 3),
            ("TCP_USER_TIMEOUT", 15_000),  # milliseconds for what has been sent to be acknowledged
        )
        if hasattr(socket, name)  # each system has its own
    ),
]


class Pipe(asyncio.Protocol):
    """One end of the connection.

    Args:
        read: Turns bytes into a batch.
        take: Takes each batch in order; what it raises, or bytes that are no batch, end the connection.

    Attributes:
        outbox: What is to be written on it.
        closed: Set when the connection is no more.
        greeted: Set when the first batch has come, or the connection is no more.
        error: What the other side did wrong, where that was the end.
    """

    def __init__(self, read: Callable[[bytes], Any], take: Callable[[Any], None] | None) -> None:
        self.outbox = Outbox(self._write)
        self.closed = asyncio.Event()
        self.greeted = asyncio.Event()
        self.error: Exception | None = None
        self._heard = False
        self._read = read
        self._take = take
        self._transport: asyncio.Transport | None = None
        self._buffer = bytearray()
        self._writable = True

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keeps the transport, and has the kernel notice when the way to the other side is lost: the stream beside it may go another way."""
        self._transport = cast("asyncio.Transport", transport)
        if (connection := transport.get_extra_info("socket")) is not None:
            for level, option, value in _LIVENESS:
                connection.setsockopt(level, option, value)

    def connection_lost(self, _: Exception | None) -> None:
        """Tells whoever waits."""
        self._take = None
        self.outbox.close()
        self.closed.set()
        self.greeted.set()

    def data_received(self, data: bytes) -> None:
        """Takes the batches that have become whole."""
        rest = self._buffer
        if rest:
            rest += data
        buffer = rest or data  # most often nothing is left from before, and whole batches come
        at = 0
        while len(buffer) - at >= _LENGTH_BYTES:
            length = int.from_bytes(buffer[at : at + _LENGTH_BYTES], "big")
            end = at + _LENGTH_BYTES + length
            if length > MAX_BATCH_BYTES:
                self._fail(ValueError("a batch longer than any may be"))
                return
            if len(buffer) < end:
                break
            if self._take is None:
                return
            try:
                self._take(self._read(bytes(buffer[at + _LENGTH_BYTES : end])))
            except ParleyError as error:
                self._fail(error)  # told to whoever owns the connection
                return
            except Exception as error:
                # Here alone: what the connection ends with says only that it has ended.
                log.exception("unforeseen_error")
                self._fail(error)
                return
            if not self._heard:
                self._heard = True
                self.greeted.set()
            at = end
        if rest:
            del rest[:at]
        else:
            rest += data[at:]

    def pause_writing(self) -> None:
        """Holds back what is to be written."""
        self._writable = False

    def resume_writing(self) -> None:
        """Lets it go on."""
        self._writable = True
        self.outbox.resume()

    def close(self) -> None:
        """Closes the connection once what has been written has gone out."""
        self.outbox.close()
        if self._transport is not None:
            self._transport.close()

    def send_key(self, key: bytes) -> None:
        """Says which connection this is; the first thing that is sent."""
        if self._transport is not None:
            self._transport.write(key)

    def _write(self, batch: bytes) -> bool:
        if self._transport is not None:
            self._transport.write(len(batch).to_bytes(_LENGTH_BYTES, "big") + batch)
        return self._writable  # which the transport says before it has returned

    def _fail(self, error: Exception) -> None:
        self._take = None
        self.error = error
        self.outbox.close()
        if self._transport is not None:
            self._transport.abort()


class Entrance(Pipe):
    """The service's end: takes the key first, and is nobody's until then.

    Args:
        read: As `Pipe` takes it.
        admit: Takes the key and this; returns what takes the batches, or None for a key that is not known.
    """

    def __init__(self, read: Callable[[bytes], Any], admit: Callable[[bytes, Entrance], Any]) -> None:
        super().__init__(read, None)
        self._admit = admit
        self._admitted = False
        self._timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Waits for the key, but not for ever."""
        super().connection_made(transport)
        self._timer = asyncio.get_running_loop().call_later(_KEY_TIMEOUT_S, self.close)

    def connection_lost(self, error: Exception | None) -> None:
        """Tells whoever waits."""
        self._stop_timer()
        super().connection_lost(error)

    def data_received(self, data: bytes) -> None:
        """Takes the key, then batches."""
        if self._admitted:
            super().data_received(data)
            return
        self._buffer += data
        if len(self._buffer) < KEY_BYTES:
            return
        self._stop_timer()
        key, rest = bytes(self._buffer[:KEY_BYTES]), bytes(self._buffer[KEY_BYTES:])
        self._buffer.clear()
        self._admitted = True
        self._take = self._admit(key, self)
        if self._take is None:
            self.close()
        elif rest:
            super().data_received(rest)

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()


async def connect(
    host: str, port: int, key: bytes, *, read: Callable[[bytes], Any], take: Callable[[Any], None], timeout_s: float
) -> Pipe | None:
    """Opens the caller's end; None where nobody who knows the key answers in time."""
    pipe = Pipe(read, take)
    reached = False
    try:
        async with asyncio.timeout(timeout_s):
            await asyncio.get_running_loop().create_connection(lambda: pipe, host, port)
            pipe.send_key(key)
            await pipe.greeted.wait()
        reached = not pipe.closed.is_set()
    except (OSError, OverflowError, TimeoutError):  # the second for a port that is none
        pass
    finally:
        if not reached:
            pipe.close()
    return pipe if reached else None
