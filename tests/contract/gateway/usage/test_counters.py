"""What Redis counts is what Postgres knows, after whatever happened to either."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import asyncpg
import pytest
import redis.asyncio

from runtime.context import Identity, set_identity
from services.gateway.usage.composition import Money
from services.gateway.usage.counters import RedisCounters
from services.gateway.usage.domain import Limits, OpenCall, TokenBudgetExceeded
from services.gateway.usage.meter import Meter
from tests.contract.gateway.usage.conftest import LIMITS, a_call, ready
from tests.contract.gateway.usage.test_truth import told

NOBODY = Limits(None, None, None)


async def counted(counters: RedisCounters, call: OpenCall, tokens: int) -> None:
    """Returns once everybody together have used so much, by Redis."""
    async with asyncio.timeout(10):
        while await counters.current(call.day, "g") != tokens:  # noqa: ASYNC110 - another task's work
            await asyncio.sleep(0.02)


async def test_redis_that_comes_back_with_what_it_stored_long_ago_is_told_the_truth(
    money: Money, client: redis.asyncio.Redis
) -> None:
    counters, calls = await ready(client), [a_call() for _ in range(3)]
    keys = [f"parley:{{budget}}:{kind}:{calls[0].day}" for kind in ("tokens", "open")]
    await money.budgets.reserve(calls[0])
    stored = {key: await client.dump(key) or b"" for key in keys}
    for call in calls:
        if call is not calls[0]:
            await money.budgets.reserve(call)
        money.budgets.settle(told(call))
        money.ledger.over(call)
    await money.ledger.flush()
    await counted(counters, calls[0], 300)

    for key, dump in stored.items():
        await client.restore(key, 0, dump, replace=True)
    assert await counters.current(calls[0].day, "g") == 100
    await money.janitor.round()

    await counted(counters, calls[0], 300)
    assert not await counters.open_calls(calls[0].day)


async def test_calls_that_end_while_two_instances_bring_redis_back_are_counted_once(
    money: Money, client: redis.asyncio.Redis
) -> None:
    counters, calls = await ready(client), [a_call() for _ in range(60)]
    day = calls[0].day

    async def brought_back_by_another() -> None:
        async with counters.scripts.running():
            for _ in range(5):
                await asyncio.sleep(0.1)
                await counters.forget(day)
                async with money.ledger._store.stopped(day) as state:
                    await counters.rebuild(day, state)

    await client.flushdb()
    other = asyncio.create_task(brought_back_by_another())
    for place, call in enumerate(calls):
        await money.budgets.reserve(call)
        money.ledger.opened(call)
        if place > 20:
            ended = told(calls[place - 20], 7)
            money.budgets.settle(ended)
            money.ledger.over(ended)
    await other
    await money.ledger.flush()
    for call in calls:
        if not call.used:
            money.budgets.settle(told(call, 7))
            money.ledger.over(call)
    await money.ledger.flush()
    await money.janitor.round()
    await counted(counters, calls[0], 7 * len(calls))
    assert not await counters.open_calls(day)


async def test_what_began_before_midnight_counts_for_the_day_before(money: Money, client: redis.asyncio.Redis) -> None:
    counters, now = await ready(client), datetime.now(UTC)
    midnight = datetime.combine(now.date() + timedelta(days=1), datetime.min.time(), UTC)
    person = a_call()
    set_identity(Identity(person.user_id, person.org_id, "member", person.user_id, None, {}, 0.0))
    money.budgets.defaults = Limits(100, None, None)
    clock = [midnight.timestamp() - 1]
    meter = Meter(money.budgets, money.ledger, clock=lambda: clock[0])
    await money.budgets.prepare(midnight.date(), ahead=True)

    async with meter.call(model="m", prompt_tokens=50, output_tokens=50) as old:
        with pytest.raises(TokenBudgetExceeded) as refused:
            async with meter.call(model="m", prompt_tokens=1, output_tokens=0):
                pass
        assert refused.value.metadata["resets_at"] == midnight.isoformat().replace("+00:00", "Z")
        assert refused.value.retry_after_s == 1
        clock[0] += 1
        async with meter.call(model="m", prompt_tokens=50, output_tokens=50) as new:
            assert await counters.current(old.day, old.scopes[0]) == 100
            assert await counters.current(new.day, new.scopes[0]) == 100
        old.used = told(a_call(), 30).used
    assert (old.day, new.day) == (now.date(), midnight.date())
    await counted(counters, old, 30)
    await counted(counters, new, 0)


async def test_a_call_of_twenty_minutes_holds_its_tokens_to_its_end(
    money: Money, client: redis.asyncio.Redis, owner: asyncpg.Connection
) -> None:
    counters, call = await ready(client), a_call(timedelta(minutes=20))
    await money.budgets.reserve(call)
    money.ledger.opened(call)
    await money.ledger.flush()
    for _ in range(5):
        await owner.execute("UPDATE gateway.reservation SET expires_at = now() + interval '1 second'")
        await money.janitor.round()
        await money.janitor.reclaim()
    assert await counters.current(call.day, call.scopes[0]) == 100
    for _ in range(2):
        money.budgets.settle(told(call, 40))
        money.ledger.over(call)
    await money.ledger.flush()
    await counted(counters, call, 40)
    assert await owner.fetchval("SELECT sum(input_tokens) FROM gateway.usage_call") == 40


async def test_a_limit_below_what_is_used_lets_nobody_in(money: Money, client: redis.asyncio.Redis) -> None:
    await ready(client)
    await money.budgets.reserve(a_call())
    money.budgets.defaults = Limits(None, None, 50)
    with pytest.raises(TokenBudgetExceeded) as refused:
        await money.budgets.reserve(replace(a_call(), tokens=1))
    assert (refused.value.metadata["current"], refused.value.metadata["limit"]) == ("100", "50")


async def test_who_asks_redis_when_nobody_does_any_more_is_told(client: redis.asyncio.Redis) -> None:
    counters = RedisCounters(client)
    async with counters.scripts.running():
        pass
    async with asyncio.timeout(5):
        with pytest.raises(redis.exceptions.ConnectionError):
            await counters.reserve(a_call(), LIMITS)
