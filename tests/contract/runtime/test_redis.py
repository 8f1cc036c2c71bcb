"""The client of Redis, against a real server."""

import asyncio
import time
from typing import Any

import pytest
import redis.asyncio
import uvloop
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import ResponseError
from redis.exceptions import TimeoutError as RedisTimeoutError

from runtime.redis import connect
from runtime.resp import Line, encoded


async def test_more_commands_at_once_than_connections_wait_for_one(redis_server: str) -> None:
    """Many runs that begin at once are no outage."""
    async with connect(redis_server, max_connections=2) as client:

        async def write_and_read(number: int) -> bytes:
            async with client.pipeline(transaction=False) as pipeline:
                pipeline.set(f"many:{number}", number)
                pipeline.get(f"many:{number}")
                answers: list[bytes] = await pipeline.execute()
                return answers[1]

        found = await asyncio.gather(*(write_and_read(number) for number in range(50)))
    assert [int(value) for value in found] == list(range(50))


async def test_what_is_asked_at_once_on_a_line_is_answered_in_order(redis_server: str) -> None:
    async with connect(redis_server, max_connections=1) as client:
        line = Line(client)

        async def write_and_read(number: int) -> list[Any]:
            return await line.ask([("SET", "line", number), ("GET", "line"), ("GET", "line:nothing")])

        found = await asyncio.gather(*(write_and_read(number) for number in range(50)))
        line.close()
    assert found == [[b"OK", b"%d" % number, None] for number in range(50)]


async def test_a_line_speaks_to_the_clients_database(redis_server: str) -> None:
    async with connect(redis_server.rpartition("/")[0] + "/3", max_connections=1) as client:
        line = Line(client)
        await line.ask([("SET", "line:database", "3")])
        assert await client.get("line:database") == b"3"
        line.close()


async def test_a_refused_command_holds_up_none_beside_it(redis_server: str) -> None:
    async with connect(redis_server, max_connections=1) as client:
        line = Line(client)
        first, second, third = await line.ask([("SET", "line:text", "x"), ("INCR", "line:text"), ("GET", "line:text")])
        line.close()
    assert (first, third) == (b"OK", b"x")
    assert isinstance(second, ResponseError)


async def test_a_line_that_was_cut_says_so_once_and_is_laid_anew(redis_server: str) -> None:
    async with connect(redis_server, max_connections=1) as client:
        line = Line(client)
        [own] = await line.ask([("CLIENT", "ID")])
        with pytest.raises(RedisConnectionError):
            await asyncio.gather(line.ask([("BLPOP", "line:none", 1)]), _kill(client, own))
        assert await line.ask([("ECHO", "again")]) == [b"again"]
        line.close()


async def test_whoever_gives_up_waiting_takes_nobodys_answer(redis_server: str) -> None:
    async with connect(redis_server, max_connections=1) as client:
        line = Line(client)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.05):
                await line.ask([("BLPOP", "line:none", 1)])
        assert await line.ask([("ECHO", "mine")]) == [b"mine"]
        line.close()


async def test_who_is_told_is_answered_in_order_with_those_who_ask(redis_server: str) -> None:
    async with connect(redis_server, max_connections=1) as client:
        told: list[Any] = []
        line = Line(client)
        assert not line.tell(encoded([("ECHO", "nobody")]), 1, told.append)
        await line.ask([("ECHO", "it is laid")])
        assert line.tell(encoded([("SET", "line:told", "1"), ("GET", "line:told")]), 2, told.append)
        assert line.tell(encoded([("INCR", "line:told")]), 1, told.append)
        assert await line.ask([("GET", "line:told")]) == [b"2"]
        line.close()
    assert told == [[b"OK", b"1"], [2]]


async def test_a_server_that_does_not_answer_is_given_up_by_all_who_wait(redis_server: str) -> None:
    async with connect(redis_server, max_connections=1) as client:
        told: list[Any] = []
        line = Line(client, answer_s=0.5)
        asked = asyncio.create_task(line.ask([("BLPOP", "line:none", 5)]))
        while not line.tell(encoded([("ECHO", "behind it")]), 1, told.append):  # noqa: ASYNC110 - another task's work
            await asyncio.sleep(0.001)
        with pytest.raises(RedisTimeoutError):
            await asked
        assert [type(each) for each in told] == [RedisTimeoutError]
        assert await line.ask([("ECHO", "again")]) == [b"again"]
        line.close()


def test_an_answer_that_this_process_had_no_time_to_read_is_not_late(redis_server: str) -> None:
    async def ask() -> None:
        async with connect(redis_server, max_connections=1) as client:
            told: list[Any] = []
            line = Line(client, answer_s=0.5)
            await line.ask([("ECHO", "it is laid")])
            line.tell(encoded([("ECHO", "x")]), 1, told.append)
            await asyncio.sleep(0)
            time.sleep(0.7)  # noqa: ASYNC251 - the loop is held up on purpose
            assert await line.ask([("ECHO", "y")]) == [b"y"]
            assert told == [[b"x"]]
            line.close()

    uvloop.run(ask())


async def test_a_line_to_a_server_that_is_away_says_so() -> None:
    async with connect("redis://127.0.0.1:1/0", max_connections=1) as client:
        with pytest.raises(OSError):  # noqa: PT011 - which one is the system's affair
            await Line(client).ask([("ECHO", "x")])


def test_a_line_is_the_same_on_the_loop_that_services_run_on(redis_server: str) -> None:
    async def ask() -> None:
        async with connect(redis_server, max_connections=1) as client:
            line = Line(client)
            assert await line.ask([("ECHO", "x")]) == [b"x"]
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.05):
                    await line.ask([("BLPOP", "line:none", 1)])
            assert await line.ask([("ECHO", "y"), ("ECHO", "z")]) == [b"y", b"z"]
            line.close()

    uvloop.run(ask())


async def _kill(client: redis.asyncio.Redis, number: int) -> None:
    await asyncio.sleep(0)
    await client.client_kill_filter(_id=str(number))
