"""The edge on a loopback port, before a gateway and an auth that are played."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator

import openai
import pytest

from parley.auth.v1 import auth_pb2_grpc
from parley.gateway.v1 import gateway_pb2_grpc
from runtime.server import Servicer
from runtime.testing import Issuer, loopback
from services.edge.app import build
from services.edge.clients import connect
from services.edge.config import EdgeConfig
from services.edge.operation.readiness import Readiness
from services.edge.server import HttpServer
from services.edge.streams import Streams
from tests.unit.edge.openai.behind import Auth, Gateway


@pytest.fixture
def gateway() -> Gateway:
    return Gateway()


@pytest.fixture
def issuer() -> Issuer:
    return Issuer()


@pytest.fixture
def auth(issuer: Issuer) -> Auth:
    return Auth(issuer)


@pytest.fixture
async def edge(gateway: Gateway, auth: Auth, issuer: Issuer) -> AsyncIterator[str]:
    """The dialect's base URL."""
    async with contextlib.AsyncExitStack() as stack:
        name = "parley.gateway.v1.GatewayService"
        serving = Servicer(gateway_pb2_grpc.add_GatewayServiceServicer_to_server, gateway, name)
        gateway_address = await stack.enter_async_context(
            loopback("gateway", serving, verifier=issuer.verifier("gateway"))
        )
        name = "parley.auth.v1.AuthService"
        proving = Servicer(auth_pb2_grpc.add_AuthServiceServicer_to_server, auth, name, ("ExchangeApiKey",))
        auth_address = await stack.enter_async_context(loopback("auth", proving))
        nowhere = "127.0.0.1:1"
        config = EdgeConfig(
            listen="127.0.0.1:0",
            auth_address=auth_address,
            data_address=nowhere,
            chat_address=nowhere,
            gateway_address=gateway_address,
        )
        services = await stack.enter_async_context(connect(config))
        streams = Streams(limit=10, heartbeat_s=15, stalled_reader_s=60)
        app = build(config, services, issuer.verifier("edge"), streams, Readiness({}))
        server = HttpServer(app, config.listen, max_connections=100, head_timeout_s=15, stalled_reader_s=60)
        await server.start()
        stack.push_async_callback(server.stop)
        yield f"http://127.0.0.1:{server.port}/openai/v1"


@pytest.fixture
async def client(edge: str, issuer: Issuer) -> AsyncIterator[openai.AsyncOpenAI]:
    """OpenAI's own client of a signed-in user; it tries nothing twice."""
    async with openai.AsyncOpenAI(base_url=edge, api_key=issuer.token("u-1"), max_retries=0) as client:
        yield client
