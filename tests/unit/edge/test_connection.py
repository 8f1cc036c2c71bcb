"""The bounds of a connection, over a real socket."""

import asyncio
import contextlib
import contextvars
import weakref
from collections.abc import AsyncIterator

import pytest
from starlette.types import Receive, Scope, Send

from services.edge.connection import MAX_HEAD_BYTES
from services.edge.server import HttpServer
from services.edge.wire import WIRE, Signal

GET = b"GET / HTTP/1.1\r\nhost: x\r\n"
Client = tuple[asyncio.StreamReader, asyncio.StreamWriter]


class App:
    """Answers `hello`, in two pieces; the second waits while `go_on` is cleared."""

    def __init__(self) -> None:
        self.requests = 0
        self.go_on = asyncio.Event()
        self.go_on.set()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.requests += 1
        while (await receive()).get("more_body", False):
            pass
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"5")]})
        await send({"type": "http.response.body", "body": b"hel", "more_body": True})
        await self.go_on.wait()
        await send({"type": "http.response.body", "body": b"lo", "more_body": False})


@pytest.fixture
async def app() -> App:
    return App()


@contextlib.asynccontextmanager
async def serving(app: App, *, max_connections: int = 100, head_timeout_s: float = 60) -> AsyncIterator[HttpServer]:
    server = HttpServer(
        app, "127.0.0.1:0", max_connections=max_connections, head_timeout_s=head_timeout_s, stalled_reader_s=60
    )
    await server.start()
    try:
        yield server
    finally:
        await server.stop()


@contextlib.asynccontextmanager
async def client(server: HttpServer) -> AsyncIterator[Client]:
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    try:
        yield reader, writer
    finally:
        writer.transport.abort()


async def pour(writer: asyncio.StreamWriter, piece: bytes) -> int:
    """Writes `piece` until the other side closes, or 8 MiB are written; returns the bytes written."""
    written = 0
    with contextlib.suppress(ConnectionError):
        while written < 8 * 1024 * 1024 and not writer.is_closing():
            writer.write(piece)
            await writer.drain()
            written += len(piece)
    return written


async def answer(reader: asyncio.StreamReader) -> bytes:
    """What came until the end of the connection, or its reset."""
    got = b""
    with contextlib.suppress(ConnectionError):
        while data := await reader.read(65_536):
            got += data
    return got


@pytest.mark.parametrize(
    ("begin", "piece"),
    [
        (b"GET /", b"x" * 1024),
        (GET + b"x-long: ", b"x" * 1024),
        (GET, b"x-many: 1\r\n" * 100),
        (b"", b"\r\n" * 500),
        (b"POST / HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n0\r\n", b"x-trailer: 1\r\n" * 100),
        (b"POST / HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n1;", b"x" * 1024),
    ],
    ids=["path", "header", "headers", "empty lines", "trailers", "chunk extension"],
)
async def test_what_has_no_end_is_cut(app: App, begin: bytes, piece: bytes) -> None:
    async with serving(app) as server, client(server) as (_, writer):
        writer.write(begin)
        assert await pour(writer, piece) < 8 * 1024 * 1024


