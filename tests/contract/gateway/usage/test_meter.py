"""What is held back for a call is given back on every way out of it."""

from __future__ import annotations

import uuid

import asyncpg
import pytest

from runtime.context import Identity, set_identity
from runtime.errors import Unavailable
from services.gateway.usage.composition import Money
from services.gateway.usage.domain import Limits, OpenCall
from services.gateway.usage.meter import Meter
from services.gateway.usage.store import PostgresUsage


class CutOff(PostgresUsage):
    """Loses its connection in the moment after a call was let in."""

    async def reserve(self, call: OpenCall, defaults: Limits) -> None:
        await super().reserve(call, defaults)
        raise Unavailable("The database is not reachable right now; try again.")


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
