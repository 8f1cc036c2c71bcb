"""Runs the gateway."""

from __future__ import annotations

import os
from contextlib import AsyncExitStack
from functools import partial

from parley.auth.v1 import auth_pb2, auth_pb2_grpc
from runtime import telemetry
from runtime.channel import open_channel
from runtime.config import load
from runtime.identity import Verifier, remote_keys
from runtime.server import Server, serve
from services.gateway.composition import assemble
from services.gateway.config import GatewayConfig
from services.gateway.providers.bridge import Bridge


async def main() -> None:
    """Serves until a signal.

    Raises: ConfigError.
    """
    config = load(GatewayConfig, "PARLEY_GATEWAY_")
    telemetry.configure(
        "gateway", log_level=config.log_level, log_format=config.log_format, metrics_listen=config.metrics_listen
    )
    async with AsyncExitStack() as stack:
        auth = auth_pb2_grpc.AuthServiceStub(
            await stack.enter_async_context(open_channel(config.auth_address, auth_pb2.DESCRIPTOR))
        )
        verifier = Verifier(partial(remote_keys, auth.GetJwks, auth_pb2.GetJwksRequest()), audience="gateway")
        servicers, registry = await assemble(config, os.environ, Bridge(), stack)
        server = Server("gateway", config.listen, servicers, verifier=verifier, direct_port=config.direct_port)
        await serve(server, config, prepare=registry.load)