@pytest.mark.parametrize("pieces", [1, 4])
async def test_a_head_that_is_too_long_is_refused_in_words(app: App, pieces: int) -> None:
    """Also where a single read brings all of it."""
    head = GET + b"x-long: " + b"x" * MAX_HEAD_BYTES + b"\r\n\r\n"
    async with serving(app) as server, client(server) as (reader, writer):
        size = -(-len(head) // pieces)
        for at in range(0, len(head), size):
            writer.write(head[at : at + size])
            await writer.drain()
        told = await answer(reader)
    assert told.startswith(b"HTTP/1.1 400 ")
    assert b"application/problem+json" in told
    assert b"too long" in told
    assert app.requests == 0


async def test_a_long_head_within_the_bound_is_answered(app: App) -> None:
    head = GET + b"x-long: " + b"x" * (MAX_HEAD_BYTES - 1024) + b"\r\n\r\n"
    async with serving(app) as server, client(server) as (reader, writer):
        for _ in range(3):
            writer.write(head)
            assert (await reader.readuntil(b"hello")).startswith(b"HTTP/1.1 200 ")


async def test_a_body_is_not_counted_as_head(app: App) -> None:
    body = b"x" * (4 * MAX_HEAD_BYTES)
    post = b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: %d\r\n\r\n" % len(body) + body
    async with serving(app) as server, client(server) as (reader, writer):
        writer.write(post + GET)
        await reader.readuntil(b"hello")
        writer.write(b"\r\n")
        assert (await reader.readuntil(b"hello")).startswith(b"HTTP/1.1 200 ")


@pytest.mark.parametrize(
    ("kept", "begin"),
    [(False, b""), (False, b"\r\n"), (False, GET), (True, b"\r\n"), (True, GET)],
    ids=["nothing", "empty line", "half a head", "kept, empty line", "kept, half a head"],
)
async def test_a_head_that_does_not_come_ends_the_connection(app: App, kept: bool, begin: bytes) -> None:
    async with serving(app, head_timeout_s=0.05) as server, client(server) as (reader, writer):
        if kept:
            writer.write(GET + b"\r\n")
            await reader.readuntil(b"hello")
        writer.write(begin)
        async with asyncio.timeout(5):
            assert await reader.read() == b""


async def test_an_answer_under_way_outlasts_what_comes_after_its_request(app: App) -> None:
    """Some clients end a body with an empty line too many."""
    app.go_on.clear()
    async with serving(app, head_timeout_s=0.01) as server, client(server) as (reader, writer):
        writer.write(GET + b"\r\n")
        await reader.readuntil(b"hel")
        writer.write(b"\r\n")
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(reader.read(1), 0.1)
        app.go_on.set()
        assert await reader.readexactly(2) == b"lo"


async def test_connections_beyond_the_bound_are_refused_and_a_place_is_given_back(app: App) -> None:
    async with serving(app, max_connections=1) as server:
        async with client(server) as (reader, writer):
            writer.write(GET + b"\r\n")
            await reader.readuntil(b"hello")
            async with client(server) as (refused, _):
                told = await answer(refused)
            assert told.startswith(b"HTTP/1.1 503 ")
            assert b"retry-after: 1" in told
            writer.write(GET + b"connection: close\r\n\r\n")
            assert (await reader.read()).endswith(b"hello")
        async with client(server) as (reader, writer):
            writer.write(GET + b"\r\n")
            assert (await reader.readuntil(b"hello")).startswith(b"HTTP/1.1 200 ")


class Pushing(App):
    """Answers `hello` and what can be pushed after it; `refused` is set once that is no more."""

    def __init__(self, piece: bytes) -> None:
        super().__init__()
        self.piece = piece
        self.pushed = 0
        self.refused = asyncio.Event()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        push = scope[WIRE].push
        assert not push(b"before there is an answer")
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"hello", "more_body": True})
        assert push(b""), "nothing is said, and nothing ended"
        while self.pushed < 100_000 and push(self.piece):
            self.pushed += 1
            if len(self.piece) < 10 and self.pushed == 3:
                break
        self.refused.set()
        await self.go_on.wait()
        await send({"type": "http.response.body", "body": b"", "more_body": False})
        assert not push(b"after the end")


async def test_pieces_that_are_pushed_are_part_of_the_answer() -> None:
    async with serving(Pushing(b"!")) as server, client(server) as (reader, writer):
        writer.write(GET + b"connection: close\r\n\r\n")
        assert (await answer(reader)).endswith(b"5\r\nhello\r\n1\r\n!\r\n1\r\n!\r\n1\r\n!\r\n0\r\n\r\n")


class Beginning(App):
    """Answers `hello`: at `/at-once` its head and first piece together, elsewhere in uvicorn's way."""

    def __init__(self, *headers: tuple[bytes, bytes]) -> None:
        super().__init__()
        self.headers = list(headers)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        wire = scope[WIRE]
        assert wire.may_begin
        if scope["path"] == "/at-once":
            wire.begin(self.headers, b"hello")
        else:
            await send({"type": "http.response.start", "status": 200, "headers": self.headers})
            await send({"type": "http.response.body", "body": b"hello", "more_body": True})
        assert not wire.may_begin
        await send({"type": "http.response.body", "body": b"", "more_body": False})


