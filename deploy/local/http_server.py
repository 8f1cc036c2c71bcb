"""A small HTTP/1.1 server for the launcher's own helpers, quick to start: httptools reads, handlers answer."""

from __future__ import annotations

import asyncio
import http
import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl

import httptools

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

_MAX_BODY_BYTES = 8 * 1024 * 1024


@dataclass
class Request:
    """A whole request.

    Attributes:
        headers: Names in lower case.
    """

    method: str = ""
    path: str = ""
    query: dict[str, str] = field(default_factory=dict)
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""


class Response:
    """How a handler answers: at once with `send`, or with `begin`, any number of `write` and `end`."""

    def __init__(self, transport: asyncio.Transport, writable: asyncio.Event) -> None:
        self._transport = transport
        self._writable = writable
        self.begun = False

    def send(self, status: int, body: bytes | str, content_type: str, headers: dict[str, str] | None = None) -> None:
        """Answers with a whole body."""
        data = body.encode() if isinstance(body, str) else body
        self._head(status, {"content-type": content_type, "content-length": str(len(data))} | (headers or {}))
        self._transport.write(data)

    def send_json(self, status: int, value: Any, headers: dict[str, str] | None = None) -> None:
        """Answers with JSON."""
        self.send(status, json.dumps(value), "application/json", headers)

    def begin(self, status: int, content_type: str) -> None:
        """Sends the head of an answer whose length is not known yet."""
        self._head(status, {"content-type": content_type, "cache-control": "no-cache", "transfer-encoding": "chunked"})

    async def write(self, data: bytes) -> None:
        """Sends a piece, waiting while the reader is behind."""
        self._transport.write(b"%x\r\n%b\r\n" % (len(data), data))
        await self._writable.wait()

    def end(self) -> None:
        """Says that nothing follows."""
        self._transport.write(b"0\r\n\r\n")

    def cut(self) -> None:
        """Breaks off in the middle, as a dying server does."""
        self._transport.abort()

    def _head(self, status: int, headers: dict[str, str]) -> None:
        self.begun = True
        lines = [f"HTTP/1.1 {status} {http.HTTPStatus(status).phrase}", *(f"{k}: {v}" for k, v in headers.items())]
        self._transport.write("\r\n".join([*lines, "", ""]).encode())


async def serve(host: str, port: int, handler: Callable[[Request, Response], Awaitable[None]]) -> asyncio.Server:
    """Listens; the handler's task is cancelled when its client goes away."""
    loop = asyncio.get_running_loop()
    return await loop.create_server(lambda: _Connection(handler), host, port)


class _Connection(asyncio.Protocol):
    """One client; its requests are answered one after the other."""

    def __init__(self, handler: Callable[[Request, Response], Awaitable[None]]) -> None:
        self._handler = handler
        self._parser = httptools.HttpRequestParser(self)
        self._writable = asyncio.Event()
        self._requests: asyncio.Queue[tuple[Request, bool]] = asyncio.Queue()
        self._request = Request()
        self._worker: asyncio.Task[None] | None = None
        self._transport: Any = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport
        self._writable.set()
        self._worker = asyncio.get_running_loop().create_task(self._answer())

    def connection_lost(self, exc: Exception | None) -> None:
        del exc
        if self._worker is not None:
            self._worker.cancel()

    def pause_writing(self) -> None:
        self._writable.clear()

    def resume_writing(self) -> None:
        self._writable.set()

    def data_received(self, data: bytes) -> None:
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade):
            self._transport.write(b"HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\nconnection: close\r\n\r\n")
            self._transport.close()

    # httptools calls these.

    def on_message_begin(self) -> None:
        self._request = Request()

    def on_url(self, url: bytes) -> None:
        self._request.path += url.decode("latin-1")

    def on_header(self, name: bytes, value: bytes) -> None:
        self._request.headers[name.decode("latin-1").lower()] = value.decode("latin-1")

    def on_body(self, body: bytes) -> None:
        self._request.body += body
        if len(self._request.body) > _MAX_BODY_BYTES:
            self._transport.abort()

    def on_message_complete(self) -> None:
        request = self._request
        request.method = self._parser.get_method().decode("latin-1")
        request.path, _, query = request.path.partition("?")
        request.query = dict(parse_qsl(query))
        self._requests.put_nowait((request, self._parser.should_keep_alive()))

    async def _answer(self) -> None:
        while True:
            request, keep_alive = await self._requests.get()
            response = Response(self._transport, self._writable)
            await self._handler(request, response)
            if not response.begun:
                response.send_json(404, {"error": {"message": f"There is no {request.method} {request.path}."}})
            if not keep_alive:
                self._transport.close()
                return
