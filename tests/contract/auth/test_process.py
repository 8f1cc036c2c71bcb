"""The service as it is run: `python -m services.auth`, with its commands, its logs and its end."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import os
import signal
import sys
from collections.abc import AsyncIterator

import asyncpg
import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from deploy.local.ports import free_port
from parley.auth.v1 import auth_pb2, auth_pb2_grpc
from runtime.channel import unary
from runtime.errors import Internal, ParleyError
from tests.conftest import ROOT, MakeDatabase
from tests.contract.auth.conftest import CHAT_KEY

PLANTED_PASSWORD = "planted-password-7f3a"
PLANTED_WRONG = "planted-wrong-guess-91cc"
PLANTED_EMAIL = "planted-address-5b2e@example.org"
ENCRYPTION_KEY = base64.b64encode(b"planted-encryption-key-32-bytes!").decode()


class Process:
    """A process of the service and what it wrote."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process = process
        self.output = ""

    async def end(self) -> int:
        if self.process.returncode is None:
            self.process.send_signal(signal.SIGTERM)
        output, _ = await self.process.communicate()
        self.output += output.decode()
        assert self.process.returncode is not None
        return self.process.returncode


def environment(url: str, **changes: str) -> dict[str, str]:
    return {
        "PATH": os.environ["PATH"],
        "PARLEY_AUTH_DATABASE_URL": url,
        "PARLEY_AUTH_ENCRYPTION_KEY": ENCRYPTION_KEY,
        "PARLEY_AUTH_CHAT_KEY": CHAT_KEY,
        "PARLEY_AUTH_LISTEN": f"127.0.0.1:{free_port()}",
        "PARLEY_AUTH_HASH_MEMORY_KIB": "8",
        "PARLEY_AUTH_LOG_LEVEL": "debug",
        "PARLEY_AUTH_LOG_FORMAT": "json",
        **changes,
    }


async def start(env: dict[str, str], *arguments: str) -> Process:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "services.auth", *arguments),
        env=env,
        cwd=ROOT,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    return Process(process)


@contextlib.asynccontextmanager
async def serving(env: dict[str, str]) -> AsyncIterator[tuple[auth_pb2_grpc.AuthServiceAsyncStub, Process]]:
    """Runs the service until the block ends, once it says that it is ready."""
    process = await start(env)
    try:
        async with grpc.aio.insecure_channel(env["PARLEY_AUTH_LISTEN"]) as channel:
            health = health_pb2_grpc.HealthStub(channel)
            watch = health.Watch(health_pb2.HealthCheckRequest(), wait_for_ready=True, timeout=30)
            async for answer in watch:
                if answer.status == health_pb2.HealthCheckResponse.SERVING:
                    break
            watch.cancel()
            yield auth_pb2_grpc.AuthServiceStub(channel), process
    finally:
        await process.end()


@pytest.mark.parametrize("log_format", ["json", "pretty"])
async def test_no_secret_reaches_a_log(database: MakeDatabase, log_format: str) -> None:
    """Neither of a good day nor of a call that fails in a way nobody foresaw, whose stack is logged."""
    stored = await database("auth")
    env = environment(stored.url, PARLEY_AUTH_LOG_FORMAT=log_format)
    secrets = [PLANTED_PASSWORD, PLANTED_WRONG, PLANTED_EMAIL, CHAT_KEY, ENCRYPTION_KEY, "password-of-auth"]
    async with serving(env) as (stub, process):
        good = {"email": PLANTED_EMAIL, "password": PLANTED_PASSWORD}
        session = (await unary(stub.SignUp, auth_pb2.SignUpRequest(**good), timeout_s=10)).session
        token = session.access_token
        exchange = auth_pb2.ExchangeTokenRequest(actor="chat", actor_key=CHAT_KEY, audiences=["data"])
        exchange.ttl.FromSeconds(60)
        secrets.append((await unary(stub.ExchangeToken, exchange, timeout_s=10, token=token)).access_token)
        refresh = auth_pb2.RefreshSessionRequest(refresh_token=session.refresh_token)
        renewed = (await unary(stub.RefreshSession, refresh, timeout_s=10)).session
        secrets += [token, session.refresh_token, renewed.access_token, renewed.refresh_token]
        for request in (
            auth_pb2.SignInRequest(email=PLANTED_EMAIL, password=PLANTED_WRONG),
            auth_pb2.SignInRequest(email=f"{PLANTED_EMAIL}@", password=PLANTED_WRONG),
        ):
            with pytest.raises(ParleyError):
                await unary(stub.SignIn, request, timeout_s=10)
        with pytest.raises(ParleyError):
            await unary(stub.SignUp, auth_pb2.SignUpRequest(**good), timeout_s=10)
        await unary(stub.SignIn, auth_pb2.SignInRequest(**good), timeout_s=10)
        await unary(stub.SignOut, auth_pb2.SignOutRequest(), timeout_s=10, token=token)
        owner = await asyncpg.connect(stored.owner_url)
        await owner.execute("DROP TABLE auth.session CASCADE")
        await owner.close()
        calls = (
            (stub.SignIn, auth_pb2.SignInRequest(**good)),
            (stub.SignUp, auth_pb2.SignUpRequest(email=f"2{PLANTED_EMAIL}", password=PLANTED_PASSWORD)),
            (stub.RefreshSession, auth_pb2.RefreshSessionRequest(refresh_token=renewed.refresh_token)),
            (stub.ExchangeToken, exchange),
        )
        for method, failing in calls:
            with pytest.raises(Internal, match=r"^internal error$"):
                await unary(method, failing, timeout_s=10, token=token)
    assert "Traceback" in process.output
    assert [secret for secret in secrets if secret in process.output] == []


