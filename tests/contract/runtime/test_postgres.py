"""Transactions carry claims and end clean; the database's faults become the vocabulary."""

import asyncio
import contextlib
import json
import threading
from collections.abc import AsyncIterator, Callable
from urllib.parse import urlsplit

import asyncpg
import pytest
import structlog.testing

from runtime import postgres
from runtime.errors import Conflict, Unavailable
from runtime.postgres import Database
from tests.chaos.proxy import Link

QUERIES = {
    "claims": "SELECT current_setting('request.jwt.claims', true) AS claims, current_user AS role",
    "sleep": "SELECT pg_sleep($1::float8)",
    "fail": "SELECT 1/0",
    "serialization": "DO $$ BEGIN RAISE EXCEPTION USING ERRCODE = '40001'; END $$",
    "add": "INSERT INTO parley_test_note (body) VALUES ($1) RETURNING body",
    "notes": "SELECT body FROM parley_test_note",
    "kill": "SELECT pg_terminate_backend(pg_backend_pid())",
}


@pytest.fixture
async def database(postgres_server: str) -> AsyncIterator[Database]:
    """One connection, so that what one use leaves behind the next one sees."""
    connection = await asyncpg.connect(postgres_server)
    await connection.execute("CREATE TABLE parley_test_note (body text)")
    try:
        async with postgres.connect(postgres_server, QUERIES, max_connections=1) as opened:
            yield opened
    finally:
        await connection.execute("DROP TABLE parley_test_note")
        await connection.close()


async def seen(database: Database) -> tuple[str | None, str]:
    row = await database.fetch_row("claims")
    assert row is not None
    return row["claims"], row["role"]


async def test_claims_and_role_live_for_one_transaction(database: Database) -> None:
    claims = {"sub": "it's \\ me", "org": '"; DROP TABLE parley_test_note; --'}
    async with database.transaction(claims, role="pg_read_all_stats") as transaction:
        row = await transaction.fetch_row("claims")
        assert row is not None
        assert (json.loads(row["claims"]), row["role"]) == (claims, "pg_read_all_stats")
    assert await seen(database) == ("", "postgres")


async def test_a_block_that_fails_leaves_nothing_behind(database: Database) -> None:
    with pytest.raises(LookupError):
        await add_then_fail(database)
    assert await database.fetch("notes") == []
    assert await seen(database) == ("", "postgres")


async def test_a_refusal_inside_a_transaction_logs_no_error(
    database: Database, caplog: pytest.LogCaptureFixture
) -> None:
    """A domain that refuses is everyday; the driver would complain of the open transaction it is left with."""
    with pytest.raises(LookupError):
        await add_then_fail(database)
    await seen(database)
    assert caplog.records == []


async def add_then_fail(database: Database) -> None:
    async with database.transaction({"sub": "u"}) as transaction:
        await transaction.fetch_row("add", "half done")
        raise LookupError


async def test_a_cancelled_transaction_leaves_nothing_behind(database: Database) -> None:
    started = asyncio.Event()

    async def work() -> None:
        async with database.transaction({"sub": "u"}) as transaction:
            await transaction.fetch_row("add", "half done")
            started.set()
            await transaction.fetch_row("sleep", 60.0)

    task = asyncio.create_task(work())
    await started.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert await database.fetch("notes") == []
    assert await seen(database) == ("", "postgres")


async def test_a_commit_keeps_what_was_written(database: Database) -> None:
    async with database.transaction({"sub": "u"}) as transaction:
        await transaction.fetch_row("add", "kept")
    assert [row["body"] for row in await database.fetch("notes")] == ["kept"]


async def test_a_serialization_failure_asks_for_the_whole_again(database: Database) -> None:
    with pytest.raises(Conflict):
        await database.fetch_row("serialization")


async def test_a_lost_connection_is_unavailable_and_the_next_call_works(database: Database) -> None:
    with pytest.raises(Unavailable):
        await database.fetch_row("kill")
    assert await seen(database) == (None, "postgres")


@pytest.mark.parametrize("rounds", range(6))
async def test_a_connection_that_was_ended_while_nobody_looked_is_unavailable_at_worst(
    database: Database, postgres_server: str, rounds: int
) -> None:
    """However far the loop has come with the news: between the server's last word and the end of the stream, the driver has no word for it."""
    await database.fetch_row("claims")
    # The loop stands still meanwhile, and learns of it all at once.
    ended = threading.Thread(target=asyncio.run, args=(_end_others(postgres_server),))
    ended.start()
    ended.join()
    for _ in range(rounds):
        await asyncio.sleep(0)
    with contextlib.suppress(Unavailable):
        async with database.transaction({}) as transaction:
            await transaction.fetch_row("claims")
    assert (await seen(database))[1] == "postgres"


async def _end_others(url: str) -> None:
    connection = await asyncpg.connect(url)
    try:
        await connection.fetch(
            "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE query ~ '^SELECT current_setting'"
        )
    finally:
        await connection.close()


