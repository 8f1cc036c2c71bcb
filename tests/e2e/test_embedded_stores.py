"""The embedded Postgres and Redis: data survives everything, tests leave nothing, nobody's privacy stands in the way."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, get_args

import asyncpg
import pytest
from redis.asyncio import Redis
from redis.exceptions import AuthenticationError

from deploy.local import postgres as postgres_module
from deploy.local import process
from deploy.local.postgres import EmbeddedPostgres, PostgresError
from deploy.local.redis import EmbeddedRedis

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root: a plain user runs Postgres as itself")


@asynccontextmanager
async def connected(url: str) -> AsyncIterator[Any]:
    connection = await asyncpg.connect(url)
    try:
        yield connection
    finally:
        await connection.close()


async def test_postgres_has_vectors_and_asks_for_the_password(tmp_path: Path) -> None:
    async with EmbeddedPostgres(tmp_path, ephemeral=True) as postgres:
        async with connected(postgres.url) as connection:
            await connection.execute("CREATE EXTENSION vector")
            assert await connection.fetchval("SELECT '[1,2]'::vector <-> '[1,3]'::vector") == 1
            assert await connection.fetchval("SHOW server_encoding") == "UTF8"
        with pytest.raises(asyncpg.InvalidPasswordError):
            await asyncpg.connect(postgres.url.replace("postgres:", "postgres:x", 2))


async def test_redis_asks_for_the_password(tmp_path: Path) -> None:
    async with EmbeddedRedis(tmp_path, ephemeral=True) as redis:
        async with Redis.from_url(redis.url) as client:
            assert await client.ping()
        async with Redis.from_url(redis.url.replace("redis://:", "redis://:x")) as client:
            with pytest.raises(AuthenticationError):
                await client.ping()


async def test_an_ephemeral_store_leaves_nothing(tmp_path: Path) -> None:
    async with EmbeddedPostgres(tmp_path, ephemeral=True), EmbeddedRedis(tmp_path, ephemeral=True):
        pass
    assert {path.name for path in tmp_path.iterdir()} == {"logs", "secrets"}


async def test_data_outlives_a_crash_of_the_stores(tmp_path: Path) -> None:
    """A crash leaves a postmaster.pid behind; the next start is not stopped by it."""
    async with (
        EmbeddedPostgres(tmp_path) as postgres,
        EmbeddedRedis(tmp_path) as redis,
        connected(postgres.url) as connection,
        Redis.from_url(redis.url) as client,
    ):
        await connection.execute("CREATE TABLE kept AS SELECT 42 AS value")
        await client.set("kept", "42")
        await client.execute_command("WAITAOF", 1, 0, 5000)  # type: ignore[no-untyped-call]
        for store in (postgres, redis):
            store.process.send(signal.SIGKILL)
            await store.process.wait()
    assert (tmp_path / "postgres" / "data" / "postmaster.pid").exists()
    async with (
        EmbeddedPostgres(tmp_path) as postgres,
        EmbeddedRedis(tmp_path) as redis,
        connected(postgres.url) as connection,
        Redis.from_url(redis.url) as client,
    ):
        assert await connection.fetchval("SELECT value FROM kept") == 42
        assert await client.get("kept") == b"42"


async def test_a_pid_file_that_names_somebody_else_is_not_believed(tmp_path: Path) -> None:
    """After a restart of the machine or container, the old server's pid is often another process's."""
    async with EmbeddedPostgres(tmp_path):
        pass
    pid_file = tmp_path / "postgres" / "data" / "postmaster.pid"
    pid_file.write_text(f"{os.getpid()}\n{pid_file.parent}\n")
    async with EmbeddedPostgres(tmp_path) as postgres, connected(postgres.url) as connection:
        assert await connection.fetchval("SELECT 1") == 1


async def test_a_cluster_half_made_is_made_anew(tmp_path: Path) -> None:
    for name in ("data.new", "data"):
        half = tmp_path / "postgres" / name
        half.mkdir(parents=True)
        (half / "postgresql.conf").write_text("half")
    async with EmbeddedPostgres(tmp_path) as postgres, connected(postgres.url) as connection:
        assert await connection.fetchval("SELECT 1") == 1


async def test_two_servers_never_share_a_cluster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(postgres_module, "_PREDECESSOR_S", 0.1)
    async with EmbeddedPostgres(tmp_path) as first:
        with pytest.raises(PostgresError, match=f"pid {first.process.pid}"):
            await EmbeddedPostgres(tmp_path).start()
        async with connected(first.url) as connection:
            assert await connection.fetchval("SELECT 1") == 1


async def test_a_restarted_store_is_found_at_the_same_url(tmp_path: Path) -> None:
    async with EmbeddedPostgres(tmp_path, ephemeral=True) as postgres:
        url = postgres.url
        async with connected(url) as connection:
            await connection.execute("CREATE TABLE kept AS SELECT 42 AS value")
        await postgres.stop(keep=True)
        await postgres.start()
        assert postgres.url == url
        async with connected(url) as connection:
            assert await connection.fetchval("SELECT value FROM kept") == 42


async def test_neither_statement_nor_row_reaches_the_log(tmp_path: Path) -> None:
    async with EmbeddedPostgres(tmp_path, ephemeral=True) as postgres, connected(postgres.url) as connection:
        await connection.execute("CREATE TABLE once (value text PRIMARY KEY)")
        for _ in range(2):
            try:
                await connection.execute("INSERT INTO once VALUES ('planted')")
            except asyncpg.UniqueViolationError:
                break
        with pytest.raises(asyncpg.PostgresSyntaxError):
            await connection.execute("planted planted")
        log = (tmp_path / "logs" / "postgres.log").read_text()
    assert "duplicate key" in log
    assert "VALUES" not in log
    assert "(planted)" not in log


@as_root
@pytest.mark.parametrize("identity", ["nobody", "reach", "namespace"])
async def test_each_way_to_run_as_root_works_under_a_private_directory_or_says_that_it_does_not(
    tmp_path: Path, identity: process.Identity
) -> None:
    private = tmp_path / "private"
    private.mkdir(mode=0o700)
    assert identity in get_args(process.Identity)
    status = await process.run(
        ["/bin/sh", "-c", 'test "$(id -u)" != 0 && test -x "$1"', "sh", private], identity=identity
    )
    if identity == "nobody":
        assert status != 0
    elif identity == "namespace" and status != 0:
        pytest.skip("this kernel gives no user namespaces")
    else:
        assert status == 0


@as_root
async def test_a_cluster_changes_hands_when_the_way_to_run_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A home that could be reached yesterday may be private today, and the other way round."""
    if await process.run(["/bin/true"], identity="namespace") != 0:
        pytest.skip("this kernel gives no user namespaces")
    run: Callable[..., Awaitable[int]] = process.run

    async def only_namespace(*arguments: Any, identity: process.Identity = "same", **more: Any) -> int:
        return 1 if identity in {"nobody", "reach"} else await run(*arguments, identity=identity, **more)

    async with EmbeddedPostgres(tmp_path) as postgres, connected(postgres.url) as connection:
        await connection.execute("CREATE TABLE kept AS SELECT 42 AS value")
    data = tmp_path / "postgres" / "data"
    assert data.stat().st_uid != 0
    monkeypatch.setattr(process, "run", only_namespace)
    async with EmbeddedPostgres(tmp_path) as postgres, connected(postgres.url) as connection:
        assert await connection.fetchval("SELECT value FROM kept") == 42
        assert data.stat().st_uid == 0
    monkeypatch.undo()
    async with EmbeddedPostgres(tmp_path) as postgres, connected(postgres.url) as connection:
        assert await connection.fetchval("SELECT value FROM kept") == 42


