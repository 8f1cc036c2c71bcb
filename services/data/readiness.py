"""Waits until the database is there and migrated, so that no instance takes calls it cannot serve."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import asyncpg
import structlog

from runtime.errors import Unavailable

if TYPE_CHECKING:
    from runtime.postgres import Database

log = structlog.stdlib.get_logger()

_PAUSE_S = 0.25
_NOT_MIGRATED = (asyncpg.InvalidSchemaNameError, asyncpg.UndefinedFunctionError, asyncpg.InsufficientPrivilegeError)


async def await_schema(database: Database) -> None:
    """Returns once the schema is as this code needs it; tries for ever, since a database outage is no reason to restart."""
    while True:
        try:
            await database.fetch_row("probe_schema")
        except (Unavailable, *_NOT_MIGRATED) as error:
            log.warning("schema_not_ready", error=type(error).__name__)
            await asyncio.sleep(_PAUSE_S)
        else:
            return