@pytest.mark.parametrize("headers", [[(b"a", b"1"), (b"b", b"2")], [(b"connection", b"close")]])
@pytest.mark.parametrize("asked", [b"", b"connection: close\r\n"])
async def test_a_head_that_leaves_with_the_first_piece_is_the_one_uvicorn_writes(
    headers: list[tuple[bytes, bytes]], asked: bytes
) -> None:
    """And the connection is kept or closed alike."""
    told = []
    async with serving(Beginning(*headers)) as server:
        for path in (b"/at-once", b"/"):
            async with client(server) as (reader, writer):
                writer.write(b"GET %b HTTP/1.1\r\nhost: x\r\n%b\r\n" % (path, asked))
                head, body = await reader.readuntil(b"\r\n\r\n"), await reader.readuntil(b"0\r\n\r\n")
                closed = (asked or headers[0][0] == b"connection") and await reader.read() == b""
                told.append(
                    (sorted(line for line in head.split(b"\r\n") if not line.startswith(b"date")), body, closed)
                )
    assert told[0] == told[1]
    assert told[0][1] == b"5\r\nhello\r\n0\r\n\r\n"


async def test_nothing_is_pushed_at_a_client_that_does_not_read() -> None:
    """And what was pushed before is there when it does."""
    app = Pushing(b"x" * 65_536)
    async with serving(app) as server, client(server) as (reader, writer):
        writer.write(GET + b"connection: close\r\n\r\n")
        await app.refused.wait()
        assert 0 < app.pushed < 1_000
        assert (await answer(reader)).count(app.piece) == app.pushed


class Waiting(App):
    """Takes bodies as far as they are here, and answers once the client goes or more is sent."""

    def __init__(self) -> None:
        super().__init__()
        self.bodies: list[bytes | None] = []
        self.begun = asyncio.Event()
        self.gone = asyncio.Event()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        wire = scope[WIRE]
        wire.on_gone = self.gone.set
        self.bodies.append(wire.body())
        self.begun.set()
        if self.bodies[-1] is None:
            while (message := await receive())["more_body"]:
                pass
            self.bodies.append(message["body"])
        await self.go_on.wait()
        if not wire.gone:
            await send({"type": "http.response.start", "status": 204, "headers": []})
            await send({"type": "http.response.body"})


POST = b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 4\r\n\r\n"


async def test_a_body_that_came_with_its_head_is_taken_at_once() -> None:
    app = Waiting()
    async with serving(app) as server, client(server) as (reader, writer):
        writer.write(POST + b"body")
        assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 204 ")
        assert app.bodies == [b"body"]
        app.begun.clear()
        writer.write(POST)
        await app.begun.wait()
        writer.write(b"more")
        await reader.readuntil(b"\r\n\r\n")
        assert app.bodies == [b"body", None, b"more"]


async def test_an_answer_is_told_when_its_client_goes() -> None:
    app = Waiting()
    app.go_on.clear()
    async with serving(app) as server:
        async with client(server) as (_, writer):
            writer.write(POST + b"body")
            await app.begun.wait()
            assert not app.gone.is_set()
        await app.gone.wait()
        app.go_on.set()


async def test_a_signal_is_waited_for_as_an_event_is() -> None:
    signal = Signal()
    waiting = [asyncio.create_task(signal.wait()) for _ in range(2)]
    await asyncio.sleep(0)
    signal.set()
    await asyncio.gather(*waiting)
    await signal.wait()
    signal.clear()
    again = asyncio.create_task(signal.wait())
    await asyncio.sleep(0)
    assert not again.done()
    signal.set()
    await again


class Known:
    """What a request's context holds, as its credential."""


_KNOWN: contextvars.ContextVar[Known] = contextvars.ContextVar("known")


async def test_an_idle_connection_keeps_nothing_of_its_last_request() -> None:
    """It may be idle for longer than the request took."""

    class Knowing(App):
        async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
            known = Known()
            held.append(weakref.ref(known))
            _KNOWN.set(known)
            await super().__call__(scope, receive, send)

    held = list[weakref.ref[Known]]()
    async with serving(Knowing()) as server, client(server) as (reader, writer):
        writer.write(GET + b"\r\n")
        await reader.readuntil(b"hello")
        async with asyncio.timeout(5):
            while held[0]() is not None:  # noqa: ASYNC110 - it is told by no event
                await asyncio.sleep(0.01)
