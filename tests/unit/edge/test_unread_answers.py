"""Answers that their clients do not read, over a real socket, on the loop that serves as well."""

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from typing import Any

import pytest
from prometheus_client import REGISTRY
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from runtime.errors import ParleyError
from services.edge.server import HttpServer
from services.edge.streams import PushedStream, Streams
from services.edge.wire import unread_bytes
from tests.unit.edge.listening import connections_of, listening

Run = Callable[[Coroutine[Any, Any, None]], None]
GET = b"GET / HTTP/1.1\r\nhost: x\r\n\r\n"
CLOSING = b"GET / HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n"


class Edge:
    """A server of one connection at a time, whose socket takes little."""

    def __init__(self, app: ASGIApp, stalled_reader_s: float) -> None:
        self._app = app
        self.under_way = 0
        self.begun = asyncio.Event()
        self.server = HttpServer(
            self, "127.0.0.1:0", max_connections=10, head_timeout_s=60, stalled_reader_s=stalled_reader_s
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        socket_ = self.connection.transport.get_extra_info("socket")
        socket_.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
        self.under_way += 1
        self.begun.set()
        try:
            await self._app(scope, receive, send)
        finally:
            self.under_way -= 1

    @property
    def connections(self) -> set[Any]:
        return connections_of(self.server)

    @property
    def connection(self) -> Any:
        (connection,) = self.connections
        return connection

    async def has_let_go(self) -> None:
        while self.connections or self.under_way:  # noqa: ASYNC110 - uvicorn's own, which tells nobody
            await asyncio.sleep(0.01)

    async def waits(self) -> None:
        """Returns once more has been written than is taken."""
        await self.begun.wait()
        while not self.connection.transport.get_write_buffer_size():  # noqa: ASYNC110 - the same
            await asyncio.sleep(0)


@contextlib.asynccontextmanager
async def serving(app: ASGIApp, *, stalled_reader_s: float = 60) -> AsyncIterator[Edge]:
    edge = Edge(app, stalled_reader_s)
    async with listening(edge.server):
        yield edge


@contextlib.contextmanager
def client(edge: Edge, said: bytes) -> Iterator[socket.socket]:
    """Connects, and takes few bytes that are not read."""
    with socket.socket() as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        connection.connect(("127.0.0.1", edge.server.port))
        connection.sendall(said)
        connection.setblocking(False)
        yield connection


def cut() -> float:
    return REGISTRY.get_sample_value("parley_edge_connections_cut_total") or 0.0


@pytest.mark.parametrize("length", [40_000, 4_000_000], ids=["some", "much"])
@pytest.mark.parametrize("said", [GET, CLOSING, GET * 5], ids=["kept", "closed", "in line"])
def test_a_client_that_does_not_read_its_answer_loses_its_connection(run: Run, said: bytes, length: int) -> None:
    """Also where so little waits that the next one is written too, and where the server has closed, which waits for ever."""

    async def work() -> None:
        before = cut()
        async with serving(Response(b"x" * length), stalled_reader_s=0.1) as edge:
            with client(edge, said):
                await edge.begun.wait()
                await edge.has_let_go()
        assert cut() == before + 1

    run(work())


def test_a_client_is_not_cut_as_long_as_it_reads(run: Run) -> None:
    """However long that takes, nor where it then has nothing to read."""
    length = 400_000

    async def work() -> None:
        async with serving(Response(b"x" * length)) as edge:
            with client(edge, GET) as connection:
                await edge.waits()
                now, got = 0.0, b""
                while got.count(b"x") < length:
                    edge.connection.look(now, 1.0)
                    now += 2.0
                    unread = unread_bytes(edge.connection.transport)
                    while got.count(b"x") < length and unread_bytes(edge.connection.transport) == unread:
                        got += await asyncio.get_running_loop().sock_recv(connection, 4096)
                        await asyncio.sleep(0)
                for idle in range(3):
                    edge.connection.look(now + idle, 1.0)
                assert not edge.connection.transport.is_closing()

    run(work())


def test_what_was_read_before_does_not_help_whoever_reads_no_more(run: Run) -> None:
    async def work() -> None:
        async with serving(Response(b"x" * 400_000)) as edge:
            with client(edge, GET) as connection:
                await edge.waits()
                edge.connection.look(0.0, 1.0)
                unread = unread_bytes(edge.connection.transport)
                while unread_bytes(edge.connection.transport) == unread:
                    await asyncio.get_running_loop().sock_recv(connection, 4096)
                edge.connection.look(2.0, 1.0)
                assert not edge.connection.transport.is_closing()
                edge.connection.look(3.0, 1.0)
                await edge.has_let_go()

    run(work())


class Long(PushedStream):
    """Tells more than is taken."""

    async def relay(self) -> None:
        while True:
            await self.write(b"x" * 65_536, 1)

    def farewell(self, error: ParleyError | None) -> bytes:
        return b""


def test_a_streams_reader_is_the_streams_affair(run: Run) -> None:
    """Which tells how it ended."""

    async def work() -> None:
        streams = Streams(limit=1, heartbeat_s=60, stalled_reader_s=60)

        async def answer(scope: Scope, receive: Receive, send: Send) -> None:
            await Long(streams)(scope, receive, send)

        async with serving(answer) as edge:
            with client(edge, GET):
                await edge.waits()
                for now in range(3):
                    edge.connection.look(float(now), 1.0)
                assert not edge.connection.transport.is_closing()

    run(work())
