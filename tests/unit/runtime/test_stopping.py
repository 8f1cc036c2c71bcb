"""A task is ended for sure: drivers of stores swallow cancellations now and then."""

from __future__ import annotations

import asyncio
import contextlib
from typing import Any, cast

import redis.asyncio
from structlog.testing import capture_logs

from runtime.stopping import stop
from runtime.testing import Clock
from services.gateway.routing.cooldowns import CooldownPolicy, Cooldowns
from services.gateway.routing.sharing import SharedCooldowns


class Deaf:
    """Hears of no cancellation the first time."""

    def __init__(self) -> None:
        self.asked = asyncio.Event()
        self.swallowed = 0

    async def eval(self, *_: Any) -> list[Any]:
        """Takes for ever, as far as Redis goes."""
        self.asked.set()
        if not self.swallowed:
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.Event().wait()
            self.swallowed += 1
        return []


async def test_a_task_that_swallows_a_cancellation_is_told_again() -> None:
    deaf = Deaf()

    async def work() -> None:
        while True:
            await deaf.eval()
            await asyncio.sleep(0.01)

    task = asyncio.create_task(work())
    await deaf.asked.wait()
    async with asyncio.timeout(5):
        await stop(task)
    assert (task.cancelled(), deaf.swallowed) == (True, 1)


async def test_a_gateway_ends_although_redis_has_swallowed_that() -> None:
    deaf = Deaf()
    policy = CooldownPolicy(failures=3, length_s=10, longest_s=300, try_every_s=5)
    shared = SharedCooldowns(Cooldowns(policy, Clock(1000.0)), cast("redis.asyncio.Redis", deaf))
    async with asyncio.timeout(5):
        async with shared.running():
            await deaf.asked.wait()
    assert deaf.swallowed == 1


async def test_what_a_task_failed_with_is_told() -> None:
    async def work() -> None:
        raise ValueError

    task = asyncio.create_task(work())
    await asyncio.wait([task])
    with capture_logs() as logs:
        await stop(task)
    assert [line["event"] for line in logs] == ["unforeseen_error"]