async def test_sign_ups_ins_and_outs_are_one_line_each(database: MakeDatabase) -> None:
    stored = await database("auth")
    async with serving(environment(stored.url)) as (stub, process):
        good = {"email": PLANTED_EMAIL, "password": PLANTED_PASSWORD}
        session = (await unary(stub.SignUp, auth_pb2.SignUpRequest(**good), timeout_s=10)).session
        wrong = auth_pb2.SignInRequest(email=PLANTED_EMAIL, password=PLANTED_WRONG)
        with pytest.raises(ParleyError):
            await unary(stub.SignIn, wrong, timeout_s=10)
        await unary(stub.SignIn, auth_pb2.SignInRequest(**good), timeout_s=10)
        refresh = auth_pb2.RefreshSessionRequest(refresh_token=session.refresh_token)
        await unary(stub.RefreshSession, refresh, timeout_s=10)
        owner = await asyncpg.connect(stored.owner_url)
        await owner.execute("UPDATE auth.refresh_token SET spent_at = spent_at - interval '11 s'")
        await owner.close()
        with pytest.raises(ParleyError):
            await unary(stub.RefreshSession, refresh, timeout_s=10)
        await unary(stub.SignOut, auth_pb2.SignOutRequest(), timeout_s=10, token=session.access_token)
    lines = [json.loads(line) for line in process.output.splitlines() if line.startswith("{")]
    events = [line for line in lines if "user_id" in line]
    assert [line["event"] for line in events] == [
        "user_signed_up",
        "sign_in_refused",
        "user_signed_in",
        "refresh_token_reused",
        "user_signed_out",
    ]
    assert {line["user_id"] for line in events} == {session.user.id}
    assert all(line["request_id"] and line["trace_id"] for line in events)
    assert process.process.returncode == 0


async def test_rotating_keys_by_hand_publishes_the_next_key_once(database: MakeDatabase) -> None:
    stored = await database("auth")
    env = environment(stored.url)
    async with serving(env):
        said = []
        for _ in range(2):
            command = await start(env, "rotate-keys")
            status = await command.process.wait()
            await command.end()
            assert status == 0, command.output
            said.append(command.output.splitlines()[-1])
    assert said[0] == said[1]
    assert "signs from" in said[0]
    owner = await asyncpg.connect(stored.owner_url)
    rows = await owner.fetch(
        "SELECT activates_at - created_at AS ahead, retires_at FROM auth.signing_key ORDER BY activates_at"
    )
    await owner.close()
    assert [round(row["ahead"].total_seconds()) for row in rows] == [0, 900]
    assert [row["retires_at"] is None for row in rows] == [False, True]


async def test_migrate_makes_the_schema(postgres_server: str, database: MakeDatabase) -> None:
    stored = await database("auth")
    owner = await asyncpg.connect(stored.owner_url)
    await owner.execute("DROP SCHEMA auth CASCADE; DROP SCHEMA parley CASCADE")
    command = await start(
        {"PATH": os.environ["PATH"], "PARLEY_AUTH_MIGRATION_DATABASE_URL": stored.owner_url}, "migrate"
    )
    assert await command.process.wait() == 0
    assert await owner.fetchval("SELECT count(*) FROM auth.user_account") == 0
    await command.end()
    await owner.close()


@pytest.mark.parametrize(
    ("changes", "fault"),
    [
        ({"PARLEY_AUTH_HASH_THREADS": "none"}, "PARLEY_AUTH_HASH_THREADS"),
        ({}, "PARLEY_AUTH_ENCRYPTION_KEY must be 32 bytes"),
    ],
)
async def test_a_fault_of_the_configuration_is_said_plainly(changes: dict[str, str], fault: str) -> None:
    env = environment("postgresql://parley_auth@127.0.0.1:1/none", PARLEY_AUTH_ENCRYPTION_KEY="c2hvcnQ=", **changes)
    command = await start(env)
    assert await command.process.wait() == 2
    await command.end()
    assert fault in command.output
    assert "Traceback" not in command.output
    assert "c2hvcnQ=" not in command.output


async def test_an_unknown_command_is_told_the_known_ones() -> None:
    command = await start({"PATH": os.environ["PATH"]}, "dance")
    assert await command.process.wait() == 2
    await command.end()
    assert "rotate-keys" in command.output
