"""The service as a process: waits for its schema, serves, tells no secrets, stops when told."""

import asyncio
import os
import re
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import asyncpg
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from deploy.local.ports import free_port
from parley.auth.v1 import auth_pb2, auth_pb2_grpc
from parley.data.v1 import data_pb2 as pb
from runtime.channel import open_channel
from runtime.migrate import migrate
from runtime.server import Servicer
from runtime.testing import Issuer, loopback
from tests.contract.data.person import Person, begin_request, finish_request, text

ROOT = Path(__file__).parents[3]
MIGRATIONS = ROOT / "services" / "data" / "migrations"
SECRET = "planted-7f3a"


class Keys(auth_pb2_grpc.AuthServiceServicer):
    """The one call of auth that data makes."""

    def __init__(self, issuer: Issuer) -> None:
        self._issuer = issuer

    async def GetJwks(self, request: Any, context: Any) -> auth_pb2.GetJwksResponse:
        return auth_pb2.GetJwksResponse(jwks_json=self._issuer.jwks())


def environment(**given: str) -> dict[str, str]:
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(("PARLEY_", "OTEL_"))}
    return inherited | {f"PARLEY_DATA_{name.upper()}": value for name, value in given.items()}


@asynccontextmanager
async def command(*args: str, **given: str) -> AsyncIterator[asyncio.subprocess.Process]:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "services.data", *args),
        cwd=ROOT,
        env=environment(**given),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


async def output(process: asyncio.subprocess.Process) -> str:
    stdout, _ = await process.communicate()
    return stdout.decode()


@pytest.fixture
async def empty_database(postgres_server: str, database: Any) -> AsyncIterator[tuple[str, str]]:
    """A database without schema: URLs as its owner and as the service's role."""
    prepared = await database("data")  # so that the role is there, with its password
    name = "unmigrated_data"
    admin = await asyncpg.connect(postgres_server)
    await admin.execute(f"CREATE DATABASE {name}")
    try:
        yield _in(name, prepared.owner_url), _in(name, prepared.url)
    finally:
        await admin.execute(f"DROP DATABASE {name} WITH (FORCE)")
        await admin.close()


def _in(name: str, url: str) -> str:
    return re.sub(r"/[^/]+$", f"/{name}", url)


async def test_it_serves_once_its_schema_is_there_and_tells_no_secret(empty_database: tuple[str, str]) -> None:
    owner_url, url = empty_database
    issuer = Issuer()
    keys = Servicer(
        auth_pb2_grpc.add_AuthServiceServicer_to_server, Keys(issuer), "parley.auth.v1.AuthService", ("GetJwks",)
    )
    address = f"127.0.0.1:{free_port()}"
    async with (
        loopback("auth", keys) as auth_address,
        command(database_url=url, auth_address=auth_address, listen=address, log_format="json") as process,
        open_channel(address, pb.DESCRIPTOR) as channel,
    ):
        health = health_pb2_grpc.HealthStub(channel)
        states = health.Watch(health_pb2.HealthCheckRequest(), wait_for_ready=True)
        assert (await states.read()).status == health_pb2.HealthCheckResponse.NOT_SERVING
        async with command("migrate", migration_database_url=owner_url) as migration:
            log = await output(migration)
            assert migration.returncode == 0, log
        assert (await states.read()).status == health_pb2.HealthCheckResponse.SERVING
        states.cancel()

        token = issuer.token()
        person = Person(channel, token)
        begun = await person.begin(content=f"{SECRET} question")
        await person.finish(begun.run, text(f"{SECRET} answer"))
        await person.refusal(begin_request(content=SECRET * 1000))
        await person.refusal(finish_request(begun.run.id, text(SECRET), model=SECRET * 100))

        process.send_signal(signal.SIGTERM)
        log = await output(process)
    assert process.returncode == 0, log
    assert log.count('"rpc.code": "INVALID_ARGUMENT"') == 2
    assert SECRET not in log
    assert token not in log
    assert "password-of-data" not in log


async def test_two_connections_are_open_before_anybody_calls(empty_database: tuple[str, str]) -> None:
    """The first turn after a start or a quiet hour does not wait for a handshake."""
    owner_url, url = empty_database
    async with command(database_url=url, auth_address="127.0.0.1:1", listen="127.0.0.1:0"), asyncio.timeout(20):
        connection = await asyncpg.connect(owner_url)
        try:
            open_now = (
                "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND usename = 'parley_data'"
            )
            while await connection.fetchval(open_now) != 2:  # noqa: ASYNC110 - the server's doing: nothing to await
                await asyncio.sleep(0.02)
        finally:
            await connection.close()


async def test_a_faulty_configuration_is_told_whole_and_plainly() -> None:
    async with command(pool_max_size="0") as process:
        told = await output(process)
    assert process.returncode == 2
    for name in ("LISTEN", "DATABASE_URL", "AUTH_ADDRESS", "POOL_MAX_SIZE"):
        assert f"PARLEY_DATA_{name}" in told
    assert "Traceback" not in told


async def test_an_unknown_command_is_refused() -> None:
    async with command("migrat") as process:
        assert "usage" in await output(process)
    assert process.returncode == 2


async def test_migrating_again_changes_nothing(empty_database: tuple[str, str]) -> None:
    owner_url, _ = empty_database
    assert await migrate(owner_url, "data", MIGRATIONS) == sorted(path.name for path in MIGRATIONS.glob("*.sql"))
    first = await schema(owner_url)
    assert await migrate(owner_url, "data", MIGRATIONS) == []
    assert await schema(owner_url) == first


async def schema(url: str) -> list[tuple[Any, ...]]:
    """Returns everything the catalogue says about the schema's tables, rights, constraints, policies and functions."""
    connection = await asyncpg.connect(url)
    try:
        rows = await connection.fetch("""
            SELECT 'table', relname::text, relacl::text, relforcerowsecurity::text FROM pg_class WHERE relnamespace = 'chat'::regnamespace
            UNION ALL
            SELECT 'column', attrelid::regclass::text || '.' || attname, format_type(atttypid, atttypmod), attacl::text
            FROM pg_attribute JOIN pg_class ON pg_class.oid = attrelid WHERE relnamespace = 'chat'::regnamespace
            UNION ALL
            SELECT 'constraint', conname, pg_get_constraintdef(oid), '' FROM pg_constraint WHERE connamespace = 'chat'::regnamespace
            UNION ALL
            SELECT 'policy', polname, pg_get_expr(polqual, polrelid), '' FROM pg_policy
            UNION ALL
            SELECT 'function', proname, pg_get_functiondef(oid), proacl::text FROM pg_proc WHERE pronamespace = 'chat'::regnamespace
            ORDER BY 1, 2, 3, 4
        """)
    finally:
        await connection.close()
    return [tuple(row) for row in rows]
