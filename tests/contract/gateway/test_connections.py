"""A new connection to Postgres is ready for what calls need: it is opened when somebody waits for it."""

from __future__ import annotations

import asyncpg
import pytest

from services.gateway.admin.store import QUERIES as ADMIN
from services.gateway.usage.store import QUERIES as USAGE
from tests.conftest import MakeDatabase


@pytest.mark.parametrize("queries", [ADMIN, USAGE], ids=["admin", "usage"])
async def test_no_statement_has_types_that_the_driver_must_ask_for(
    database: MakeDatabase, queries: dict[str, str]
) -> None:
    """It would ask each connection anew, in a statement that takes longer, and more of Postgres' memory, than all others together."""
    stored = await database("gateway")
    connection = await asyncpg.connect(stored.url)
    try:
        asked_for: dict[str, set[str]] = {}
        for name, statement in queries.items():
            prepared = await connection.prepare(statement)
            types = [*prepared.get_parameters(), *(attribute.type for attribute in prepared.get_attributes())]
            asked_for[name] = {kind.name for kind in types if kind.kind != "scalar" and kind.name != "text[]"}
    finally:
        await connection.close()
    assert {name: kinds for name, kinds in asked_for.items() if kinds} == {}
