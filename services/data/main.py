"""Runs the data service."""

from __future__ import annotations

from contextlib import AsyncExitStack
from functools import partial

from parley.auth.v1 import auth_pb2, auth_pb2_grpc
from runtime import postgres, telemetry
from runtime.channel import open_channel
from runtime.config import load
from runtime.identity import Verifier, remote_keys
from runtime.server import Server, serve
from services.data.composition import load_queries, servicers
from services.data.config import DataConfig
from services.data.readiness import await_schema
from services.data.search.domain import SEARCHES_AT_ONCE

_READY = 2
"""Connections kept for a turn that begins after a quiet hour: another call may be under way then."""


async def main() -> None:
    """Serves until a signal.

    Raises: ConfigError.
    """
    config = load(DataConfig, "PARLEY_DATA_")
    telemetry.configure(
        "data", log_level=config.log_level, log_format=config.log_format, metrics_listen=config.metrics_listen
    )
    async with AsyncExitStack() as stack:
        url, queries = config.database_url.reveal(), load_queries()
        database = await stack.enter_async_context(
            postgres.connect(url, queries, max_connections=config.pool_max_size, ready=_READY)
        )
        searching = await stack.enter_async_context(postgres.connect(url, queries, max_connections=SEARCHES_AT_ONCE))
        channel = await stack.enter_async_context(open_channel(config.auth_address, auth_pb2.DESCRIPTOR))
        auth = auth_pb2_grpc.AuthServiceStub(channel)
        verifier = Verifier(partial(remote_keys, auth.GetJwks, auth_pb2.GetJwksRequest()), audience="data")
        offered = servicers(
            database,
            searching=searching,
            message_max_chars=config.message_max_chars,
            # One on each connection, and one that comes next.
            turns_at_once=2 * config.pool_max_size,
            verifier=verifier,
        )
        server = Server("data", config.listen, offered, verifier=verifier, direct_port=config.direct_port)
        await serve(server, config, prepare=partial(await_schema, database))
