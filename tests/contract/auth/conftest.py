"""The auth service on loopback, on a database of its own, with a clock that the test moves and hashes that cost little."""

from __future__ import annotations

import base64
import contextlib
import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from typing import Any, TypeAlias

import asyncpg
import grpc
import jwt
import pytest

from parley.auth.v1 import auth_pb2, auth_pb2_grpc
from runtime import postgres
from runtime.channel import unary
from runtime.config import Secret
from runtime.identity import Verifier
from runtime.server import Server
from runtime.testing import Clock
from services.auth.composition import build
from services.auth.config import AuthConfig
from services.auth.store import QUERIES
from services.auth.upkeep import Upkeep
from tests.channels import connected
from tests.conftest import MakeDatabase, StoredDatabase

CHAT_KEY = "the-key-by-which-chat-is-known"
ENCRYPTION_KEY = base64.b64encode(b"k" * 32).decode()
PASSWORD = "correct horse battery"
DAY_S = 86_400

Connection: TypeAlias = "asyncpg.Connection[asyncpg.Record]"


@dataclass
class Auth:
    """One instance of the service and what a test does with it."""

    stub: auth_pb2_grpc.AuthServiceAsyncStub
    clock: Clock
    stored: StoredDatabase
    owner: Connection
    upkeep: Upkeep
    server: Server

    async def sign_up(
        self, email: str = "ada@example.org", password: str = PASSWORD, address: str = "192.0.2.1"
    ) -> auth_pb2.Session:
        request = auth_pb2.SignUpRequest(email=email, password=password, client_address=address)
        response: auth_pb2.SignUpResponse = await unary(self.stub.SignUp, request, timeout_s=20)
        return response.session

    async def sign_in(
        self, email: str = "ada@example.org", password: str = PASSWORD, address: str = "192.0.2.1"
    ) -> auth_pb2.Session:
        request = auth_pb2.SignInRequest(email=email, password=password, client_address=address)
        response: auth_pb2.SignInResponse = await unary(self.stub.SignIn, request, timeout_s=20)
        return response.session

    async def refresh(self, refresh_token: str) -> auth_pb2.Session:
        request = auth_pb2.RefreshSessionRequest(refresh_token=refresh_token)
        response: auth_pb2.RefreshSessionResponse = await unary(self.stub.RefreshSession, request, timeout_s=20)
        return response.session

    async def sign_out(self, access_token: str) -> None:
        await unary(self.stub.SignOut, auth_pb2.SignOutRequest(), timeout_s=20, token=access_token)

    async def current_user(self, access_token: str) -> auth_pb2.User:
        request = auth_pb2.GetCurrentUserRequest()
        response: auth_pb2.GetCurrentUserResponse = await unary(
            self.stub.GetCurrentUser, request, timeout_s=20, token=access_token
        )
        return response.user

    async def exchange(
        self,
        access_token: str,
        *,
        actor: str = "chat",
        actor_key: str = CHAT_KEY,
        audiences: tuple[str, ...] = ("data", "gateway"),
        ttl_s: float = 600,
    ) -> auth_pb2.ExchangeTokenResponse:
        request = auth_pb2.ExchangeTokenRequest(actor=actor, actor_key=actor_key, audiences=audiences)
        request.ttl.FromMilliseconds(int(ttl_s * 1000))
        response: auth_pb2.ExchangeTokenResponse = await unary(
            self.stub.ExchangeToken, request, timeout_s=20, token=access_token
        )
        return response

    async def jwks(self) -> list[dict[str, str]]:
        response = await unary(self.stub.GetJwks, auth_pb2.GetJwksRequest(), timeout_s=20)
        keys: list[dict[str, str]] = json.loads(response.jwks_json)["keys"]
        return keys

    def verifier(self, audience: str) -> Verifier:
        """A verifier as another service has one: it knows only what GetJwks says."""

        async def fetch() -> str:
            return json.dumps({"keys": await self.jwks()})

        return Verifier(fetch, audience=audience, clock=self.clock)


StartAuth = Callable[..., Awaitable[Auth]]
"""`await start_auth(hash_queue=0)`; `beside=other` shares the other's database and clock."""


@pytest.fixture
async def start_auth(database: MakeDatabase) -> AsyncIterator[StartAuth]:
    async with contextlib.AsyncExitStack() as stack:

        async def start(*, beside: Auth | None = None, prepare: bool = True, **overrides: Any) -> Auth:
            stored = beside.stored if beside else await database("auth")
            # Far enough in the past that a test may move on by weeks and its tokens are still not from the future.
            clock = beside.clock if beside else Clock(time.time() - 120 * DAY_S)
            config = AuthConfig(
                **{
                    "listen": "127.0.0.1:0",
                    "database_url": Secret(stored.url),
                    "encryption_key": Secret(ENCRYPTION_KEY),
                    "chat_key": Secret(CHAT_KEY),
                    "hash_memory_kib": 8,
                    "hash_iterations": 1,
                    "pool_max_size": 10,
                    **overrides,
                }
            )
            own = await stack.enter_async_context(contextlib.AsyncExitStack())
            url = config.database_url.reveal()
            connection = await own.enter_async_context(
                postgres.connect(url, QUERIES, max_connections=config.pool_max_size)
            )
            server, upkeep = build(config, connection, own, clock)
            if prepare:
                await upkeep.prepare()
            await server.start()
            own.push_async_callback(server.stop, 0)
            channel = await own.enter_async_context(connected(grpc.aio.insecure_channel(f"127.0.0.1:{server.port}")))
            owner = await asyncpg.connect(stored.owner_url)
            own.push_async_callback(owner.close)
            return Auth(auth_pb2_grpc.AuthServiceStub(channel), clock, stored, owner, upkeep, server)

        yield start


@pytest.fixture
async def auth(start_auth: StartAuth) -> Auth:
    return await start_auth()


def claims_of(access_token: str) -> dict[str, Any]:
    """What a token says, unverified."""
    claims: dict[str, Any] = jwt.decode(access_token, options={"verify_signature": False})
    return claims
