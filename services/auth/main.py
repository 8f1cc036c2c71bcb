"""Runs the auth service, or rotates its keys."""

from __future__ import annotations

from contextlib import AsyncExitStack

from runtime import postgres, telemetry
from runtime.config import load
from runtime.server import serve
from services.auth.composition import build, key_ring
from services.auth.config import AuthConfig, KeyConfig
from services.auth.store import QUERIES


async def main() -> None:
    """Serves until a signal."""
    config = load(AuthConfig, "PARLEY_AUTH_")
    telemetry.configure(
        "auth", log_level=config.log_level, log_format=config.log_format, metrics_listen=config.metrics_listen
    )
    async with AsyncExitStack() as stack:
        url, most = config.database_url.reveal(), config.pool_max_size
        database = await stack.enter_async_context(postgres.connect(url, QUERIES, max_connections=most))
        server, upkeep = build(config, database, stack)
        await stack.enter_async_context(upkeep.running())
        await serve(server, config, prepare=upkeep.prepare)


async def rotate_keys() -> None:
    """Publishes the next signing key now, unless one is published already, and prints when it begins to sign."""
    config = load(KeyConfig, "PARLEY_AUTH_")
    async with postgres.connect(config.database_url.reveal(), QUERIES, max_connections=1) as database:
        activates_at = await key_ring(config, database).rotate()
    print(f"The next signing key is published and signs from {activates_at.isoformat(timespec='seconds')}.")  # noqa: T201
