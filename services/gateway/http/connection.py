"""One connection to a provider: a request goes out, and its answer is taken as it arrives."""

from __future__ import annotations

import asyncio
import functools
from typing import TYPE_CHECKING, TypeAlias, cast

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

MAX_HEAD_BYTES = 64 * 1024
"""Longest head of an answer; trailers are held to it too."""
_FULL_BYTES = 256 * 1024
_MAX_SIZE_LINE = 1024
_SHORT_LINE = 10
_HEX = frozenset(b"0123456789abcdefABCDEF")
_NO_BODY = {204, 304}

Tap: TypeAlias = "Callable[[bytes], bool]"
"""Takes bytes at the moment they arrive, or refuses them; it waits for nothing."""


class Malformed(ConnectionError):
    """The answer is not HTTP/1.1 as it should be."""


class Broken(ConnectionError):
    """The connection ended before the answer did; `silent`: without a byte of it."""

    def __init__(self, *, silent: bool) -> None:
        super().__init__("the connection ended before the answer did")
        self.silent = silent


# How it is told where a body ends; plain numbers, since they are looked at with every chunk.
_NONE, _LENGTH, _CHUNKED, _TRAILERS, _CLOSE = range(5)


class Connection(asyncio.Protocol):
    """A connection, on which one exchange follows the other.

    Bytes that arrive wait here until they are asked for; when too many do, the provider waits.

    Args:
        lost: Told when the connection is no more.

    Attributes:
        status: Of the answer at hand.
        headers: Of the answer at hand, by lower-case names.
        open: It may be written to.
    """

    def __init__(self, lost: Callable[[Connection], None]) -> None:
        self._lost = lost
        self._transport: asyncio.Transport | None = None
        self._raw = b""
        self._silent = True
        self._paused = False
        self._waiter: asyncio.Future[None] | None = None
        self._tap: Tap | None = None
        self._refused = b""
        self._body = _NONE
        self._left = 0
        self._after_chunk = False
        self._lasting = True
        self.status = 0
        self.headers: Mapping[str, str] = {}
        self.open = False

    @property
    def reusable(self) -> bool:
        """The answer was read to its end, and another request may follow."""
        return self.open and self._lasting and self.over and not self._raw

    @property
    def used(self) -> bool:
        """It has answered before."""
        return self.status > 0

    @property
    def over(self) -> bool:
        """Nothing of the answer is left to be read."""
        return self._body == _NONE and not self._refused

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keeps the transport."""
        self._transport = cast("asyncio.Transport", transport)
        self.open = True

    def connection_lost(self, _: Exception | None) -> None:
        """Tells the owner, and whoever waits."""
        self.open = False
        self._wake()
        self._lost(self)

    def eof_received(self) -> bool:
        """Takes the end of what the provider says for the end of the connection."""
        self.open = False
        self._wake()
        return False

    def data_received(self, data: bytes) -> None:
        """Keeps what has arrived, unless whoever waits for it has it taken here."""
        raw = self._raw
        self._raw = raw + data if raw else data
        waiter = self._waiter
        if waiter is not None and not waiter.done() and (self._tap is None or not self._pour(self._tap, waiter)):
            waiter.set_result(None)
        if len(self._raw) > _FULL_BYTES and not self._paused and self._transport is not None:
            self._paused = True
            self._transport.pause_reading()

    async def ask(self, request: bytes, body: bytes) -> None:
        """Sends a request and takes the head of its answer.

        Args:
            request: Its head.
            body: What follows it.

        Raises: Malformed; Broken.
        """
        if not self.open or self._transport is None:
            raise Broken(silent=True)
        self._silent = True
        # One write is one packet, for all but long prompts.
        self._transport.write(request + body)
        while True:
            end = self._raw.find(b"\r\n\r\n")
            if end >= 0:
                head, self._raw = self._raw[:end], self._raw[end + 4 :]
                self._read_head(head)
                if self.status >= 200:  # noqa: PLR2004 - what comes before is about the answer to come
                    return
            elif len(self._raw) > MAX_HEAD_BYTES:
                raise Malformed
            else:
                await self._more()

    async def read(self, tap: Tap | None = None) -> bytes:
        """Returns all of the body that has arrived, at least a byte; nothing at its end.

        Args:
            tap: Is offered what arrives while this waits. What it takes is not returned, and what it refuses is.

        Raises: Malformed; Broken; what the tap raises.
        """
        while True:
            if self._refused:
                data, self._refused = self._refused, b""
                return data
            if self._raw and self._body != _NONE and (data := self._take()):
                if self._paused and self._transport is not None:
                    self._paused = False
                    self._transport.resume_reading()
                return data
            if self._body == _CLOSE and not self.open:
                self._body = _NONE
            if self._body == _NONE:
                return b""
            self._tap = tap
            try:
                await self._more()
            finally:
                self._tap = None

    def close(self) -> None:
        """Drops the connection at once."""
        self.open = False
        if self._transport is not None:
            self._transport.abort()

    async def _more(self) -> None:
        if not self.open:
            raise Broken(silent=self._silent and not self._raw)
        self._waiter = asyncio.get_running_loop().create_future()
        try:
            await self._waiter
        finally:
            self._waiter = None
        self._silent = self._silent and not self._raw

    def _pour(self, tap: Tap, waiter: asyncio.Future[None]) -> bool:
        """Offers a tap what has arrived of the body; returns whether the reader need not be woken up for it."""
        try:
            # As `_take` begins; written out, since nearly every token there is comes here.
            if (
                self._body == _CHUNKED
                and not self._left
                and not self._after_chunk
                and (data := _whole_chunk(self._raw))
            ):
                self._raw = b""
            else:
                data = self._take()
            if data and not tap(data):
                self._refused = data
                return False
        except Exception as error:  # noqa: BLE001 - raised where the reader waits
            waiter.set_exception(error)
            return True
        return self._body != _NONE

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def _read_head(self, head: bytes) -> None:
        first, *lines = head.decode("latin-1").split("\r\n")
        version, _, rest = first.partition(" ")
        status = rest[:3]
        if version not in {"HTTP/1.1", "HTTP/1.0"} or not status.isdecimal():
            raise Malformed
        headers: dict[str, str] = {}
        for line in lines:
            name, colon, value = line.partition(":")
            if not colon or not name or name != name.strip():
                raise Malformed
            name, value = name.lower(), value.strip()
            headers[name] = f"{headers[name]}, {value}" if name in headers else value
        self.status, self.headers = int(status), headers
        # A body that is only over with the connection takes the connection with it.
        self._lasting = version == "HTTP/1.1" and "close" not in headers.get("connection", "").lower()
        self._find_body(headers)

    def _find_body(self, headers: Mapping[str, str]) -> None:
        self._after_chunk = False
        self._left = 0
        if coding := headers.get("transfer-encoding", "").lower():
            if coding != "chunked":
                raise Malformed
            self._body = _CHUNKED
        elif self.status < 200 or self.status in _NO_BODY:  # noqa: PLR2004 - as above
            self._body = _NONE
        elif (length := headers.get("content-length")) is not None:
            if not length.isdecimal() or not length.isascii():
                raise Malformed
            self._left = int(length)
            self._body = _LENGTH if self._left else _NONE
        else:
            self._lasting = False
            self._body = _CLOSE

    def _take(self) -> bytes:
        """Returns what of the body has arrived, which may be nothing."""
        raw = self._raw
        if self._body in {_CHUNKED, _TRAILERS}:
            by_itself = self._body == _CHUNKED and not self._left and not self._after_chunk
            if by_itself and (whole := _whole_chunk(raw)):
                self._raw = b""
                return whole
            pieces: list[bytes] = []
            return self._take_chunks(pieces, _whole_chunks(raw, pieces) if by_itself else 0)
        if self._body == _CLOSE:
            self._raw = b""
            return raw
        data, self._raw = raw[: self._left], raw[self._left :]
        self._left -= len(data)
        if not self._left:
            self._body = _NONE
        return data

    def _take_chunks(self, pieces: list[bytes], at: int) -> bytes:
        """Returns what has arrived of chunks, from a place on, after the pieces from before it."""
        raw = self._raw
        while self._body == _CHUNKED:
            if self._left:
                piece = raw[at : at + self._left]
                if not piece:
                    break
                pieces.append(piece)
                at += len(piece)
                self._left -= len(piece)
                if not self._left:
                    self._after_chunk = raw[at : at + 2] != b"\r\n"
                    at += 0 if self._after_chunk else 2
                continue
            begin = at + 2 if self._after_chunk else at
            end = raw.find(b"\r\n", begin)
            if end < 0 or (self._after_chunk and raw[at:begin] != b"\r\n"):
                if len(raw) - at > _MAX_SIZE_LINE or (len(raw) >= begin > at and raw[at:begin] != b"\r\n"):
                    raise Malformed
                break
            size = raw[begin:end].partition(b";")[0].strip()
            if not size or len(size) > 8 or not _HEX.issuperset(size):  # noqa: PLR2004 - 4 GiB
                raise Malformed
            self._left, self._after_chunk, at = int(size, 16), False, end + 2
            if not self._left:
                self._body = _TRAILERS
        self._raw = raw[at:]
        if self._body == _TRAILERS:
            self._pass_trailers()
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    def _pass_trailers(self) -> None:
        while (end := self._raw.find(b"\r\n")) >= 0:
            self._raw = self._raw[end + 2 :]
            if not end:
                self._body = _NONE
                return
        if len(self._raw) > MAX_HEAD_BYTES:
            raise Malformed


def _whole_chunk(raw: bytes) -> bytes:
    """Returns what a chunk holds that is whole and by itself, as nearly every read of a stream is; nothing for anything else."""
    end = raw.find(b"\r\n", 0, _SHORT_LINE)
    if end <= 0 or not raw.endswith(b"\r\n"):
        return b""
    size = _size(raw[:end])
    return raw[end + 2 : -2] if size and len(raw) == end + size + 4 else b""


def _whole_chunks(raw: bytes, pieces: list[bytes]) -> int:
    """Adds what the chunks hold that are whole and spelt in the shortest way; returns where the first begins that is not."""
    at = 0
    while (end := raw.find(b"\r\n", at, at + _SHORT_LINE)) > at and (size := _size(raw[at:end])):
        after = end + 2 + size
        if raw[after : after + 2] != b"\r\n":
            break
        pieces.append(raw[end + 2 : after])
        at = after + 2
    return at


@functools.lru_cache(maxsize=1024)
def _size(line: bytes) -> int:
    """Returns the size that the first line of a chunk tells; 0 where it tells none or more. Those of a stream's chunks are nearly all the same."""
    return int(line, 16) if _HEX.issuperset(line) else 0