async def test_a_bug_in_a_statement_is_not_dressed_up(database: Database) -> None:
    with pytest.raises(asyncpg.DivisionByZeroError):
        await database.fetch_row("fail")


async def test_a_server_that_is_not_there_is_unavailable() -> None:
    async with postgres.connect("postgresql://x:secret@127.0.0.1:1/x", QUERIES, max_connections=1, ready=1) as away:
        with pytest.raises(Unavailable) as caught:
            await away.fetch_row("claims")
        assert "secret" not in str(caught.value)


async def test_who_waits_for_a_connection_gets_the_next_one_that_is_given_back(postgres_server: str) -> None:
    """A connection that is kept at hand for whoever comes next is kept from nobody who has come before."""
    async with postgres.connect(postgres_server, QUERIES, max_connections=2) as database:
        await database.fetch_row("claims")
        rows = await asyncio.gather(*(database.fetch_row("sleep", 0.01) for _ in range(20)))
        assert len(rows) == 20
        assert await seen(database) == (None, "postgres")


async def test_a_connection_that_was_used_is_used_next(postgres_server: str) -> None:
    """Its server has plans and caches; another one's would be cold."""
    queries = {"pid": "SELECT pg_backend_pid() AS pid", "sleep": "SELECT pg_sleep($1::float8)"}
    async with postgres.connect(postgres_server, queries, max_connections=3) as database:
        await asyncio.gather(*(database.fetch_row("sleep", 0.05) for _ in range(3)))
        pids = [await database.fetch_row("pid") for _ in range(5)]
        assert len({row["pid"] for row in pids if row}) == 1


async def test_connections_that_are_to_be_ready_are_opened_unasked_and_outlive_disuse(
    postgres_server: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever comes after a quiet hour waits for no handshake and no plans; what a crowd needed beyond that is given back."""
    monkeypatch.setattr(postgres, "_UNUSED_S", 0.3)
    monkeypatch.setattr(postgres, "_TOUCH_EVERY_S", 0.1)
    monkeypatch.setattr(postgres, "_AT_HAND_S", 0.1)
    async with postgres.connect(_named(postgres_server), QUERIES, max_connections=4, ready=2) as database:
        await _sessions(postgres_server, lambda ages: len(ages) == 2)
        await asyncio.gather(*(database.fetch_row("sleep", 0.1) for _ in range(4)))
        await _sessions(postgres_server, lambda ages: len(ages) == 4)
        await _sessions(postgres_server, lambda ages: len(ages) == 2 and min(ages.values()) > 1.5)


async def test_connections_that_are_to_be_ready_come_back_when_they_were_lost(
    postgres_server: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(postgres, "_TOUCH_EVERY_S", 0.05)
    async with postgres.connect(_named(postgres_server), QUERIES, max_connections=2, ready=2):
        lost = await _sessions(postgres_server, lambda ages: len(ages) == 2)
        other = await asyncpg.connect(postgres_server)
        try:
            for pid in lost:
                await other.execute("SELECT pg_terminate_backend($1, 5000)", pid)
        finally:
            await other.close()
        await _sessions(postgres_server, lambda ages: len(ages) == 2 and not ages.keys() & lost.keys())


async def test_a_connection_that_is_to_be_ready_does_not_wait_long_for_a_silent_server(
    postgres_server: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Meanwhile nobody else could have it: it is given up for another as soon as a caller's own would be."""
    monkeypatch.setattr(postgres, "_TOUCH_EVERY_S", 0.05)
    monkeypatch.setattr(postgres, "_PATIENCE_S", 0.2)
    where = urlsplit(postgres_server).netloc.rpartition("@")[2]
    async with Link(lambda: where) as link:
        url = _named(postgres_server).replace(where, link.address)
        async with postgres.connect(url, QUERIES, max_connections=1, ready=1):
            await _sessions(postgres_server, lambda ages: len(ages) == 1)
            with structlog.testing.capture_logs() as lines:
                link.part()
                async with asyncio.timeout(10):
                    while not lines:  # noqa: ASYNC110 - another task's words
                        await asyncio.sleep(0.02)
                link.mend()
    assert [line["event"] for line in lines] == ["postgres_not_ready"]


def _named(url: str) -> str:
    return f"{url}?application_name=parley_test_ready"


async def _sessions(url: str, wanted: Callable[[dict[int, float]], bool]) -> dict[int, float]:
    """Waits until the sessions are as wanted; returns how old each is, in seconds, by pid."""
    connection = await asyncpg.connect(url)
    try:
        async with asyncio.timeout(20):
            while True:
                rows = await connection.fetch(
                    "SELECT pid, extract(epoch FROM clock_timestamp() - backend_start)::float8 AS age_s"
                    " FROM pg_stat_activity WHERE application_name = 'parley_test_ready'"
                )
                ages = {row["pid"]: row["age_s"] for row in rows}
                if wanted(ages):
                    return ages
                await asyncio.sleep(0.02)
    finally:
        await connection.close()
