"""Puts the parts of administration together."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

from parley.gateway.v1 import provider_pb2_grpc
from runtime import postgres
from runtime.server import Servicer
from services.gateway.admin.aliases import Aliases
from services.gateway.admin.keeper import Keeper
from services.gateway.admin.providers import Providers
from services.gateway.admin.records import ProviderLocked
from services.gateway.admin.references import Secrets, places_of
from services.gateway.admin.sealing import Seal
from services.gateway.admin.servicer import ALIASES, PROVIDERS, AliasServicer, ProviderServicer
from services.gateway.admin.store import QUERIES, PostgresRegistry
from services.gateway.admin.vault import Vault

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping, Sequence

    import aiohttp

    from services.gateway.admin.trial import Trial
    from services.gateway.config import GatewayConfig
    from services.gateway.providers.bridge import Bridge
    from services.gateway.providers.registry import LiveRegistry

# One looks for changes; the others are for the few who make them.
_CONNECTIONS = 3


@contextlib.asynccontextmanager
async def open_admin(
    config: GatewayConfig,
    environ: Mapping[str, str],
    registry: LiveRegistry,
    bridge: Bridge,
    session: aiohttp.ClientSession,
    *,
    trial: Trial,
) -> AsyncIterator[Sequence[Servicer]]:
    """Opens what keeps providers and aliases, and closes it at the end; nothing where there is no database or no key to encrypt under.

    Raises: ConfigError: the encryption keys are none.
    """
    if config.database_url is None or config.encryption_keys is None:
        yield []
        return
    seal = Seal(config.encryption_keys.reveal())
    url = config.database_url.reveal()
    async with postgres.connect(url, QUERIES, max_connections=_CONNECTIONS) as database:
        store = PostgresRegistry(database, seal)
        places = places_of(config.secret_variables, config.secret_directories, environ)
        secrets = Secrets(environ, Vault(environ, session), places)
        keeper = Keeper(store, secrets, registry, secrets_every_s=config.secrets_every_s)
        registry.on_loaded = keeper.begin
        providers = Providers(store, keeper, secrets, registry, bridge.knows, trial=trial)
        try:
            yield [
                Servicer(
                    provider_pb2_grpc.add_ProviderServiceServicer_to_server, ProviderServicer(providers), PROVIDERS
                ),
                Servicer(
                    provider_pb2_grpc.add_AliasServiceServicer_to_server,
                    AliasServicer(Aliases(store, keeper, registry)),
                    ALIASES,
                ),
            ]
        finally:
            await keeper.close()


async def reencrypt(database_url: str, encryption_keys: str) -> int:
    """Puts the secrets of all providers under the first of the encryption keys and returns how many were not; the others may then go.

    Raises: ProviderLocked: none of the keys opens one of them; nothing is changed.
    """
    async with postgres.connect(database_url, QUERIES, max_connections=1) as database:
        store = PostgresRegistry(database, Seal(encryption_keys))
        async with store.changing() as change:
            locked = [name for name, record in change.kept.providers.items() if record.lost]
            if locked:
                names = ", ".join(sorted(locked))
                raise ProviderLocked(
                    f"No encryption key that was given opens the keys of {names}: add the missing one, or delete them."
                )
            for name in change.kept.stale:
                await change.put_provider(change.kept.providers[name])
            return len(change.kept.stale)
