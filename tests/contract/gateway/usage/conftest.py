"""The gateway with its ledger and budgets: real Postgres, real Redis, a scripted provider."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import asyncpg
import pytest
import redis.asyncio

from parley.gateway.v1 import usage_pb2 as usage
from parley.gateway.v1 import usage_pb2_grpc
from runtime.channel import open_channel, stream, unary
from runtime.config import Secret
from runtime.errors import ParleyError
from services.gateway.config import GatewayConfig
from services.gateway.usage.composition import Money, open_money
from services.gateway.usage.counters import RedisCounters
from services.gateway.usage.domain import Limits, OpenCall
from tests.conftest import MakeDatabase, StoredDatabase
from tests.contract.gateway.conftest import Gateway, MakeGateway, Reply


@dataclass
class Person:
    """Somebody who calls."""

    gateway: Gateway
    accounts: usage_pb2_grpc.UsageServiceAsyncStub
    user_id: str = field(default_factory=lambda: str(uuid.uuid4()))
    org_id: str = field(default_factory=lambda: str(uuid.uuid4()))
    claims: dict[str, Any] = field(default_factory=dict)

    @property
    def token(self) -> str:
        return self.gateway.issuer.token(self.user_id, org=self.org_id, **self.claims)

    def responses(self, **fields: Any) -> Any:
        return stream(self.gateway.stub.Chat, self.gateway.request(**fields), timeout_s=20, token=self.token)

    async def chat(self, **fields: Any) -> Reply:
        reply = Reply()
        async for response in self.responses(**fields):
            reply.add(response)
        return reply

    async def refusal(self, **fields: Any) -> ParleyError:
        with pytest.raises(ParleyError) as raised:
            await self.chat(**fields)
        return raised.value

    async def ask(self, name: str, request: Any) -> Any:
        return await unary(getattr(self.accounts, name), request, timeout_s=5, token=self.token)

    async def budget(self, scope: int = usage.SCOPE_USER) -> usage.BudgetState:
        told = await self.ask("GetUsage", usage.GetUsageRequest())
        (found,) = (state for state in told.budgets if state.scope == scope)
        state: usage.BudgetState = found
        return state


@dataclass
class Books:
    """The gateway, and what it has written."""

    gateway: Gateway
    accounts: usage_pb2_grpc.UsageServiceAsyncStub
    owner: asyncpg.Connection
    redis: redis.asyncio.Redis | None

    def person(self, org_id: str = "", **claims: Any) -> Person:
        return Person(self.gateway, self.accounts, org_id=org_id or str(uuid.uuid4()), claims=claims)

    def operator(self) -> Person:
        return self.person(operator=True)

    async def rows(self, number: int, person: Person | None = None) -> list[asyncpg.Record]:
        """Returns the ledger's rows, once there are as many and nothing is held back."""
        async with asyncio.timeout(10):
            while True:
                rows = await self.owner.fetch(
                    "SELECT * FROM gateway.usage_call WHERE $1::uuid IS NULL OR user_id = $1 ORDER BY started_at",
                    person and uuid.UUID(person.user_id),
                )
                held = await self.owner.fetchval("SELECT count(*) FROM gateway.reservation")
                if len(rows) >= number and not held:
                    return list(rows)
                await asyncio.sleep(0.02)

    async def settled(self, person: Person, tokens: int, scope: int = usage.SCOPE_USER) -> None:
        """Returns once so much and no more counts against the person."""
        async with asyncio.timeout(10):
            while (await person.budget(scope)).current_tokens != tokens:  # noqa: ASYNC110 - another process's state
                await asyncio.sleep(0.02)


MakeBooks = Callable[..., Awaitable[Books]]
"""`await make_books(**settings)`."""


@pytest.fixture(params=["redis", "postgres"])
def counted_by(request: pytest.FixtureRequest) -> str:
    """Where the running counters are."""
    return str(request.param)


@pytest.fixture
async def redis_url(redis_server: str) -> str:
    """An empty database of its own."""
    url = redis_server.rpartition("/")[0] + "/7"
    async with redis.asyncio.Redis.from_url(url) as client:
        await client.flushdb()
    return url


@pytest.fixture
async def make_books(
    database: MakeDatabase, make_gateway: MakeGateway, redis_url: str, counted_by: str
) -> AsyncIterator[MakeBooks]:
    stored = await database("gateway")
    owner = await asyncpg.connect(stored.owner_url)
    client = redis.asyncio.Redis.from_url(redis_url) if counted_by == "redis" else None
    channels = []

    async def make(environ: dict[str, str] | None = None, **settings: Any) -> Books:
        if client is not None:
            settings["redis_url"] = Secret(redis_url)
        gateway = await make_gateway(environ, database_url=Secret(stored.url), **settings)
        channel = open_channel(gateway.address, usage.DESCRIPTOR)
        channels.append(channel)
        stub = usage_pb2_grpc.UsageServiceStub(await channel.__aenter__())
        return Books(gateway, stub, owner, client)

    yield make
    for channel in channels:
        await channel.__aexit__(None, None, None)
    if client is not None:
        await client.aclose()
    await owner.close()


@pytest.fixture
async def books(make_books: MakeBooks) -> Books:
    return await make_books()


LIMITS = Limits(1000, 1000, 1000)


@pytest.fixture
async def stored(database: MakeDatabase) -> StoredDatabase:
    return await database("gateway")


@pytest.fixture
async def owner(stored: StoredDatabase) -> AsyncIterator[asyncpg.Connection]:
    connection = await asyncpg.connect(stored.owner_url)
    yield connection
    await connection.close()


@pytest.fixture
async def client(redis_url: str) -> AsyncIterator[redis.asyncio.Redis]:
    async with redis.asyncio.Redis.from_url(redis_url) as client:
        yield client


@pytest.fixture
async def money(stored: StoredDatabase, client: redis.asyncio.Redis) -> AsyncIterator[Money]:
    config = GatewayConfig(listen="", auth_address="", database_url=Secret(stored.url))
    async with open_money(config, client) as money:
        assert money is not None
        yield money


def a_call(age: timedelta = timedelta()) -> OpenCall:
    started_at = datetime.now(UTC) - age
    ids = [str(uuid.uuid4()) for _ in range(3)]
    return OpenCall(
        id=ids[0],
        day=datetime.now(UTC).date(),
        org_id=ids[1],
        user_id=ids[2],
        bot="b",
        run_id="",
        model="m",
        tokens=100,
        input_tokens=12,
        started_at=started_at,
    )


async def ready(client: redis.asyncio.Redis) -> RedisCounters:
    """Returns the counters once an instance has made them ready."""
    counters = RedisCounters(client)
    async with asyncio.timeout(5):
        while not await counters.ready(datetime.now(UTC).date()):  # noqa: ASYNC110 - another's state
            await asyncio.sleep(0.02)
    return counters
