"""Runs the auth service, rotates its keys, or makes operators."""

from __future__ import annotations

from contextlib import AsyncExitStack

import structlog

from runtime import postgres, telemetry
from runtime.config import load
from runtime.server import serve
from services.auth.composition import build, key_ring
from services.auth.config import AuthConfig, KeyConfig, OperatorConfig
from services.auth.operators import Operators
from services.auth.store import QUERIES, PostgresOperators


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


async def set_operator(email: str, *, operator: bool) -> None:
    """Makes a user an operator of the platform, or none, and prints from when on."""
    config = load(OperatorConfig, "PARLEY_AUTH_")
    async with postgres.connect(config.database_url.reveal(), QUERIES, max_connections=1) as database:
        operators = Operators(PostgresOperators(database), structlog.stdlib.get_logger().info)
        await (operators.grant if operator else operators.revoke)(email)
    when = (
        "from the next sign-in or refresh on"
        if operator
        else "once the access tokens of now have ended, in 15 minutes at most"
    )
    print(f"{email} is {'an operator' if operator else 'no operator'} {when}.")  # noqa: T201
