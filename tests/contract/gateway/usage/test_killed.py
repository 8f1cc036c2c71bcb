"""A gateway that ends in the middle of calls: what it held is given back, and what it had asked for is in the ledger."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
from collections.abc import AsyncIterator
from typing import Any

import asyncpg
import grpc
import pytest
import redis.asyncio

from deploy.local.ports import free_port
from parley.auth.v1 import auth_pb2, auth_pb2_grpc
from parley.gateway.v1 import gateway_pb2 as pb
from parley.gateway.v1 import gateway_pb2_grpc
from runtime.channel import open_channel, stream
from runtime.config import Secret
from runtime.errors import ParleyError
from runtime.server import Servicer
from runtime.testing import Issuer, loopback
from services.gateway.config import GatewayConfig
from services.gateway.usage.composition import open_money
from services.gateway.usage.counters import RedisCounters
from services.gateway.usage.store import today
from tests.conftest import ROOT, StoredDatabase
from tests.fakes.llm_provider import ScriptedProvider, Stall

USER, ORGANIZATION = "01900000-0000-7000-8000-000000000001", "01900000-0000-7000-8000-000000000002"


class Keys(auth_pb2_grpc.AuthServiceServicer):
    """As much of auth as a gateway asks for."""

    def __init__(self, issuer: Issuer) -> None:
        self._issuer = issuer

    async def GetJwks(self, request: auth_pb2.GetJwksRequest, context: Any) -> auth_pb2.GetJwksResponse:
        return auth_pb2.GetJwksResponse(jwks_json=self._issuer.jwks())


@contextlib.asynccontextmanager
async def running(**environ: str) -> AsyncIterator[asyncio.subprocess.Process]:
    """Runs a gateway as it is run, for the length of the block."""
    whole = {"PATH": os.environ["PATH"], "PYTHONPATH": os.pathsep.join(sys.path), **environ}
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "services.gateway", cwd=ROOT, env=whole, stdout=asyncio.subprocess.DEVNULL
    )
    try:
        yield process
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.wait()


async def call(address: str, token: str) -> None:
    """Calls until the call is answered, refused, or broken off."""
    request = pb.ChatRequest(messages=[pb.PromptMessage(role=pb.ROLE_USER, text="Tell me all.")])
    async with open_channel(address, pb.DESCRIPTOR) as channel:
        stub = gateway_pb2_grpc.GatewayServiceStub(channel)
        with contextlib.suppress(ParleyError, grpc.RpcError):
            async for _ in stream(stub.Chat, request, timeout_s=60, token=token):
                pass


async def ended_by(
    signal_: signal.Signals,
    stored: StoredDatabase,
    redis_url: str,
    provider: ScriptedProvider,
    owner: asyncpg.Connection,
) -> None:
    """Sends a gateway a signal while five calls are under way, and returns once it is gone."""
    provider.script(Stall(after=3), times=5)
    issuer = Issuer()
    name = auth_pb2.DESCRIPTOR.services_by_name["AuthService"].full_name
    keys = Servicer(auth_pb2_grpc.add_AuthServiceServicer_to_server, Keys(issuer), name, ("GetJwks",))
    address, token = f"127.0.0.1:{free_port()}", issuer.token(USER, org=ORGANIZATION)
    async with (
        loopback("auth", keys) as auth,
        running(
            PARLEY_GATEWAY_LISTEN=address,
            PARLEY_GATEWAY_AUTH_ADDRESS=auth,
            PARLEY_GATEWAY_DATABASE_URL=stored.url,
            PARLEY_GATEWAY_REDIS_URL=redis_url,
            PARLEY_GATEWAY_OLLAMA_PROBE="false",
            PARLEY_GATEWAY_DRAIN_GRACE_S="0.5",
            OPENAI_API_KEY="sk-test",
            OPENAI_BASE_URL=f"{provider.base_url}/v1",
        ) as process,
        asyncio.TaskGroup() as tasks,
    ):
        async with asyncio.timeout(60):
            first = tasks.create_task(call(address, token))
            while not provider.requests:
                await asyncio.wait({first}, timeout=0.1)
                if first.done():
                    first = tasks.create_task(call(address, token))
        for _ in range(4):
            tasks.create_task(call(address, token))
        async with asyncio.timeout(10):
            while await owner.fetchval("SELECT count(*) FROM gateway.reservation") < 5:  # noqa: ASYNC110 - another's
                await asyncio.sleep(0.02)
        process.send_signal(signal_)
        async with asyncio.timeout(20):
            await process.wait()


@pytest.mark.timeout(120)
@pytest.mark.parametrize("counted_by", ["redis"], indirect=True)
async def test_a_gateway_that_is_told_to_stop_writes_what_its_calls_have_used(
    stored: StoredDatabase, redis_url: str, provider: ScriptedProvider, owner: asyncpg.Connection, counted_by: str
) -> None:
    await ended_by(signal.SIGTERM, stored, redis_url, provider, owner)

    rows = await owner.fetch("SELECT * FROM gateway.usage_call")
    assert [(row["outcome"], row["estimated"], row["output_tokens"] > 0) for row in rows] == [
        ("cancelled", True, True)
    ] * 5
    assert not await owner.fetchval("SELECT count(*) FROM gateway.reservation")
    async with redis.asyncio.Redis.from_url(redis_url) as client:
        counters, day = RedisCounters(client), today(rows[0]["started_at"].timestamp())
        assert await counters.current(day, "g") == sum(row["input_tokens"] + row["output_tokens"] for row in rows)


@pytest.mark.timeout(120)
@pytest.mark.parametrize("counted_by", ["redis"], indirect=True)
async def test_what_a_killed_gateway_was_asked_is_in_the_ledger(
    stored: StoredDatabase, redis_url: str, provider: ScriptedProvider, owner: asyncpg.Connection, counted_by: str
) -> None:
    await ended_by(signal.SIGKILL, stored, redis_url, provider, owner)

    # Another instance, once the lease is over.
    await owner.execute("UPDATE gateway.reservation SET expires_at = now() - interval '1 s'")
    config = GatewayConfig(listen="", auth_address="", database_url=Secret(stored.url))
    async with redis.asyncio.Redis.from_url(redis_url) as client, open_money(config, client) as money:
        assert money is not None
        await money.janitor.reclaim()
        rows = await owner.fetch("SELECT * FROM gateway.usage_call")
        assert len(rows) == 5
        assert {(row["outcome"], row["estimated"]) for row in rows} == {("abandoned", True)}
        assert {(row["provider"], row["provider_name"]) for row in rows} == {("openai", "openai")}
        assert {(str(row["user_id"]), str(row["org_id"])) for row in rows} == {(USER, ORGANIZATION)}
        used = sum(row["input_tokens"] for row in rows)
        assert used > 0
        await money.janitor.round()
        counters, day = RedisCounters(client), today(rows[0]["started_at"].timestamp())
        async with asyncio.timeout(10):
            while await counters.current(day, "g") != used:  # noqa: ASYNC110 - another task's work
                await asyncio.sleep(0.05)
        assert not await counters.open_calls(day)
