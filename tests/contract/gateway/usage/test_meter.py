"""What is held back for a call is given back on every way out of it."""

from __future__ import annotations

import time
import uuid

import asyncpg
import pytest
import redis
import redis.asyncio

from runtime.context import Identity, set_identity
from runtime.errors import Unavailable
from services.gateway.usage.composition import Money
from services.gateway.usage.domain import Limits, OpenCall
from services.gateway.usage.meter import Meter
from services.gateway.usage.store import PostgresUsage
from tests.contract.gateway.usage.conftest import ready


class CutOff(PostgresUsage):
    """Loses its connection in the moment after a call was let in."""

    async def reserve(self, call: OpenCall, defaults: Limits) -> None:
        await super().reserve(call, defaults)
        raise Unavailable("The database is not reachable right now; try again.")


def held_back(redis_url: str, call: OpenCall) -> bool:
    """Whether Redis comes to hold something back for a call while nothing at all happens in this process."""
    until = time.monotonic() + 10
    with redis.Redis.from_url(redis_url) as looking:
        while time.monotonic() < until:
            if looking.hexists(f"parley:{{budget}}:open:{call.day}", call.id):
                return True
            time.sleep(0.01)
    return False


async def test_the_question_is_on_its_way_when_the_block_begins(
    money: Money, client: redis.asyncio.Redis, redis_url: str
) -> None:
    await ready(client)
    ids = str(uuid.uuid4()), str(uuid.uuid4())
    set_identity(Identity(*ids, "member", ids[0], None, {}, 0.0))
    meter = Meter(money.budgets, money.ledger)
    async with meter.call(model="m", prompt_tokens=5, output_tokens=5):
        """The connection to Redis is open from here on."""

    async with meter.begin(model="m", prompt_tokens=5, output_tokens=5) as holding:
        assert held_back(redis_url, holding.call)


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
