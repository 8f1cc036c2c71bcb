"""What is held back for a call is given back on every way out of it."""

from __future__ import annotations

import asyncio
import time
import uuid
from dataclasses import replace

import asyncpg
import pytest
import redis
import redis.asyncio

from runtime.context import Identity, set_identity
from runtime.errors import Unavailable
from services.gateway.usage.composition import Money
from services.gateway.usage.counters import _SETTLE, RedisCounters
from services.gateway.usage.domain import GLOBAL, Limits, OpenCall, TokenBudgetExceeded
from services.gateway.usage.meter import Meter
from services.gateway.usage.store import PostgresUsage
from tests.contract.gateway.usage.conftest import ready


class CutOff(PostgresUsage):
    """Loses its connection in the moment after a call was let in."""

    async def reserve(self, call: OpenCall, defaults: Limits) -> None:
        await super().reserve(call, defaults)
        raise Unavailable("The database is not reachable right now; try again.")


def counters_of(money: Money) -> RedisCounters:
    assert money.budgets._counters is not None
    return money.budgets._counters


async def asked_first(money: Money, client: redis.asyncio.Redis) -> RedisCounters:
    """Returns the counters once calls are let in by them: that is a moment after they are ready."""
    counters = await ready(client)
    async with asyncio.timeout(5):
        while await money.budgets.current(GLOBAL) is None:  # noqa: ASYNC110 - another task's state
            await asyncio.sleep(0.01)
    return counters


def held_back(redis_url: str, call: OpenCall) -> bool:
    """Whether Redis comes to hold something back for a call while nothing at all happens in this process."""
    until = time.monotonic() + 10
    with redis.Redis.from_url(redis_url) as looking:
        while time.monotonic() < until:
            if looking.hexists(f"parley:{{budget}}:open:{call.day}", call.id):
                return True
            time.sleep(0.01)
    return False


def a_members_meter(money: Money) -> Meter:
    """Returns a meter for calls that somebody new makes from here on."""
    ids = str(uuid.uuid4()), str(uuid.uuid4())
    set_identity(Identity(*ids, "member", ids[0], None, {}, 0.0))
    return Meter(money.budgets, money.ledger)


async def test_the_question_is_on_its_way_when_the_block_begins(
    money: Money, client: redis.asyncio.Redis, redis_url: str
) -> None:
    await asked_first(money, client)
    meter = a_members_meter(money)
    async with meter.call(model="m", prompt_tokens=5, output_tokens=5):
        """The connection to Redis is open from here on."""

    with meter.begin(model="m", prompt_tokens=5, output_tokens=5) as holding:
        assert held_back(redis_url, holding.call)


async def test_a_block_that_is_left_before_it_was_let_in_holds_nothing_back(
    money: Money, client: redis.asyncio.Redis
) -> None:
    """The question is on its way, and nobody ever reads what is said to it."""
    counters = await asked_first(money, client)
    meter = a_members_meter(money)
    async with meter.call(model="m", prompt_tokens=5, output_tokens=5) as before:
        """The connection to Redis is open from here on."""

    with meter.begin(model="m", prompt_tokens=5, output_tokens=5) as holding:
        pass
    await money.ledger.flush()
    # Asked after both over the same connection.
    with pytest.raises(TokenBudgetExceeded):
        await counters_of(money).reserve(replace(before, id=str(uuid.uuid4()), tokens=1), Limits(0, None, None))

    assert not await counters.open_calls(holding.call.day)
    assert await counters.current(holding.call.day, holding.call.scopes[0]) == 0
    assert not money.ledger.live()


async def test_a_block_that_was_left_is_not_asked_for_again_by_a_redis_that_forgot_how(
    money: Money, client: redis.asyncio.Redis
) -> None:
    """It knows how to settle, and so has settled the call by the time it could be told how to hold its tokens back."""
    counters = await asked_first(money, client)
    meter = a_members_meter(money)
    async with meter.call(model="m", prompt_tokens=5, output_tokens=5) as before:
        """The connection to Redis is open from here on."""
    await client.script_flush()
    await client.script_load(_SETTLE.text)

    with meter.begin(model="m", prompt_tokens=5, output_tokens=5) as holding:
        pass
    for _ in range(2):  # the first may still be asked before it, the second is not
        with pytest.raises(TokenBudgetExceeded):
            await counters_of(money).reserve(replace(before, id=str(uuid.uuid4()), tokens=1), Limits(0, None, None))

    assert not await counters.open_calls(holding.call.day)
    assert await counters.current(holding.call.day, holding.call.scopes[0]) == 0


async def test_a_script_that_redis_has_forgotten_is_told_again(money: Money, client: redis.asyncio.Redis) -> None:
    await asked_first(money, client)
    meter = a_members_meter(money)
    for _ in range(2):
        async with meter.call(model="m", prompt_tokens=5, output_tokens=5) as held:
            assert not held.by_database
            await client.script_flush()


async def test_a_call_that_was_let_in_without_anybody_knowing_holds_nothing_back(
    money: Money, owner: asyncpg.Connection
) -> None:
    ids = str(uuid.uuid4()), str(uuid.uuid4())
    set_identity(Identity(*ids, "member", ids[0], None, {}, 0.0))
    store = money.ledger._store
    money.budgets._counters = None
    money.budgets._store = CutOff(store._database, store._instance)

    with pytest.raises(Unavailable):
        async with Meter(money.budgets, money.ledger).call(model="m", prompt_tokens=5, output_tokens=5):
            pass
    await money.ledger.flush()

    assert not await owner.fetchval("SELECT count(*) FROM gateway.reservation")
    assert not await owner.fetchval("SELECT count(*) FROM gateway.usage_call")
    assert not money.ledger.live()
