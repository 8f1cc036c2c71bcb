"""The service's login role reaches its own schema and nothing else, and cannot rewrite the ledger."""

from __future__ import annotations

from collections.abc import AsyncIterator

import asyncpg
import pytest

from runtime.migrate import migrate
from tests.conftest import ROOT, MakeDatabase


@pytest.fixture
async def connections(database: MakeDatabase) -> AsyncIterator[tuple[asyncpg.Connection, asyncpg.Connection]]:
    stored = await database("gateway")
    owner, service = await asyncpg.connect(stored.owner_url), await asyncpg.connect(stored.url)
    yield owner, service
    await service.close()
    await owner.close()


async def test_the_role_has_no_power_of_its_own(connections: tuple[asyncpg.Connection, asyncpg.Connection]) -> None:
    owner, service = connections
    row = await service.fetchrow(
        "SELECT rolname, rolsuper, rolcreaterole, rolcreatedb, rolreplication, rolbypassrls FROM pg_roles WHERE rolname = current_user"
    )
    assert row is not None
    assert tuple(row) == ("parley_gateway", False, False, False, False, False)
    assert not await owner.fetch("SELECT FROM pg_class WHERE relowner = 'parley_gateway'::regrole")


@pytest.mark.parametrize(
    "statement",
    [
        "SELECT secret FROM other.thing",
        "SELECT name FROM parley.migration",
        "CREATE TABLE gateway.mine ()",
        "CREATE SCHEMA mine",
        "UPDATE gateway.usage_call SET input_tokens = 0",
        "DELETE FROM gateway.usage_day",
        "DELETE FROM gateway.budget_day",
        "TRUNCATE gateway.usage_call",
        "DELETE FROM gateway.registry",
    ],
)
async def test_the_role_may_do_no_more_than_it_needs(
    connections: tuple[asyncpg.Connection, asyncpg.Connection], statement: str
) -> None:
    owner, service = connections
    await owner.execute("CREATE SCHEMA other; CREATE TABLE other.thing (secret text)")
    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        await service.execute(statement)


async def test_a_migrated_database_has_nothing_left_to_migrate(database: MakeDatabase) -> None:
    stored = await database("gateway")
    assert await migrate(stored.owner_url, "gateway", ROOT / "services" / "gateway" / "migrations") == []
