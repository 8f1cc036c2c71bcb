"""The link between two processes does what a bad network does, and nothing else."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import socket
from collections.abc import AsyncIterator

import pytest

from parley.chat.v1 import chat_pb2
from runtime.channel import open_channel, unary
from runtime.errors import DeadlineExceeded
from runtime.mux.channel import MuxChannel
from tests.chaos.proxy import Link
from tests.chaos.system import NO_WAY_PAST
from tests.unit.runtime.callee import ISSUER, Callee, serving, stub


@pytest.fixture
async def link() -> AsyncIterator[Link]:
    """A link to a server that says everything back."""

    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(1024):
            writer.write(data)
        writer.close()

    server = await asyncio.start_server(echo, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    async with Link(lambda: f"127.0.0.1:{port}") as link:
        yield link
    server.close()


async def test_what_is_said_comes_back(link: Link) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", link.port)
    writer.write(b"hello")
    assert await reader.readexactly(5) == b"hello"
    writer.write_eof()
    assert await reader.read() == b""
    writer.close()


async def test_what_is_said_while_parted_comes_through_when_mended(link: Link) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", link.port)
    writer.write(b"before")
    assert await reader.readexactly(6) == b"before"
    link.part()
    writer.write(b"meanwhile")
    answer = asyncio.ensure_future(reader.readexactly(9))
    done, _ = await asyncio.wait({answer}, timeout=0.1)
    assert not done
    link.mend()
    assert await answer == b"meanwhile"
    writer.close()


async def test_a_cut_ends_what_is_open_and_lets_new_connections_through(link: Link) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", link.port)
    writer.write(b"x")
    await reader.readexactly(1)
    await link.cut()
    with pytest.raises(ConnectionResetError):
        await reader.read()
    writer.close()
    reader, writer = await asyncio.open_connection("127.0.0.1", link.port)
    writer.write(b"y")
    assert await reader.readexactly(1) == b"y"
    writer.close()


async def test_a_link_at_an_address_of_its_own_holds_all_that_a_shared_connection_says() -> None:
    """The direct way of a shared connection begins at the caller's idea of the service's host, and would lead past the link."""
    async with (
        serving(Callee()) as served,
        Link(lambda: f"127.0.0.1:{served.port}", NO_WAY_PAST) as link,
        open_channel(f"ipv4:{link.address}", chat_pb2.DESCRIPTOR, mux=True) as channel,
    ):
        assert isinstance(channel, MuxChannel)
        await channel.mux_ready()
        get, request = stub(channel).GetRun, chat_pb2.GetRunRequest(run_id="x")
        await unary(get, request, timeout_s=10, token=ISSUER.token())
        link.part()
        with pytest.raises(DeadlineExceeded):
            await unary(get, request, timeout_s=0.2, token=ISSUER.token())
        link.mend()
        await unary(get, request, timeout_s=10, token=ISSUER.token())


@pytest.mark.parametrize("turns", range(6))
async def test_who_connects_while_a_link_ends_is_hung_up_on(turns: int) -> None:
    """However far the loop has come with the connection: none is left to the garbage collector, whose complaint fails another test."""
    async with Link(lambda: "127.0.0.1:1") as link:
        client = socket.create_connection(("127.0.0.1", link.port))
        for _ in range(turns):
            await asyncio.sleep(0)
    await asyncio.sleep(0)
    with client:
        client.settimeout(5)
        with contextlib.suppress(ConnectionResetError):
            assert client.recv(1) == b""
    gc.collect()  # what complains does so in this test
