"""Migrations run once, in order, whole or not at all."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import asyncpg
import pytest

from runtime.migrate import MigrationError, migrate


@pytest.fixture
async def url(postgres_server: str) -> AsyncIterator[str]:
    """An empty database."""
    admin = await asyncpg.connect(postgres_server)
    await admin.execute("CREATE DATABASE migrate_test")
    yield postgres_server.rpartition("/")[0] + "/migrate_test"
    await admin.execute("DROP DATABASE migrate_test WITH (FORCE)")
    await admin.close()


async def tables(url: str) -> set[str]:
    connection = await asyncpg.connect(url)
    rows = await connection.fetch("SELECT tablename FROM pg_tables WHERE schemaname = 'public'")
    await connection.close()
    return {row["tablename"] for row in rows}


async def test_files_apply_once_and_in_order(url: str, tmp_path: Path) -> None:
    (tmp_path / "0002_post_b.sql").write_text("ALTER TABLE a RENAME TO b")
    (tmp_path / "0001_pre_a.sql").write_text("CREATE TABLE a (id int)")
    assert await migrate(url, "x", tmp_path) == ["0001_pre_a.sql", "0002_post_b.sql"]
    assert await migrate(url, "x", tmp_path) == []
    assert await tables(url) == {"b"}


async def test_a_file_that_fails_leaves_no_half(url: str, tmp_path: Path) -> None:
    (tmp_path / "0001_pre_a.sql").write_text("CREATE TABLE a (id int); SELECT 1/0;")
    with pytest.raises(asyncpg.DivisionByZeroError):
        await migrate(url, "x", tmp_path)
    assert await tables(url) == set()
    (tmp_path / "0001_pre_a.sql").write_text("CREATE TABLE a (id int)")
    assert await migrate(url, "x", tmp_path) == ["0001_pre_a.sql"]


async def test_an_edited_file_is_refused(url: str, tmp_path: Path) -> None:
    file = tmp_path / "0001_pre_a.sql"
    file.write_text("CREATE TABLE a (id int)")
    await migrate(url, "x", tmp_path)
    file.write_text("CREATE TABLE a (id bigint)")
    with pytest.raises(MigrationError, match="was changed"):
        await migrate(url, "x", tmp_path)


async def test_a_misnamed_file_is_refused(url: str, tmp_path: Path) -> None:
    (tmp_path / "create_a.sql").write_text("SELECT 1")
    with pytest.raises(MigrationError, match="must be named"):
        await migrate(url, "x", tmp_path)


async def test_instances_that_start_together_migrate_once(url: str, tmp_path: Path) -> None:
    (tmp_path / "0001_pre_a.sql").write_text("CREATE TABLE a (id int); SELECT pg_sleep(0.1);")
    applied = await asyncio.gather(*(migrate(url, "x", tmp_path) for _ in range(5)))
    assert sorted(map(len, applied)) == [0, 0, 0, 0, 1]
