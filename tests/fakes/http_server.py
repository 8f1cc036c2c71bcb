"""A small HTTP/1.1 server that tells when its client hangs up and can break a connection off wherever it is told."""

from __future__ import annotations

import asyncio
import http
import json
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Self, cast

import httptools

from tests import listening

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable


@dataclass(eq=False)
class Request:
    """A request as it came in, and how it ended.

    Attributes:
        number: From 1, in order of arrival.
        method: Of HTTP.
        path: Without the query.
        query: The query, undecoded.
        headers: Names in lower case.
        raw: The body.
        answered: The answer has been sent whole (or broken off as the script wanted).
        closed_early: The client closed the connection before that.
        closed_at: When the connection was lost, `time.monotonic()`.
        answer_began_at: When the first byte of the answer was written, `time.monotonic()`.
    """

    number: int
    method: str
    path: str
    query: str = ""
    headers: dict[str, str] = field(default_factory=dict)
    raw: bytes = b""
    answered: bool = False
    closed_early: bool = False
    closed_at: float | None = None
    answer_began_at: float | None = None

    @property
    def body(self) -> Any:
        """The body as JSON; None when it is none."""
        try:
            return json.loads(self.raw)
        except ValueError:
            return None


_KNOWN = {status.value for status in http.HTTPStatus}


class Gone(Exception):
    """The client is no longer there."""


class Exchange:
    """One request and the means to answer it."""

    def __init__(self, request: Request, connection: _Connection) -> None:
        self.request = request
        self._connection = connection

    @property
    def deaf(self) -> bool:
        """Whether the client's goodbye is not heard: writing goes on until the connection breaks."""
        return self._connection.deaf

    @deaf.setter
    def deaf(self, deaf: bool) -> None:
        self._connection.deaf = deaf

    async def start(self, status: int, headers: dict[str, str], *, length: int | None = None) -> None:
        """Sends status and headers; without `length` the body follows in chunks."""
        reason = http.HTTPStatus(status).phrase if status in _KNOWN else "Scripted"
        lines = [f"HTTP/1.1 {status} {reason}", *(f"{name}: {value}" for name, value in headers.items())]
        lines.append("transfer-encoding: chunked" if length is None else f"content-length: {length}")
        self.request.answer_began_at = time.monotonic()
        await self._connection.write(("\r\n".join(lines) + "\r\n\r\n").encode())

    async def send(self, data: bytes, *, split: int = 0) -> None:
        """Sends a chunk of the body, in network writes of at most `split` bytes."""
        for at in range(0, len(data), split or len(data) or 1):
            part = data[at : at + (split or len(data))]
            await self._connection.write(b"%x\r\n%b\r\n" % (len(part), part))
            if split:
                # Two turns of the loop, so that the writes really leave one by one.
                await asyncio.sleep(0)
                await asyncio.sleep(0)

    async def finish(self) -> None:
        """Ends a body that was sent in chunks."""
        await self._connection.write(b"0\r\n\r\n")

    async def reply(self, status: int, body: bytes, content_type: str, headers: dict[str, str] | None = None) -> None:
        """Sends a whole answer."""
        await self.start(status, {"content-type": content_type, **(headers or {})}, length=len(body))
        if body:
            await self._connection.write(body)

    async def until_closed(self) -> None:
        """Waits for the client to leave."""
        await self._connection.closed.wait()
        raise Gone

    def abort(self) -> None:
        """Breaks the connection off; what was written before still leaves."""
        self._connection.close()


class _Connection(asyncio.Protocol):
    def __init__(self, server: HttpServer) -> None:
        self._server = server
        self._parser: Any = httptools.HttpRequestParser(self)
        self._transport: asyncio.Transport | None = None
        self._writable = asyncio.Event()
        self._writable.set()
        self._current: Request | None = None
        self._task: asyncio.Task[None] | None = None
        self._url = b""
        self._headers: dict[str, str] = {}
        self._body: list[bytes] = []
        self.closed = asyncio.Event()
        self.deaf = False

    def eof_received(self) -> bool:
        """Keeps the connection half open for a server that is deaf."""
        return self.deaf

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transports are not asyncio's by class.
        self._transport = cast("asyncio.Transport", transport)
        self._server.connections.add(self)

    def connection_lost(self, exc: Exception | None) -> None:
        self._server.connections.discard(self)
        self.closed.set()
        self._writable.set()
        if self._current is not None:
            self._current.closed_at = time.monotonic()
            self._current.closed_early = not self._current.answered
            self._server.changed()
        if self._task is not None and not self._task.done():
            self._task.cancel()

    def data_received(self, data: bytes) -> None:
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError:
            self.close()

    def pause_writing(self) -> None:
        self._writable.clear()

    def resume_writing(self) -> None:
        self._writable.set()

    def on_message_begin(self) -> None:
        self._url, self._headers, self._body = b"", {}, []

    def on_url(self, url: bytes) -> None:
        self._url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        self._headers[name.decode("latin-1").lower()] = value.decode("latin-1")

    def on_body(self, body: bytes) -> None:
        self._body.append(body)

    def on_message_complete(self) -> None:
        path, _, query = self._url.decode("latin-1").partition("?")
        method = self._parser.get_method().decode()
        self._current = Request(self._server.next_number(), method, path, query, self._headers, b"".join(self._body))
        self._task = asyncio.get_running_loop().create_task(self._serve(self._current))

    async def write(self, data: bytes) -> None:
        await self._writable.wait()
        if self.closed.is_set() or self._transport is None or self._transport.is_closing():
            raise Gone
        self._transport.write(data)

    def close(self) -> None:
        if self._transport is not None:
            self._transport.close()

    async def _serve(self, request: Request) -> None:
        try:
            await self._server.handle(Exchange(request, self))
            request.answered = True
        except Gone:
            pass
        except Exception:
            # A fault of the fake must not look like a provider that is silent.
            self.close()
            raise
        finally:
            self._server.changed()


class HttpServer:
    """Serves on loopback; an async context manager.

    Args:
        handle: Answers one exchange.
        port: 0 takes a free one; known as `port` inside the block.
        changed: Called whenever a request has ended or a connection was lost.
    """

    def __init__(
        self, handle: Callable[[Exchange], Awaitable[None]], *, port: int, changed: Callable[[], None]
    ) -> None:
        self.handle = handle
        self.changed = changed
        self.port = port
        self.connections: set[_Connection] = set()
        self._numbers = 0
        self._server: asyncio.Server | None = None

    async def __aenter__(self) -> Self:
        self._server = await asyncio.get_running_loop().create_server(
            lambda: _Connection(self), "127.0.0.1", self.port, backlog=1024
        )
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._server is not None
        await listening.stop(self._server)
        for connection in list(self.connections):
            connection.close()
        await self._server.wait_closed()

    def next_number(self) -> int:
        """Returns the number of the next request, from 1."""
        self._numbers += 1
        return self._numbers
