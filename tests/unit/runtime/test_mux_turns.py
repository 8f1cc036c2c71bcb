"""Of a method with a bound so many calls are worked on at once; the others wait as they came."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from parley.chat.v1 import chat_pb2 as pb
from runtime import channel, errors
from tests.unit.runtime.callee import AT_ONCE, ISSUER, Callee, connected, serving, stub, until


class World:
    """A service, and calls to it over a shared connection."""

    def __init__(self, callee: Callee, opened: Any, server: Any) -> None:
        self.callee = callee
        self.server = server
        self.stub = stub(opened)

    def get(self, run_id: str, *, timeout_s: float = 10) -> asyncio.Task[Any]:
        request = pb.GetRunRequest(run_id=run_id)
        token = ISSUER.token("u-1")
        return asyncio.create_task(channel.unary(self.stub.GetRun, request, timeout_s=timeout_s, token=token))

    async def crowd(self, waiting: int) -> tuple[list[asyncio.Task[Any]], list[asyncio.Task[Any]]]:
        """Makes as many calls as are worked on at once, which wait for `go_on`, and some more that have to wait for those."""
        working = [self.get("wait") for _ in range(AT_ONCE)]
        await until(lambda: self.callee.calls == AT_ONCE)
        further = [self.get(str(number)) for number in range(waiting)]
        await until(lambda: self.server.mux_calls == AT_ONCE + waiting)
        return working, further


@pytest.fixture
async def world() -> AsyncIterator[World]:
    callee = Callee()
    async with serving(callee) as server, connected(server) as opened:
        yield World(callee, opened, server)
        await until(lambda: not opened.mux_calls and not server.mux_calls)


async def test_further_calls_wait_and_are_all_answered(world: World) -> None:
    working, further = await world.crowd(20)
    assert world.callee.calls == AT_ONCE
    world.callee.go_on.set()
    await asyncio.gather(*working)
    assert [answer.run.id for answer in await asyncio.gather(*further)] == [str(number) for number in range(20)]


async def test_other_methods_do_not_wait(world: World) -> None:
    working, _ = await world.crowd(0)
    watched = channel.stream(
        world.stub.WatchRun, pb.WatchRunRequest(after_seq=1), timeout_s=10, token=ISSUER.token("u-1")
    )
    assert [response.run_id async for response in watched] == ["0"]
    world.callee.go_on.set()
    await asyncio.gather(*working)


async def test_a_call_that_waits_ends_at_its_deadline(world: World) -> None:
    working, _ = await world.crowd(0)
    with pytest.raises(errors.DeadlineExceeded):
        await world.get("late", timeout_s=0.1)
    await until(lambda: world.server.mux_calls == AT_ONCE)
    world.callee.go_on.set()
    await asyncio.gather(*working)
    assert world.callee.calls == AT_ONCE


async def test_a_call_that_waits_can_be_given_up_and_holds_up_nobody(world: World) -> None:
    working, further = await world.crowd(2)
    further[0].cancel()
    await until(lambda: world.server.mux_calls == AT_ONCE + 1)
    world.callee.go_on.set()
    await asyncio.gather(*working)
    assert (await further[1]).run.id == "1"
    assert world.callee.calls == AT_ONCE + 1


async def test_calls_that_fail_or_are_given_up_make_room(world: World) -> None:
    working, _ = await world.crowd(0)
    for task in working:
        task.cancel()
    for _ in range(2 * AT_ONCE):
        with pytest.raises(errors.NotFound):
            await world.get("fail")
    assert (await world.get("next")).run.id == "next"
