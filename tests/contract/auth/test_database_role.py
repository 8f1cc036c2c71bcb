"""The service's login role reaches its own schema and nothing else."""

from collections.abc import AsyncIterator
from typing import TypeAlias

import asyncpg
import pytest

from runtime.migrate import migrate
from tests.conftest import ROOT, MakeDatabase

Connection: TypeAlias = "asyncpg.Connection[asyncpg.Record]"


@pytest.fixture
async def connections(database: MakeDatabase) -> AsyncIterator[tuple[Connection, Connection]]:
    stored = await database("auth")
    owner, service = await asyncpg.connect(stored.owner_url), await asyncpg.connect(stored.url)
    yield owner, service
    await service.close()
    await owner.close()


async def test_the_role_has_no_power_of_its_own(connections: tuple[Connection, Connection]) -> None:
    _, service = connections
    row = await service.fetchrow(
        "SELECT rolname, rolsuper, rolcreaterole, rolcreatedb, rolreplication, rolbypassrls FROM pg_roles WHERE rolname = current_user"
    )
    assert row is not None
    assert tuple(row) == ("parley_auth", False, False, False, False, False)


async def test_the_role_owns_nothing(connections: tuple[Connection, Connection]) -> None:
    owner, _ = connections
    owned = await owner.fetch("SELECT 1 FROM pg_class WHERE relowner = 'parley_auth'::regrole")
    schemas = await owner.fetch("SELECT 1 FROM pg_namespace WHERE nspowner = 'parley_auth'::regrole")
    assert (owned, schemas) == ([], [])


async def test_the_role_cannot_read_another_services_schema(connections: tuple[Connection, Connection]) -> None:
    owner, service = connections
    await owner.execute(
        "CREATE SCHEMA other; CREATE TABLE other.thing (secret text); CREATE TABLE public.thing (secret text)"
    )
    for statement in (
        "SELECT secret FROM other.thing",
        "SELECT secret FROM public.thing",
        "SELECT name FROM parley.migration",
        "CREATE TABLE auth.mine ()",
        "CREATE TABLE public.mine ()",
        "CREATE SCHEMA mine",
        "DELETE FROM auth.user_account",
    ):
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await service.execute(statement)


async def test_a_migrated_database_has_nothing_left_to_migrate(database: MakeDatabase) -> None:
    stored = await database("auth")
    assert await migrate(stored.owner_url, "auth", ROOT / "services" / "auth" / "migrations") == []


async def test_a_second_database_of_the_same_cluster_can_be_migrated(
    postgres_server: str, database: MakeDatabase
) -> None:
    """The role is there already then."""
    stored = await database("auth")
    owner = await asyncpg.connect(stored.owner_url)
    await owner.execute("DROP SCHEMA auth CASCADE; DROP SCHEMA parley CASCADE")
    await owner.close()
    assert await migrate(stored.owner_url, "auth", ROOT / "services" / "auth" / "migrations") != []