_ROOT_ONLY = [pytest.param(identity, marks=as_root) for identity in ("nobody", "reach", "namespace")]


@pytest.mark.parametrize("identity", ["same", *_ROOT_ONLY])
async def test_a_process_dies_with_its_parent_whatever_its_identity(tmp_path: Path, identity: str) -> None:
    """The parent is killed with -9; its child must follow, which a change of identity would prevent if made too late."""
    tmp_path.chmod(0o755)
    pid_file = tmp_path / "pid"
    program = (
        "import asyncio, pathlib\n"
        "from deploy.local.process import Process\n"
        "async def main():\n"
        f"    child = Process.spawn(['/bin/sleep', '60'], identity={identity!r})\n"
        f"    pathlib.Path({str(pid_file)!r}).write_text(str(child.pid))\n"
        "    await asyncio.sleep(60)\n"
        "asyncio.run(main())\n"
    )
    parent = process.Process.spawn([sys.executable, "-c", program], cwd=Path(__file__).parents[2])
    async with asyncio.timeout(20):
        while not pid_file.exists() or not pid_file.read_text():  # noqa: ASYNC110 - another process writes it
            await asyncio.sleep(0.01)
        child = int(pid_file.read_text())
        while Path(f"/proc/{child}/comm").read_text() != "sleep\n":  # noqa: ASYNC110 - until the tie is made
            await asyncio.sleep(0.01)
        parent.send(signal.SIGKILL)
        await parent.wait()
        while lives(child):  # noqa: ASYNC110 - not a child of ours
            await asyncio.sleep(0.01)


def lives(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False
