"""Providers and aliases on Postgres: rows to records and back, no decisions."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import structlog

from runtime.queries import load
from services.gateway.admin.records import SECRET_SETTINGS, ProviderRecord
from services.gateway.admin.sealing import Sealed, Unsealable
from services.gateway.domain import Timeouts
from services.gateway.providers.aliases import Alias, AliasTarget
from services.gateway.providers.names import Defaults

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from runtime.postgres import Database, Transaction
    from services.gateway.admin.sealing import Seal

log = structlog.stdlib.get_logger()

QUERIES = load(Path(__file__).with_name("queries.sql"))


@dataclass(frozen=True)
class Kept:
    """All that is kept.

    Attributes:
        version: Raised by each change.
        providers: By name.
        aliases: By name.
        defaults: See there.
        stale: Providers whose secrets are not under the newest encryption key.
    """

    version: int
    providers: Mapping[str, ProviderRecord] = field(default_factory=dict)
    aliases: Mapping[str, Alias] = field(default_factory=dict)
    defaults: Defaults = field(default_factory=Defaults)
    stale: tuple[str, ...] = ()


class Change:
    """Statements of one change; nobody else changes anything beside it."""

    def __init__(self, transaction: Transaction, seal: Seal, kept: Kept) -> None:
        self._transaction = transaction
        self._seal = seal
        self.kept = kept
        self.defaults = kept.defaults

    async def put_provider(self, record: ProviderRecord) -> None:
        """Adds a provider or replaces it."""
        sealed = self._seal.close(record.name, _secrets(record))
        settings = {name: value for name, value in record.settings.items() if name not in SECRET_SETTINGS}
        await self._transaction.fetch(
            "put_provider",
            record.name,
            record.type,
            record.base_url,
            json.dumps(settings),
            sealed.data,
            sealed.key_id,
            list(record.models),
            record.default_model,
            record.embedding_model,
            *_waits(record.timeouts),
            record.enabled,
            record.created_at,
            record.updated_at,
        )

    async def delete_provider(self, name: str) -> None:
        """Removes a provider."""
        await self._transaction.fetch("delete_provider", name)

    async def put_alias(self, alias: Alias) -> None:
        """Adds an alias or replaces it."""
        targets = [{"model": t.model, "weight": t.weight, "rank": t.rank} for t in alias.targets]
        await self._transaction.fetch("put_alias", alias.name, json.dumps(targets), *_waits(alias.timeouts))

    async def delete_alias(self, name: str) -> None:
        """Removes an alias."""
        await self._transaction.fetch("delete_alias", name)


class PostgresRegistry:
    """Where providers and aliases are kept.

    Args:
        database: Signed in as the gateway.
        seal: Encrypts and decrypts keys.
    """

    def __init__(self, database: Database, seal: Seal) -> None:
        self._database = database
        self._seal = seal

    async def version(self) -> int:
        """Returns the version of what is kept."""
        row = await self._database.fetch_row("read_version")
        return int(row["version"]) if row else 0

    async def read(self) -> Kept:
        """Returns all that is kept; the version is no newer than the rest."""
        async with self._database.transaction() as transaction:
            return await _read(transaction, self._seal)

    @contextlib.asynccontextmanager
    async def changing(self) -> AsyncIterator[Change]:
        """Opens a change; it is stored when the block ends well, and has raised the version."""
        async with self._database.transaction() as transaction:
            await transaction.fetch("lock_registry")
            change = Change(transaction, self._seal, await _read(transaction, self._seal))
            yield change
            defaults = change.defaults
            await transaction.fetch("change_registry", defaults.provider, defaults.embeddings, defaults.alias)


async def _read(transaction: Transaction, seal: Seal) -> Kept:
    row = await transaction.fetch_row("read_registry")
    providers = await transaction.fetch("list_providers")
    aliases = await transaction.fetch("list_aliases")
    if row is None:
        return Kept(0)
    return Kept(
        row["version"],
        {one["name"]: _provider(one, seal) for one in providers},
        {one["name"]: _alias(one) for one in aliases},
        Defaults(row["default_provider"], row["default_embeddings"], row["default_alias"]),
        tuple(one["name"] for one in providers if one["secrets_key_id"] != seal.key_id),
    )


def _provider(row: Any, seal: Seal) -> ProviderRecord:
    try:
        plain = json.loads(seal.open(row["name"], Sealed(row["secrets_key_id"], row["secrets"])))
    except Unsealable:
        # One record that cannot be read keeps nobody from the others.
        log.error("provider_not_decrypted", provider=row["name"])  # noqa: TRY400 - the stack says nothing
        plain = {"api_key": "", "settings": {}, "lost": True}
    return ProviderRecord(
        name=row["name"],
        type=row["type"],
        base_url=row["base_url"],
        api_key=plain["api_key"],
        settings={**json.loads(row["settings"]), **plain["settings"]},
        models=tuple(row["models"]),
        default_model=row["default_model"],
        embedding_model=row["embedding_model"],
        timeouts=_timeouts(row),
        enabled=row["enabled"],
        lost="lost" in plain,
        created_at=row["created_at"],
        updated_at=row["updated_at"],
    )


def _alias(row: Any) -> Alias:
    targets = tuple(AliasTarget(one["model"], one["weight"], one["rank"]) for one in json.loads(row["targets"]))
    return Alias(row["name"], targets, _timeouts(row), stored=True)


def _secrets(record: ProviderRecord) -> bytes:
    settings = {name: value for name, value in record.settings.items() if name in SECRET_SETTINGS}
    return json.dumps({"api_key": record.api_key, "settings": settings}).encode()


def _timeouts(row: Any) -> Timeouts:
    return Timeouts(row["first_token_timeout_s"], row["gap_timeout_s"], row["total_timeout_s"])


def _waits(timeouts: Timeouts) -> tuple[float, float, float]:
    return timeouts.first_token_s, timeouts.gap_s, timeouts.total_s
