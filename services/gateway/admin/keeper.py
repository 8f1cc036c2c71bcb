"""Brings what is kept to life: every instance looks for changes twice a second, and whoever makes one sees it at once."""

from __future__ import annotations

import asyncio
import contextlib
import time
from typing import TYPE_CHECKING

import asyncpg
import structlog
from opentelemetry import trace

from runtime.errors import ParleyError
from runtime.stopping import stop
from services.gateway.admin.references import SecretUnavailable
from services.gateway.admin.translation import callable_provider
from services.gateway.providers.registry import Stored

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from services.gateway.admin.records import ProviderRecord
    from services.gateway.admin.references import Secrets
    from services.gateway.admin.store import Kept, PostgresRegistry
    from services.gateway.providers.provider import Provider
    from services.gateway.providers.registry import LiveRegistry

log = structlog.stdlib.get_logger()

_EVERY_S = 0.4
_AFTER_FAILURE_S = 1.0
_FIRST_S = 10.0
# A look that finds nothing new, which is nearly every one, is nothing to trace: its parent was not sampled.
_UNSEEN = trace.NonRecordingSpan(trace.SpanContext(1, 1, is_remote=False))
# A schema that is yet to be made, a role that may not sign in yet: as if the database were away.
_NOT_YET = (ParleyError, asyncpg.PostgresError)


class Keeper:
    """Keeps the registry in step with what is kept. While Postgres is away, what was read last goes on.

    Args:
        store: Where it is kept.
        secrets: Reads references.
        registry: What calls go by.
        secrets_every_s: Seconds between two readings of the references, whose secrets may be replaced where they are.
    """

    def __init__(
        self, store: PostgresRegistry, secrets: Secrets, registry: LiveRegistry, *, secrets_every_s: float
    ) -> None:
        self._store = store
        self._secrets = secrets
        self._registry = registry
        self._secrets_every_s = secrets_every_s
        self._kept: Kept | None = None
        self._read_at = 0.0
        self._refreshing = asyncio.Lock()
        self._task: asyncio.Task[None] | None = None

    @property
    def kept(self) -> Kept | None:
        """What is kept, as this instance knows it."""
        return self._kept

    async def begin(self) -> None:
        """Reads what is kept, unless that takes too long, and looks for changes from then on."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_FIRST_S):
                while not await self._try(self.refresh):  # noqa: ASYNC110 - another's server: nothing to await
                    await asyncio.sleep(_AFTER_FAILURE_S)
        if self._kept is None:
            log.warning("stored_providers_not_read")
        self._task = asyncio.create_task(self._run())

    async def close(self) -> None:
        """Looks no more."""
        if self._task is not None:
            await stop(self._task)

    async def refresh(self) -> None:
        """Makes names stand for what they stand for now. Raises: Unavailable."""
        async with self._refreshing:
            kept = await self._store.read()
            await self._apply(kept)

    async def _run(self) -> None:
        while True:  # noqa: ASYNC110 - the same
            await asyncio.sleep(_EVERY_S if await self._try(self._look) else _AFTER_FAILURE_S)

    async def _look(self) -> None:
        known = -1 if self._kept is None else self._kept.version
        with trace.use_span(_UNSEEN):
            version = await self._store.version()
        if version != known:
            await self.refresh()
        elif self._kept is not None and time.monotonic() - self._read_at > self._secrets_every_s:
            await self._secrets.renew()
            async with self._refreshing:
                await self._apply(self._kept)

    async def _try(self, step: Callable[[], Awaitable[None]]) -> bool:
        try:
            await step()
        except _NOT_YET as error:
            log.info("stored_providers_not_looked_at", cause=type(error).__name__)
            return False
        except Exception:
            # Whatever it was, what is known goes on, and the next look may be luckier.
            log.exception("stored_providers_not_looked_at")
            return False
        return True

    async def _apply(self, kept: Kept) -> None:
        providers = await self._callable([one for one in kept.providers.values() if one.enabled])
        await self._registry.change(Stored(providers, tuple(kept.aliases.values()), kept.defaults))
        self._kept = kept
        self._read_at = time.monotonic()

    async def _callable(self, records: Sequence[ProviderRecord]) -> Sequence[Provider]:
        async def one(record: ProviderRecord) -> Provider | None:
            try:
                return await callable_provider(record, self._secrets)
            except SecretUnavailable:
                # It was logged, and TestProvider tells why.
                return None

        made = await asyncio.gather(*(one(record) for record in records))
        return [provider for provider in made if provider is not None]
