"""A deadline is the provider's: what this process had no time to read was not late."""

from __future__ import annotations

import asyncio
import contextlib
import os
import time
from collections.abc import AsyncGenerator, AsyncIterator, Sequence

import pytest

from services.gateway.domain import ProviderDelta, Text, Timeouts
from services.gateway.failures import AttemptFailed, FirstTokenTimeout, RunTimeout, StreamStalled
from services.gateway.waits import Waits

GAP_S = 0.1
LONG_S = 1000.0


@pytest.fixture
async def connection() -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    """What we read, and what the provider writes; the loop of both is the test's."""
    accepted: asyncio.Future[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = asyncio.Future()

    async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        accepted.set_result((reader, writer))

    server = await asyncio.start_server(accept, "127.0.0.1", 0)
    reader, ours = await asyncio.open_connection(*server.sockets[0].getsockname())
    _, writer = await accepted
    yield reader, writer
    for end in (ours, writer):
        end.close()
    server.close()


async def read(reader: asyncio.StreamReader) -> AsyncGenerator[Sequence[ProviderDelta], None]:
    while data := await reader.read(1000):
        yield [Text(data.decode())]


async def test_a_provider_on_a_machine_that_stood_still_was_not_late(
    connection: tuple[asyncio.StreamReader, asyncio.StreamWriter],
) -> None:
    """It could send nothing either, or nothing arrived: it has the time again that was lost."""
    reader, writer = connection
    loop = asyncio.get_running_loop()
    with contextlib.closing(Waits()) as waits:
        waits.attempt(Timeouts(LONG_S, GAP_S, LONG_S), 0)
        waits.begin()
        async with contextlib.aclosing(read(reader)) as batches:
            loop.call_later(GAP_S / 2, time.sleep, 1.0)
            loop.call_later(GAP_S / 2, lambda: loop.call_later(GAP_S, writer.write, b"a"))
            assert await waits.next(batches) == [Text("a")]
            with pytest.raises(AttemptFailed):
                await waits.next(batches)


async def test_what_waits_in_the_socket_of_a_busy_process_was_not_late(
    connection: tuple[asyncio.StreamReader, asyncio.StreamWriter],
) -> None:
    reader, writer = connection
    waits = Waits()
    waits.attempt(Timeouts(LONG_S, GAP_S, LONG_S), 0)
    waits.begin()
    said = []
    connected = writer.get_extra_info("socket").fileno()

    def hold_up(text: bytes) -> None:
        """Keeps the loop from everything for longer than a gap, while something is sent."""
        os.write(connected, text)
        time.sleep(3 * GAP_S)

    async with contextlib.aclosing(read(reader)) as batches:
        for text in (b"a", b"b", b"c"):
            asyncio.get_running_loop().call_later(GAP_S / 2, hold_up, text)
            said.append(await waits.next(batches))
        waits.close()

    assert said == [[Text("a")], [Text("b")], [Text("c")]]


@pytest.mark.parametrize(
    ("timeouts", "begun", "reason"),
    [
        (Timeouts(GAP_S, LONG_S, LONG_S), False, FirstTokenTimeout),
        (Timeouts(LONG_S, GAP_S, LONG_S), True, StreamStalled),
        (Timeouts(LONG_S, LONG_S, GAP_S), True, RunTimeout),
    ],
)
async def test_silence_ends_for_the_deadline_it_misses(
    connection: tuple[asyncio.StreamReader, asyncio.StreamWriter],
    timeouts: Timeouts,
    begun: bool,
    reason: type[Exception],
) -> None:
    waits = Waits()
    waits.attempt(timeouts, 0)
    if begun:
        waits.begin()
    async with contextlib.aclosing(read(connection[0])) as batches, asyncio.timeout(10):
        with pytest.raises(AttemptFailed) as raised:
            await waits.next(batches)
    waits.close()

    assert type(raised.value.error) is reason


async def test_a_reader_who_takes_his_time_makes_nobody_late(
    connection: tuple[asyncio.StreamReader, asyncio.StreamWriter],
) -> None:
    reader, writer = connection
    waits = Waits()
    waits.attempt(Timeouts(LONG_S, GAP_S, LONG_S), 0)
    waits.begin()
    async with contextlib.aclosing(read(reader)) as batches:
        for text in ("a", "b", "c"):
            writer.write(text.encode())
            assert await waits.next(batches) == [Text(text)]
            await asyncio.sleep(2 * GAP_S)
    waits.close()


async def test_who_is_cancelled_by_somebody_else_is_not_late(
    connection: tuple[asyncio.StreamReader, asyncio.StreamWriter],
) -> None:
    async def wait() -> None:
        waits = Waits()
        waits.attempt(Timeouts(LONG_S, LONG_S, LONG_S), 0)
        async with contextlib.aclosing(read(connection[0])) as batches:
            await waits.next(batches)

    task = asyncio.create_task(wait())
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_what_was_taken_elsewhere_ends_the_silence(
    connection: tuple[asyncio.StreamReader, asyncio.StreamWriter],
) -> None:
    """Something comes for five times as long as silence may last, and the reader is told none of it."""
    loop = asyncio.get_running_loop()
    waits = Waits()
    waits.attempt(Timeouts(LONG_S, GAP_S, LONG_S), 0)
    waits.begin()
    begun = loop.time()
    for tenth in range(50):
        loop.call_later(GAP_S / 10 * tenth, waits.moved)
    async with contextlib.aclosing(read(connection[0])) as batches, asyncio.timeout(10):
        with pytest.raises(AttemptFailed) as raised:
            await waits.next(batches)
    waits.close()

    assert type(raised.value.error) is StreamStalled
    assert loop.time() - begun > 5 * GAP_S
