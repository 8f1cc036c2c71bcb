"""Redis is killed under many calls and comes back empty: no budget is passed, and in the end the counters are the truth."""

from __future__ import annotations

import asyncio
import os
import signal
import uuid
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest
import redis.asyncio

from deploy.local.redis import EmbeddedRedis
from parley.gateway.v1 import usage_pb2 as usage
from runtime.config import Secret
from runtime.errors import ParleyError
from services.gateway.config import GatewayConfig
from services.gateway.usage import budgets
from services.gateway.usage.composition import open_money
from services.gateway.usage.counters import RedisCounters
from services.gateway.usage.domain import TokenBudgetExceeded
from tests.conftest import StoredDatabase
from tests.contract.gateway.usage.conftest import MakeBooks, a_call
from tests.fakes.llm_provider import Answer, UsageReport

# The question's estimate is 12, and with this many to be written a call holds back 100.
WRITES = 88
LIMIT = 4_050
ORG = str(uuid.uuid4())


@pytest.fixture
async def mortal(tmp_path: Path) -> AsyncIterator[EmbeddedRedis]:
    """A Redis of our own, which keeps nothing."""
    async with EmbeddedRedis(tmp_path, ephemeral=True) as server:
        yield server


@pytest.mark.parametrize("counted_by", ["postgres"], indirect=True)
@pytest.mark.parametrize("instances", [1, 2])
async def test_no_budget_is_passed_and_nothing_is_counted_twice(
    make_books: MakeBooks, mortal: EmbeddedRedis, instances: int
) -> None:
    settings = {"organization_tokens_per_day": LIMIT, "user_tokens_per_day": None, "global_tokens_per_day": None}
    several = [await make_books(redis_url=Secret(mortal.url), **settings) for _ in range(instances)]
    provider = several[0].gateway.provider
    provider.script(Answer(usage=UsageReport(12, WRITES), delay_s=0.1), times=400)
    person = several[0].person()
    ends: list[str] = []

    async def call(number: int) -> None:
        await asyncio.sleep(number * 0.015)
        try:
            await several[number % instances].person(person.org_id).chat(max_output_tokens=WRITES)
        except ParleyError as error:
            ends.append(error.code)
        else:
            ends.append("let in")

    calls = [asyncio.create_task(call(number)) for number in range(200)]
    await provider.until(lambda: len(provider.requests) > 15)
    os.kill(mortal.process.pid, signal.SIGKILL)
    await mortal.stop(keep=True)
    await mortal.start()
    await asyncio.gather(*calls)

    rows = await several[0].rows(ends.count("let in"))
    used = sum(row["input_tokens"] + row["output_tokens"] for row in rows)
    assert set(ends) == {"let in", "TOKEN_BUDGET_EXCEEDED"}
    assert used <= LIMIT
    assert used > LIMIT - 200
    async with redis.asyncio.Redis.from_url(mortal.url) as client:
        counters, day = RedisCounters(client), datetime.now(UTC).date()
        async with asyncio.timeout(30):
            while await counters.current(day, f"o:{person.org_id}") != used:  # noqa: ASYNC110 - another's state
                await asyncio.sleep(0.1)
            assert not await counters.open_calls(day)
    await several[0].settled(person, used, usage.SCOPE_ORGANIZATION)


async def test_an_instance_that_has_not_noticed_that_redis_is_back_lets_nobody_in_whom_redis_refuses(
    stored: StoredDatabase, mortal: EmbeddedRedis, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another one has brought it back, and lets calls in by it that are not in Postgres yet."""
    monkeypatch.setattr(budgets, "_AVOIDED_S", 60.0)
    config = GatewayConfig(listen="", auth_address="", database_url=Secret(stored.url), organization_tokens_per_day=350)
    first, second, third = (replace(a_call(), org_id=ORG) for _ in range(3))
    async with (
        redis.asyncio.Redis.from_url(mortal.url) as client,
        redis.asyncio.Redis.from_url(mortal.url) as others,
        open_money(config, client) as money,
    ):
        assert money is not None
        await money.budgets.reserve(first)
        os.kill(mortal.process.pid, signal.SIGKILL)
        await mortal.stop(keep=True)
        await money.budgets.reserve(second)
        await mortal.start()
        another = RedisCounters(others)
        async with another.scripts.running():
            await another.limit(first.day, {})
            async with money.ledger._store.stopped(first.day) as state:
                assert await another.rebuild(first.day, state)
            await another.reserve(replace(a_call(), org_id=ORG), money.budgets.defaults)
            with pytest.raises(TokenBudgetExceeded):
                await money.budgets.reserve(third)
