"""A new connection is ready for what answers need: it is opened when somebody waits for it."""

from __future__ import annotations

from typing import Any

import asyncpg

from services.data.composition import load_queries


async def test_no_statement_has_types_that_the_driver_must_ask_for(stored: Any) -> None:
    """It would ask each connection anew, in a statement that takes longer, and more of Postgres' memory, than all others together."""
    connection = await asyncpg.connect(stored.url)
    try:
        asked_for: dict[str, set[str]] = {}
        for name, statement in load_queries().items():
            prepared = await connection.prepare(statement)
            types = [*prepared.get_parameters(), *(attribute.type for attribute in prepared.get_attributes())]
            asked_for[name] = {kind.name for kind in types if kind.kind != "scalar" and kind.name != "text[]"}
    finally:
        await connection.close()
    assert {name: kinds for name, kinds in asked_for.items() if kinds} == {}
