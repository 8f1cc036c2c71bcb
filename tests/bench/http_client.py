"""An HTTP/1.1 client that keeps what it receives and when, and understands no more than it must to see the end."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from tests.bench.answers import BEGIN
from tests.bench.wire import Piece

_CHUNKED_END = b"0\r\n\r\n"
_CHUNKED = -1
_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)


@dataclass(slots=True)
class Exchange:
    """One request and what came back.

    Attributes:
        asked_ns: Just before the request was written.
        pieces: What was received, and when.
        begun: The first text has come.
        ended: Nothing more will come.
        failure: Why it ended early, in a few words.
    """

    asked_ns: int = 0
    pieces: list[Piece] = field(default_factory=list)
    begun: asyncio.Event = field(default_factory=asyncio.Event)
    ended: asyncio.Event = field(default_factory=asyncio.Event)
    failure: str = ""

    def end(self, failure: str = "") -> None:
        """Notes that nothing more will come."""
        self.failure = failure
        self.begun.set()
        self.ended.set()


class HttpClient(asyncio.Protocol):
    """One keep-alive connection; one exchange at a time."""

    def __init__(self) -> None:
        self._transport: Any = None
        self._exchange: Exchange | None = None
        self._head = self._tail = b""
        self._left: int | None = None

    @classmethod
    async def connect(cls, host: str, port: int) -> HttpClient:
        """Opens a connection. Raises: OSError."""
        _, client = await asyncio.get_running_loop().create_connection(cls, host, port)
        return client

    def ask(self, request: bytes) -> Exchange:
        """Writes a request and returns what will hold its answer."""
        exchange = self._exchange = Exchange()
        self._head = self._tail = b""
        self._left = None
        if self._transport is None:
            exchange.end("connection lost between turns")
            self._exchange = None
            return exchange
        exchange.asked_ns = time.monotonic_ns()
        self._transport.write(request)
        return exchange

    def close(self) -> None:
        """Drops the connection at once."""
        if self._transport is not None:
            self._transport.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        now_ns = time.monotonic_ns()
        exchange = self._exchange
        if exchange is None:
            return
        exchange.pieces.append((now_ns, data))
        if self._left is None:
            data = self._read_head(data)
        if not exchange.begun.is_set() and BEGIN in data:
            exchange.begun.set()
        if self._left == _CHUNKED:
            # A body's last bytes may come in pieces; nothing else in it looks like them, for frames end otherwise.
            self._tail = (
                (self._tail + data)[-len(_CHUNKED_END) :]
                if len(data) < len(_CHUNKED_END)
                else data[-len(_CHUNKED_END) :]
            )
            over = self._tail == _CHUNKED_END
        else:
            self._left = None if self._left is None else self._left - len(data)
            over = self._left == 0
        if over:
            self._exchange = None
            exchange.end()

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        if self._exchange is not None:
            self._exchange.end(f"connection lost: {exc}" if exc else "connection lost")
            self._exchange = None

    def _read_head(self, data: bytes) -> bytes:
        """Learns from a response's head how its body ends; returns what has come of the body."""
        head, whole, body = (self._head + data).partition(b"\r\n\r\n")
        if not whole:
            self._head = head
            return b""
        length = _LENGTH.search(head)
        self._left = _CHUNKED if length is None else int(length[1])
        return body


def request(method: str, path: str, body: bytes = b"", *, bearer: str = "", headers: Sequence[str] = ()) -> bytes:
    """Spells an HTTP request with a JSON body, ready to be written."""
    lines = [f"{method} {path} HTTP/1.1", "host: 127.0.0.1", f"content-length: {len(body)}", *headers]
    if body:
        lines.append("content-type: application/json")
    if bearer:
        lines.append(f"authorization: Bearer {bearer}")
    return "\r\n".join([*lines, "", ""]).encode() + body
