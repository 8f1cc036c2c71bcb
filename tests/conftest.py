"""Real stores for tests: a Postgres and a Redis for the session, and a migrated database for each test that asks for one."""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

import asyncpg
import hypothesis
import pytest

from runtime.migrate import migrate

ROOT = Path(__file__).resolve().parents[1]
POSTGRES_IMAGE = "pgvector/pgvector:pg18"
REDIS_IMAGE = "valkey/valkey:9"

_used = pytest.StashKey[dict[str, str]]()


@dataclass(frozen=True)
class StoredDatabase:
    """A migrated database of its own.

    Attributes:
        url: As the service's login role: what the service itself is told. With several services: the first one's.
        owner_url: As the role that owns it, which row-level security does not bind.
        urls: As each service's login role, by service.
    """

    url: str
    owner_url: str
    urls: dict[str, str]


MakeDatabase = Callable[..., Awaitable[StoredDatabase]]
"""`await database("data")`; `await database("auth", "data")` holds both schemas."""


# A change must not fail for what another random example finds: CI tries the same ones each time, everybody else new ones.
# None must fail for how long it takes: a machine that has other things to do is slow.
hypothesis.settings.register_profile("ours", deadline=None)
hypothesis.settings.register_profile("ci", derandomize=True, deadline=None)
hypothesis.settings.load_profile("ci" if os.environ.get("CI") else "ours")


def pytest_configure(config: pytest.Config) -> None:
    config.stash[_used] = {}


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    for store, source in config.stash[_used].items():
        terminalreporter.write_line(f"{store}: {source}")


@pytest.fixture(scope="session")
def docker_engine() -> bool:
    """Says whether a Docker engine answers; PARLEY_TEST_DOCKER=false does without one all the same."""
    if os.environ.get("PARLEY_TEST_DOCKER") == "false":
        return False
    if "DOCKER_HOST" not in os.environ and not Path("/var/run/docker.sock").exists():
        return False
    import docker  # type: ignore[import-untyped]

    try:
        client = docker.from_env(timeout=5)
        try:
            return bool(client.ping())
        finally:
            client.close()
    except docker.errors.DockerException:
        return False


@pytest.fixture(scope="session")
def store_home() -> Iterator[Path]:
    """A directory for the embedded stores that a Postgres running as somebody else can reach."""
    home = Path(tempfile.mkdtemp(prefix="parley-test-"))
    home.chmod(0o711)
    yield home
    shutil.rmtree(home, ignore_errors=True)


@pytest.fixture(scope="session")
async def postgres_server(docker_engine: bool, store_home: Path, pytestconfig: pytest.Config) -> AsyncIterator[str]:
    """URL of the session's Postgres as its superuser; tests take a `database` of their own instead of writing here."""
    async with contextlib.AsyncExitStack() as stack:
        if docker_engine:
            os.environ.setdefault("TESTCONTAINERS_RYUK_DISABLED", "true")  # the block below ends what it starts
            from testcontainers.community.postgres import PostgresContainer

            container = stack.enter_context(
                PostgresContainer(
                    POSTGRES_IMAGE, username="postgres", password="postgres", dbname="parley", driver=None
                ).with_command("postgres -c fsync=off -c synchronous_commit=off -c max_connections=200")
            )
            url = container.get_connection_url()
            pytestconfig.stash[_used]["Postgres"] = f"{POSTGRES_IMAGE} in Docker"
        else:
            from deploy.local.postgres import EmbeddedPostgres

            url = (await stack.enter_async_context(EmbeddedPostgres(store_home, ephemeral=True))).url
            pytestconfig.stash[_used]["Postgres"] = "embedded (no Docker engine answers)"
        yield url


@pytest.fixture(scope="session")
async def redis_server(docker_engine: bool, store_home: Path, pytestconfig: pytest.Config) -> AsyncIterator[str]:
    """URL of the session's Redis; tests keep apart by keys of their own, or by `FLUSHDB` of a database number of their own."""
    async with contextlib.AsyncExitStack() as stack:
        if docker_engine:
            os.environ.setdefault("TESTCONTAINERS_RYUK_DISABLED", "true")
            from testcontainers.community.redis import RedisContainer

            container = stack.enter_context(RedisContainer(REDIS_IMAGE))
            url = f"redis://{container.get_container_host_ip()}:{container.get_exposed_port(container.port)}/0"
            pytestconfig.stash[_used]["Redis"] = f"{REDIS_IMAGE} in Docker"
        else:
            from deploy.local.redis import EmbeddedRedis

            url = (await stack.enter_async_context(EmbeddedRedis(store_home, ephemeral=True))).url
            pytestconfig.stash[_used]["Redis"] = "embedded (no Docker engine answers)"
        yield url


@pytest.fixture(scope="session")
async def templates(postgres_server: str) -> dict[tuple[str, ...], dict[str, str]]:
    """Migrated databases to clone: passwords of the login roles, by the services whose schemas a template holds."""
    return {}


@pytest.fixture
async def database(
    postgres_server: str, templates: dict[tuple[str, ...], dict[str, str]]
) -> AsyncIterator[MakeDatabase]:
    """Makes databases for one test; they are dropped after it."""
    async with _databases(postgres_server, templates) as make:
        yield make


@pytest.fixture(scope="module")
async def module_database(
    postgres_server: str, templates: dict[tuple[str, ...], dict[str, str]]
) -> AsyncIterator[MakeDatabase]:
    """Makes databases for all tests of a module; they are dropped after the last."""
    async with _databases(postgres_server, templates) as make:
        yield make


@contextlib.asynccontextmanager
async def _databases(server: str, templates: dict[tuple[str, ...], dict[str, str]]) -> AsyncIterator[MakeDatabase]:
    made: list[str] = []
    admin = await asyncpg.connect(_at(server, "postgres"))

    async def make(*services: str) -> StoredDatabase:
        if services not in templates:
            templates[services] = await _make_template(admin, server, services)
        name = f"test_{secrets.token_hex(6)}"
        await admin.execute(f"CREATE DATABASE {name} TEMPLATE {_template(services)} STRATEGY FILE_COPY")
        made.append(name)
        owner_url = _at(server, name)
        urls = {
            service: _at(owner_url, name, role=f"parley_{service}", password=password)
            for service, password in templates[services].items()
        }
        return StoredDatabase(urls[services[0]], owner_url, urls)

    try:
        yield make
    finally:
        for name in made:
            await admin.execute(f"DROP DATABASE {name} WITH (FORCE)")
        await admin.close()


async def _make_template(
    admin: asyncpg.Connection[asyncpg.Record], server: str, services: tuple[str, ...]
) -> dict[str, str]:
    template = _template(services)
    await admin.execute(f"CREATE DATABASE {template}")
    passwords = {}
    for service in services:
        await migrate(_at(server, template), service, ROOT / "services" / service / "migrations")
        # The same for every template: the role is the cluster's, not the database's.
        passwords[service] = f"password-of-{service}"
        await admin.execute(f"ALTER ROLE parley_{service} LOGIN PASSWORD '{passwords[service]}'")
    return passwords


def _template(services: tuple[str, ...]) -> str:
    return "template_" + "_".join(services)


def _at(url: str, database: str, *, role: str = "", password: str = "") -> str:
    """Returns the URL of another database of the same server, as another role where one is given."""
    parts = urlsplit(url)
    netloc = f"{role}:{password}@{parts.netloc.rpartition('@')[2]}" if role else parts.netloc
    return urlunsplit(parts._replace(netloc=netloc, path=f"/{database}"))
