"""What arrives while somebody waits for it may be taken where it arrives; the moments of both are the test's."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from services.gateway.http.connection import Connection, Malformed

CHUNKED = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n"
SIZED = b"HTTP/1.1 200 OK\r\ncontent-length: 12\r\n\r\n"
UNTIL_CLOSE = b"HTTP/1.1 200 OK\r\n\r\n"
MUCH = b"x" * 200_000
ANSWERS = {"chunked": (CHUNKED, b"5\r\nhello\r\n7;x=y\r\n, world\r\n0\r\n\r\n"), "sized": (SIZED, b"hello, world")}


class Transport(asyncio.Transport):
    """The other side says nothing by itself."""

    reading = True
    aborted = False

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Nobody listens."""

    def pause_reading(self) -> None:
        self.reading = False

    def resume_reading(self) -> None:
        self.reading = True

    def abort(self) -> None:
        self.aborted = True


async def asked(head: bytes) -> tuple[Connection, Transport]:
    """A connection on which an answer has begun."""
    transport, connection = Transport(), Connection(lambda _: None)
    connection.connection_made(transport)
    asking = asyncio.create_task(connection.ask(b"POST / HTTP/1.1\r\n\r\n", b""))
    await asyncio.sleep(0)
    connection.data_received(head)
    await asking
    return connection, transport


async def waiting(connection: Connection, tap: Callable[[bytes], bool]) -> asyncio.Task[bytes]:
    """A reader who waits."""
    reading = asyncio.create_task(connection.read(tap))
    await asyncio.sleep(0)
    return reading


@pytest.mark.parametrize("kind", ANSWERS)
async def test_what_is_taken_wakes_nobody_up_until_the_end(kind: str) -> None:
    head, body = ANSWERS[kind]
    for size in range(1, len(body)):
        connection, _ = await asked(head)
        taken = bytearray()

        def take(data: bytes, taken: bytearray = taken) -> bool:
            taken.extend(data)
            return True

        reading = await waiting(connection, take)
        for at in range(0, len(body), size):
            assert not reading.done()
            connection.data_received(body[at : at + size])
            if at + size < len(body):
                await asyncio.sleep(0)

        assert await reading == b""
        assert bytes(taken) == b"hello, world"
        assert connection.reusable


@pytest.mark.parametrize("kind", ANSWERS)
async def test_what_is_refused_is_read_once_and_before_what_came_after_it(kind: str) -> None:
    """Each time the loop turns, two pieces arrive, so that a reader who was refused one finds another behind it."""
    head, body = ANSWERS[kind]
    for size in range(1, len(body)):
        connection, _ = await asked(head)
        pieces = [body[at : at + size] for at in range(0, len(body), size)]
        said = bytearray()
        offered: list[bytes] = []

        def arrive(connection: Connection = connection, pieces: list[bytes] = pieces) -> None:
            for piece in pieces[:2]:
                connection.data_received(piece)
            if remaining := pieces[2:]:
                asyncio.get_running_loop().call_soon(arrive, connection, remaining)

        def take(data: bytes, said: bytearray = said, offered: list[bytes] = offered) -> bool:
            offered.append(data)
            taken = len(offered) % 2 == 1
            if taken:
                said.extend(data)
            return taken

        asyncio.get_running_loop().call_soon(arrive)
        async with asyncio.timeout(10):
            while data := await connection.read(take):
                said.extend(data)

        assert offered
        assert bytes(said) == b"hello, world"
        assert connection.reusable


async def test_whoever_does_not_wait_is_not_passed_by() -> None:
    connection, _ = await asked(CHUNKED)
    connection.data_received(b"5\r\nhello\r\n")

    assert await connection.read(lambda _: True) == b"hello"


async def test_whoever_is_leaving_is_not_passed_by() -> None:
    connection, _ = await asked(CHUNKED)
    offered = asyncio.Event()

    def tap(_: bytes) -> bool:
        offered.set()
        return True

    reading = await waiting(connection, tap)

    reading.cancel()
    connection.data_received(b"5\r\nhello\r\n")
    await asyncio.wait({reading})

    assert reading.cancelled()
    assert not offered.is_set()


async def test_what_a_tap_raises_is_raised_where_the_reader_waits() -> None:
    connection, _ = await asked(CHUNKED)

    def tap(_: bytes) -> bool:
        raise LookupError

    reading = await waiting(connection, tap)
    connection.data_received(b"5\r\nhello\r\n")

    with pytest.raises(LookupError):
        await reading


async def test_what_is_no_http_is_refused_behind_what_was_taken() -> None:
    connection, _ = await asked(CHUNKED)
    reading = await waiting(connection, lambda _: True)

    connection.data_received(b"5\r\nhello\r\n")
    connection.data_received(b"zz\r\n")

    with pytest.raises(Malformed):
        await reading


async def test_a_connection_on_which_something_refused_was_left_is_not_used_again() -> None:
    """The next call would read what this one left."""
    connection, _ = await asked(SIZED)
    reading = await waiting(connection, lambda _: False)
    connection.data_received(b"hello, world")
    reading.cancel()
    await asyncio.wait({reading})

    assert not connection.reusable


async def test_a_provider_is_not_held_up_by_what_is_taken() -> None:
    connection, transport = await asked(UNTIL_CLOSE)
    await waiting(connection, lambda _: True)

    for _ in range(10):
        connection.data_received(MUCH)

    assert transport.reading


async def test_a_provider_is_held_up_by_what_nobody_reads() -> None:
    connection, transport = await asked(UNTIL_CLOSE)
    reading = await waiting(connection, lambda _: False)

    for _ in range(3):
        connection.data_received(MUCH)

    assert not transport.reading
    assert await reading == MUCH
    assert await connection.read() == MUCH * 2
    assert transport.reading
