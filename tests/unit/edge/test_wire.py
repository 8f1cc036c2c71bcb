"""Streams over a real socket, on the loop that serves as well: requests in line, clients that go, that read nothing, or that send nonsense."""

import asyncio
import contextlib
import random
import socket
from collections.abc import AsyncIterator, Callable, Coroutine
from typing import Any

import pytest
from starlette.types import Receive, Scope, Send

from runtime.errors import ParleyError
from services.edge import streams
from services.edge.connection import MAX_IN_LINE
from services.edge.server import HttpServer
from services.edge.streams import PushedStream, Streams
from tests.unit.edge.listening import connections_of, listening

Run = Callable[[Coroutine[Any, Any, None]], None]
GET = b"GET / HTTP/1.1\r\nhost: x\r\n\r\n"


class Told(PushedStream):
    """Tells what is put into `told`, by `push` where `pushing` and that can be, as a tap does."""

    opening = b": ok\n\n"

    def __init__(self, places: Streams) -> None:
        super().__init__(places, endless=True)
        self.told: asyncio.Queue[bytes | None] = asyncio.Queue()
        self.pushing = False
        self.pushed = 0
        self.ended = asyncio.Event()

    async def relay(self) -> None:
        while (data := await self.told.get()) is not None:
            if self.pushing and self.push(data, 1):
                self.pushed += 1
            else:
                await self.write(data, 1)

    def farewell(self, error: ParleyError | None) -> bytes:
        return b""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await super().__call__(scope, receive, send)
        finally:
            self.ended.set()


class Edge:
    """A server whose every answer is a stream."""

    def __init__(self, *, heartbeat_s: float = 60, stalled_reader_s: float = 60) -> None:
        self._streams = Streams(limit=100, heartbeat_s=heartbeat_s, stalled_reader_s=stalled_reader_s)
        self._begun: asyncio.Queue[Told] = asyncio.Queue()
        self.server = HttpServer(self, "127.0.0.1:0", max_connections=10, head_timeout_s=60, stalled_reader_s=60)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        stream = Told(self._streams)
        self._begun.put_nowait(stream)
        await stream(scope, receive, send)

    async def stream(self, *told: bytes | None) -> Told:
        """Returns the next one that begins."""
        stream = await self._begun.get()
        for data in told:
            stream.told.put_nowait(data)
        return stream

    @property
    def begun(self) -> int:
        return self._begun.qsize()

    @property
    def connections(self) -> set[Any]:
        return connections_of(self.server)


@contextlib.asynccontextmanager
async def serving(**bounds: float) -> AsyncIterator[Edge]:
    edge = Edge(**bounds)
    async with listening(edge.server):
        yield edge


@contextlib.asynccontextmanager
async def client(
    edge: Edge, *, small: bool = False
) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    """Connects; `small` takes few bytes that are not read."""
    with socket.socket() as connection:
        if small:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        connection.setblocking(False)
        await asyncio.get_running_loop().sock_connect(connection, ("127.0.0.1", edge.server.port))
        reader, writer = await asyncio.open_connection(sock=connection, limit=4096)
        try:
            yield reader, writer
        finally:
            writer.transport.abort()


async def answer(reader: asyncio.StreamReader) -> bytes:
    """Returns the body of the next answer, to its end."""
    await reader.readuntil(b"\r\n\r\n")
    body = b""
    while size := int(await reader.readline(), 16):
        body += (await reader.readexactly(size + 2))[:-2]
    await reader.readexactly(2)
    return body


def test_requests_in_line_are_answered_in_turn(run: Run) -> None:
    """And one that comes after them."""

    async def work() -> None:
        async with serving() as edge, client(edge) as (reader, writer):
            writer.write(GET + GET)
            first = await edge.stream(b"1")
            await reader.readuntil(b"1\r\n")
            assert edge.begun == 0
            first.told.put_nowait(None)
            assert await reader.readuntil(b"0\r\n\r\n") == b"0\r\n\r\n"
            await edge.stream(b"2", None)
            assert await answer(reader) == b": ok\n\n2"
            writer.write(GET)
            await edge.stream(b"3", None)
            assert await answer(reader) == b": ok\n\n3"

    run(work())


def test_a_client_that_goes_with_a_request_in_line_ends_the_answer_under_way(run: Run) -> None:
    """And that alone: others are kept alive as before."""

    async def work() -> None:
        async with serving(heartbeat_s=0.05) as edge, client(edge) as (other, writer):
            writer.write(GET)
            await edge.stream(b"1")
            async with client(edge) as (reader, gone):
                gone.write(GET)
                stream = await edge.stream(b"1")
                await reader.readuntil(b"1\r\n")
                gone.write(GET)
            await stream.ended.wait()
            assert edge.begun == 0, "nobody is there to be answered"
            for _ in range(20):
                await other.readuntil(b": ping\n\n")

    run(work())


