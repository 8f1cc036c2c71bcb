"""What an answer may ask of its connection past ASGI: to write at once, to hand over a body that is here, to tell when the client goes."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import struct
import termios
from typing import TYPE_CHECKING

from uvicorn.protocols.http.httptools_impl import STATUS_LINE

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from uvicorn.protocols.http.httptools_impl import RequestResponseCycle

WIRE = "parley.wire"
"""Where a request's scope holds its `Wire`; other servers than ours have none."""


class Signal:
    """An event that holds no queue before somebody has waited for it: `asyncio.Event` always does, 600 bytes of it."""

    __slots__ = ("_event", "_set")

    def __init__(self) -> None:
        self._set = False
        self._event: asyncio.Event | None = None

    def set(self) -> None:
        """Lets everybody go on who waits or will wait."""
        self._set = True
        if self._event is not None:
            self._event.set()

    def clear(self) -> None:
        """Has whoever comes now wait."""
        self._set = False
        if self._event is not None:
            self._event.clear()

    async def wait(self) -> None:
        """Returns once it is set."""
        if not self._set:
            if self._event is None:
                self._event = asyncio.Event()
            await self._event.wait()


class Wire:
    """The connection of one request.

    Args:
        answer: uvicorn's side of it.

    Attributes:
        on_gone: Called when the client has gone.
    """

    __slots__ = ("_answer", "on_gone")

    def __init__(self, answer: RequestResponseCycle) -> None:
        self._answer = answer
        self.on_gone: Callable[[], None] | None = None

    @property
    def gone(self) -> bool:
        """Whether the client has gone."""
        return self._answer.disconnected

    @property
    def writing(self) -> bool:
        """Whether the answer has begun and not ended."""
        return self._answer.response_started and not self._answer.response_complete

    @property
    def full(self) -> bool:
        """Whether a write would have to be waited for."""
        return self._answer.flow.write_paused

    @property
    def unread_bytes(self) -> int:
        """How much of what has been written the client's machine has not taken yet."""
        return 0 if self._answer.disconnected else unread_bytes(self._answer.transport)

    def forget_head(self) -> None:
        """Drops the request's headers, which nobody reads once it is being answered, and an answer may last for long."""
        if not self._answer.more_body:
            self._answer.scope["headers"].clear()  # type: ignore[attr-defined] # uvicorn makes a list

    def tell_gone(self) -> None:
        """Notes that the client has gone: uvicorn tells only the connection's newest request, which may still wait for its turn."""
        answer = self._answer
        if not answer.response_complete:
            answer.disconnected = True
            answer.message_event.set()
        if self.on_gone is not None:
            self.on_gone()

    def cut(self) -> None:
        """Ends the connection at once: closed, it would wait for a client that reads nothing to take what has been written."""
        self._answer.disconnected = True
        self._answer.transport.abort()

    @property
    def may_begin(self) -> bool:
        """Whether `begin` may be called: nothing has been said, and nothing has to be waited for."""
        answer = self._answer
        return not (answer.response_started or answer.disconnected or answer.flow.write_paused)

    def begin(self, headers: Iterable[tuple[bytes, bytes]], data: bytes) -> None:
        """Writes the head of a 200 and the first piece of its body at once, which uvicorn's own `send` writes one after the other.

        Args:
            headers: Names and values without line breaks; none says how long the answer is.
            data: Not empty.
        """
        answer = self._answer
        answer.response_started, answer.waiting_for_100_continue, answer.chunked_encoding = True, False, True
        lines = [STATUS_LINE[200]]
        for name, value in answer.default_headers:
            lines += (name, b": ", value, b"\r\n")
        for name, value in headers:
            if name == b"connection":
                answer.keep_alive = False  # all that is ever said of it
            else:
                lines += (name, b": ", value, b"\r\n")
        if not answer.keep_alive:
            lines.append(b"connection: close\r\n")
        lines += (b"transfer-encoding: chunked\r\n\r\n%x\r\n" % len(data), data, b"\r\n")
        answer.transport.write(b"".join(lines))

    def push(self, data: bytes) -> bool:
        """Writes a piece of the answer's body, as uvicorn's own `send` does that has nothing to wait for; says False where it would wait."""
        answer = self._answer
        if not answer.chunked_encoding or answer.response_complete or answer.disconnected or answer.flow.write_paused:
            return False
        if data:  # an empty piece would be the end
            answer.transport.write(b"%x\r\n%b\r\n" % (len(data), data))
        return True

    def body(self) -> bytes | None:
        """Takes the request's body where all of it is here, as nearly every message's is; None: `receive` has to be awaited."""
        answer = self._answer
        if answer.more_body or answer.waiting_for_100_continue or answer.disconnected or answer.response_complete:
            return None
        answer.flow.resume_reading()
        answer.message_event.clear()
        body, answer.body = bytes(answer.body), bytearray()
        return body


def unread_bytes(transport: asyncio.Transport) -> int:
    """Returns how much of what has been written the other side's machine has not taken yet, of an open connection."""
    unread: int = transport.get_write_buffer_size()
    with contextlib.suppress(OSError):  # some systems do not tell
        queued = fcntl.ioctl(transport.get_extra_info("socket").fileno(), termios.TIOCOUTQ, bytes(4))
        unread += struct.unpack("i", queued)[0]
    return unread
