"""A database of the last release is brought up to date: what it holds is kept, and instances of the last release go on while others are new."""

from __future__ import annotations

import hashlib
import json
import shutil
import uuid
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from parley.data.v1 import data_pb2 as pb
from runtime.migrate import migrate
from tests.contract.data.person import Person, serving, text

MIGRATIONS = Path(__file__).parents[3] / "services" / "data" / "migrations"
RELEASED = ("0001_pre_create_chat.sql", "0002_pre_create_run_functions.sql")
"""What the last release brought."""

BEGIN = """
    SELECT (run).fence FROM chat.begin_run($1, $2, gen_random_uuid(), $3, $4, $5, NULL, $6, 5, $7, 'fast', 'chat-1', now(),
      now() + interval '15 seconds', 50, 32000)
"""
CHECKPOINT = "SELECT chat.checkpoint_run($1, $2, 1, $3, 6, 5, now() + interval '15 seconds')"
FINISH = """
    SELECT outcome FROM chat.finish_run($1, $2, 1, 'completed', 'complete', '', $3, 6, NULL, 'openai/small', 9, now())
"""


class LastRelease:
    """Does what an instance of the last release does, by its functions."""

    def __init__(self, connection: asyncpg.Connection, person: Person) -> None:
        self._connection = connection
        self._claims = json.dumps({"org": person.org_id, "sub": person.user_id})

    async def begin(self, conversation_id: str | None) -> str:
        run_id = str(uuid.uuid4())
        parts = json.dumps([{"type": "text", "text": "hello"}])
        made = [run_id, str(uuid.uuid4()), str(uuid.uuid4())]
        digest = hashlib.sha256(b"hello").digest()
        assert await self._connection.fetchval(BEGIN, self._claims, conversation_id, *made, parts, digest) == 1
        return run_id

    async def finish(self, run_id: str) -> None:
        parts = json.dumps([{"type": "text", "text": "answer"}])
        assert await self._connection.fetchval(CHECKPOINT, self._claims, run_id, parts) == "stored"
        assert await self._connection.fetchval(FINISH, self._claims, run_id, parts) == "finished"


@pytest.fixture
async def old(postgres_server: str, database: Any, tmp_path: Path) -> AsyncIterator[tuple[str, str]]:
    """A database of the last release: URLs as its owner and as the service's role."""
    prepared = await database("data")  # so that the role is there, with its password
    name = "last_release_of_data"
    admin = await asyncpg.connect(postgres_server)
    await admin.execute(f"CREATE DATABASE {name}")
    urls = [url.rpartition("/")[0] + f"/{name}" for url in (prepared.owner_url, prepared.url)]
    for file in RELEASED:
        shutil.copy(MIGRATIONS / file, tmp_path)
    try:
        await migrate(urls[0], "data", tmp_path)
        yield urls[0], urls[1]
    finally:
        await admin.execute(f"DROP DATABASE {name} WITH (FORCE)")
        await admin.close()


async def test_what_the_last_release_stored_is_read_and_gone_on_with(old: tuple[str, str]) -> None:
    owner_url, url = old
    connection = await asyncpg.connect(url)
    async with serving(url) as service:
        person = service.person()
        before = LastRelease(connection, person)
        ended, running = await before.begin(None), await before.begin(None)
        await before.finish(ended)
        await migrate(owner_url, "data", MIGRATIONS)
        stored = await person.stored(ended)
        assert (stored.run.status, stored.run.response_model) == (pb.RUN_STATUS_COMPLETED, "openai/small")
        assert (stored.run.tries, stored.run.max_tries) == (1, 1)
        assert stored.answer.parts == [text("answer")]
        opened = stored.run.conversation_id
        following = await person.begin(opened)
        assert ["".join(part.text for part in message.parts) for message in following.history] == ["hello", "answer"]
        listed = (await person.call(pb.ListRunsRequest(conversation_id=opened))).runs
        assert [run.id for run in listed] == [ended, following.run.id]
        unfinished = (await person.stored(running)).run
        assert (unfinished.status, unfinished.response_model) == (pb.RUN_STATUS_RUNNING, "")
        assert (await person.finish(unfinished, text("done"))).status == pb.RUN_STATUS_COMPLETED
    await connection.close()


async def test_an_instance_of_the_last_release_goes_on_beside_new_ones(old: tuple[str, str]) -> None:
    """Its functions stay until nobody needs them, and what it leaves lapsed is claimed."""
    owner_url, url = old
    connection = await asyncpg.connect(url)
    async with serving(url) as service:
        person = service.person()
        beside = LastRelease(connection, person)
        begun_before = await beside.begin(None)
        await migrate(owner_url, "data", MIGRATIONS)
        begun_after = await beside.begin((await person.stored(begun_before)).run.conversation_id)
        for run_id in (begun_before, begun_after):
            await beside.finish(run_id)
            assert (await person.stored(run_id)).answer.parts == [text("answer")]
        forsaken = await beside.begin(None)
        owner = await asyncpg.connect(owner_url)
        await owner.execute("UPDATE chat.run SET lease_expires_at = now() - interval '1 minute' WHERE ended_at IS NULL")
        await owner.close()
        (claim,) = await service.claimer().claim()
        assert (claim.run.id, claim.run.fence, claim.kind) == (forsaken, 2, pb.Claim.KIND_LAPSED)
    await connection.close()


async def test_a_migrated_schema_is_a_fresh_one(old: tuple[str, str], database: Any) -> None:
    fresh = (await database("data")).owner_url
    await migrate(old[0], "data", MIGRATIONS)
    assert await schema(old[0]) == await schema(fresh)


async def schema(url: str) -> dict[str, list[tuple[Any, ...]]]:
    """Returns what there is: columns, constraints, indexes, policies, functions and rights."""
    connection = await asyncpg.connect(url)
    statements = {
        "columns": """
            SELECT table_name, column_name, data_type, is_nullable, column_default FROM information_schema.columns
            WHERE table_schema = 'chat'
        """,
        "constraints": """
            SELECT conrelid::regclass::text, conname, pg_get_constraintdef(oid) FROM pg_constraint
            WHERE connamespace = 'chat'::regnamespace
        """,
        "indexes": "SELECT indexdef FROM pg_indexes WHERE schemaname = 'chat'",
        "policies": "SELECT tablename, policyname, roles::text, qual, with_check FROM pg_policies WHERE schemaname = 'chat'",
        "security": "SELECT relname, relrowsecurity, relforcerowsecurity FROM pg_class WHERE relnamespace = 'chat'::regnamespace",
        "functions": "SELECT pg_get_functiondef(oid), proowner::regrole::text, proacl::text FROM pg_proc WHERE pronamespace = 'chat'::regnamespace",
        "rights": "SELECT table_name, column_name, grantee, privilege_type FROM information_schema.column_privileges WHERE table_schema = 'chat'",
    }
    try:
        return {name: sorted(map(tuple, await connection.fetch(each)), key=repr) for name, each in statements.items()}
    finally:
        await connection.close()