def test_requests_in_line_are_bounded(run: Run) -> None:
    async def work() -> None:
        async with serving() as edge, client(edge) as (reader, writer):
            writer.write(GET)
            await edge.stream(b"1")
            writer.write(GET * MAX_IN_LINE)
            await reader.readuntil(b"1\r\n")
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(reader.read(1), 0.05)
        async with serving() as edge, client(edge) as (reader, writer):
            writer.write(GET * 1000)
            assert (await reader.read()).startswith(b"HTTP/1.1 400 ")

    run(work())


def test_nonsense_ends_an_answer_and_says_nothing_in_it(run: Run) -> None:
    async def work() -> None:
        async with serving() as edge, client(edge) as (reader, writer):
            writer.write(GET)
            stream = await edge.stream(b"1")
            await reader.readuntil(b"1\r\n")
            writer.write(b"nonsense\r\n\r\n")
            assert await reader.read() == b""
            await stream.ended.wait()

    run(work())


def test_a_client_that_closes_its_half_has_gone(run: Run) -> None:
    async def work() -> None:
        async with serving() as edge, client(edge) as (reader, writer):
            writer.write(GET)
            stream = await edge.stream(b"1")
            await reader.readuntil(b"1\r\n")
            writer.write_eof()
            await stream.ended.wait()

    run(work())


def test_a_client_that_reads_nothing_for_too_long_loses_its_connection(run: Run) -> None:
    """And what was written for it is not held any longer."""

    async def work() -> None:
        async with serving(heartbeat_s=0.05, stalled_reader_s=0.1) as edge, client(edge, small=True) as (_, writer):
            writer.write(GET)
            stream = await edge.stream(*[b"x" * 65_536] * 100)
            await stream.ended.wait()
            while edge.connections:  # noqa: ASYNC110 - uvicorn's own, which tells nobody
                await asyncio.sleep(0.01)

    run(work())


def test_a_slow_reader_is_told_of_the_end_too(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """It has as long as in the middle: what a drain has is too little."""
    monkeypatch.setattr(streams, "_LAST_WORDS_S", 0.0)

    async def work() -> None:
        async with serving() as edge, client(edge, small=True) as (reader, writer):
            writer.write(GET)
            stream = await edge.stream()
            stream.pushing = True
            await stream.write(b"0", 1)
            while stream.push(b"x" * 10_000, 1):  # until nothing more is taken at once
                pass
            stream.told.put_nowait(None)
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(stream.ended.wait(), 0.1)
            assert (await answer(reader)).endswith(b"x" * 10_000)

    run(work())


@pytest.mark.parametrize("ends", [False, True])
def test_a_reader_is_not_cut_as_long_as_it_reads(run: Run, ends: bool) -> None:
    """However long a large piece takes it, also where that is the last one."""

    async def work() -> None:
        async with (
            serving(heartbeat_s=0.04, stalled_reader_s=0.1) as edge,
            client(edge, small=True) as (reader, writer),
        ):
            writer.write(GET)
            stream = await edge.stream()
            (connection,) = edge.connections
            connection.transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
            stream.told.put_nowait(b"x" * 500_000)
            if ends:
                stream.told.put_nowait(None)
            got = await reader.readuntil(b"\r\n\r\n")
            while got.count(b"x") < 500_000:
                got += await reader.read(65_536)
                await asyncio.sleep(0.02)
            assert stream.ended.is_set() == ends

    run(work())


def test_one_that_does_not_even_read_the_end_loses_its_connection(run: Run) -> None:
    async def work() -> None:
        async with serving(stalled_reader_s=0.1) as edge, client(edge, small=True) as (_, writer):
            writer.write(GET)
            stream = await edge.stream()
            await stream.write(b"0", 1)
            while stream.push(b"x" * 10_000, 1):
                pass
            stream.told.put_nowait(None)
            await stream.ended.wait()
            while edge.connections:  # noqa: ASYNC110 - uvicorn's own, which tells nobody
                await asyncio.sleep(0.01)

    run(work())


@pytest.mark.parametrize("seed", range(2))
def test_a_slow_reader_gets_everything_once_and_in_order(run: Run, seed: int) -> None:
    """Whether pieces are pushed or waited for, and with heartbeats among them; what waits for it is bounded."""
    chance = random.Random(seed)
    pieces = [b"%d;" % at * chance.choice([1, 1, 100, 20_000]) for at in range(300)]

    async def work() -> None:
        async with serving(heartbeat_s=0.02) as edge, client(edge, small=True) as (reader, writer):
            writer.write(GET)
            stream = await edge.stream(*pieces, None)
            (connection,) = edge.connections
            stream.pushing = True
            await reader.readuntil(b"\r\n\r\n")
            got, most = b"", 0
            while size := int(await reader.readline(), 16):
                got += (await reader.readexactly(size + 2))[:-2]
                most = max(most, connection.transport.get_write_buffer_size())
                if chance.random() < 0.1:
                    await asyncio.sleep(0.03)
            assert got.replace(b": ping\n\n", b"") == b": ok\n\n" + b"".join(pieces)
            assert 0 < stream.pushed < len(pieces)
            assert most < 65_536 + 3 * 100_000

    run(work())
