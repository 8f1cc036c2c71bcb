"""Applies a service's plain SQL files in order, once each, with a ledger and a lock."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

import asyncpg
import structlog

from runtime.config import Secret

if TYPE_CHECKING:
    from pathlib import Path

log = structlog.stdlib.get_logger()

_NAME = re.compile(r"\d{4}_(pre|post)_[a-z0-9_]+\.sql")
_LEDGER = """
CREATE SCHEMA IF NOT EXISTS parley;
CREATE TABLE IF NOT EXISTS parley.migration (
  service text NOT NULL,
  name text NOT NULL,
  sha256 text NOT NULL,
  applied_at timestamptz NOT NULL DEFAULT now(),
  PRIMARY KEY (service, name)
);
"""
_LOCK = 0x7061726C6579  # "parley": one migration at a time in a database, whichever service it is of


@dataclass(frozen=True, kw_only=True)
class MigrationConfig:
    """What a migration is told."""

    migration_database_url: Secret
    """URL of the database with its owner's credentials; the service itself never sees it."""


class MigrationError(Exception):
    """The files on disk and the ledger do not fit together."""


async def migrate(url: str, service: str, directory: Path) -> list[str]:
    """Applies the files that the ledger does not list, in the order of their names, each in a transaction of its own.

    `NNNN_pre_….sql` is safe while the old code still runs, `NNNN_post_….sql` once it is gone. Forward only.

    Args:
        url: The database, with rights to create schemas and roles.
        service: Key in the ledger.
        directory: Where the files are.

    Returns: names of the files applied now.
    Raises: MigrationError: a file has a wrong name or was changed after it was applied.
    """
    files = sorted(directory.glob("*.sql"))
    for file in files:
        if not _NAME.fullmatch(file.name):
            raise MigrationError(f"{file.name}: must be named NNNN_pre_what.sql or NNNN_post_what.sql")
    connection = await asyncpg.connect(url)
    applied: list[str] = []
    try:
        await connection.execute("SELECT pg_advisory_lock($1)", _LOCK)
        await connection.execute(_LEDGER)
        rows = await connection.fetch("SELECT name, sha256 FROM parley.migration WHERE service = $1", service)
        ledger = {row["name"]: row["sha256"] for row in rows}
        for file in files:
            body = file.read_text(encoding="utf-8")
            digest = hashlib.sha256(body.encode()).hexdigest()
            if file.name in ledger:
                if ledger[file.name] != digest:
                    raise MigrationError(f"{file.name}: was changed after it had been applied; add a new file instead")
                continue
            async with connection.transaction():
                await connection.execute(body)
                await connection.execute(
                    "INSERT INTO parley.migration (service, name, sha256) VALUES ($1, $2, $3)",
                    service,
                    file.name,
                    digest,
                )
            applied.append(file.name)
    finally:
        await connection.close()
    log.info("migrated", schema=service, applied=applied)
    return applied
