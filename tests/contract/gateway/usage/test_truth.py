"""The ledger's sums are its rows, each call is in it once, and nothing that one call says keeps the others out."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import asyncpg
import pytest
import structlog

from services.gateway.usage.composition import Money
from services.gateway.usage.domain import ABANDONED, COMPLETED, Limits, OpenCall, Used
from tests.contract.gateway.usage.conftest import a_call

NOBODY = Limits(None, None, None)


def told(call: OpenCall, tokens: int = 100, **fields: object) -> OpenCall:
    """Returns a call that has used so much."""
    now = datetime.now(UTC)
    used = Used(call.id, "p", "m", tokens, 0, 0, 0, 0.25, False, COMPLETED, call.started_at, now)
    call.used = [replace(used, **fields)]  # type: ignore[arg-type]
    return call


async def day_of(owner: asyncpg.Connection) -> dict[str, int]:
    return {row["scope"]: row["tokens"] for row in await owner.fetch("SELECT scope, tokens FROM gateway.budget_day")}


@pytest.mark.parametrize("seed", range(4))
async def test_sums_of_days_are_those_of_their_rows_whatever_happens(
    money: Money, owner: asyncpg.Connection, seed: int
) -> None:
    """Calls are stored as under way, as over, again, as abandoned, and as over after that, in any order."""
    chance = random.Random(seed)
    store = money.ledger._store
    people = [a_call() for _ in range(3)]
    calls = []
    for _ in range(40):
        whose = chance.choice(people)
        calls.append(replace(a_call(), org_id=whose.org_id, user_id=whose.user_id, bot=chance.choice("ab")))
    for _ in range(120):
        batch = chance.sample(calls, chance.randrange(1, 6))
        match chance.randrange(3):
            case 0:
                await store.keep([call for call in batch if not call.used], [])
            case 1:
                await store.keep([], [call if call.used else told(call, chance.randrange(1000)) for call in batch])
            case _:
                await owner.execute(
                    "UPDATE gateway.reservation SET expires_at = now() - interval '1 s' WHERE random() < 0.3"
                )
                await store.reclaim()

    rows = await owner.fetch("SELECT * FROM gateway.usage_call")
    days = await owner.fetch("SELECT * FROM gateway.usage_day WHERE calls > 0")
    sums: Counter[tuple[object, ...]] = Counter()
    scopes: Counter[str] = Counter()
    for row in rows:
        sums[row["user_id"], row["bot"], row["provider"]] += row["input_tokens"] + row["output_tokens"]
        for scope in ("g", f"o:{row['org_id']}", f"u:{row['org_id']}:{row['user_id']}"):
            scopes[scope] += row["input_tokens"]
    assert {(d["user_id"], d["bot"], d["provider"]): d["input_tokens"] + d["output_tokens"] for d in days} == dict(sums)
    assert sum(d["calls"] for d in days) == len(rows)
    assert sum(d["cost_usd"] for d in days) == pytest.approx(0.25 * sum(row["cost_usd"] is not None for row in rows))
    assert await day_of(owner) == dict(scopes)
    stored = {str(row["id"]): row for row in rows}
    assert all(stored[call.id]["input_tokens"] == call.used_tokens for call in calls if call.used)


async def test_who_tells_after_having_been_given_up_is_believed(money: Money, owner: asyncpg.Connection) -> None:
    """Its instance was cut off from Postgres for longer than its lease, and others took its call for abandoned."""
    call = a_call()
    money.ledger.opened(call)
    await money.ledger.flush()
    await owner.execute("UPDATE gateway.reservation SET expires_at = now() - interval '1 s'")
    await money.ledger._store.reclaim()
    assert [row["outcome"] for row in await owner.fetch("SELECT outcome FROM gateway.usage_call")] == [ABANDONED]

    money.ledger.over(told(call, 700))
    await money.ledger.flush()

    (row,) = await owner.fetch("SELECT * FROM gateway.usage_call")
    assert (row["outcome"], row["input_tokens"], row["estimated"]) == (COMPLETED, 700, False)
    assert set((await day_of(owner)).values()) == {700}
    assert await owner.fetchval("SELECT sum(calls) FROM gateway.usage_day") == 1


async def test_what_cannot_be_stored_keeps_nothing_else_from_it(money: Money, owner: asyncpg.Connection) -> None:
    calls = [told(a_call()), told(a_call(), 2**70), told(a_call())]
    with structlog.testing.capture_logs() as lines:
        for call in calls:
            money.ledger.over(call)
        await money.ledger.flush()

    stored = {str(row["id"]) for row in await owner.fetch("SELECT id FROM gateway.usage_call")}
    assert stored == {calls[0].id, calls[2].id}
    assert [(line["event"], line["call_id"]) for line in lines if line["log_level"] == "error"] == [
        ("usage_lost", calls[1].id)
    ]


async def test_a_day_is_read_as_it_is_at_one_moment(money: Money) -> None:
    """A call that ends while the day is read is either under way or over, never both and never neither."""
    store, day = money.ledger._store, datetime.now(UTC).date()
    calls = [a_call() for _ in range(150)]
    await store.keep(calls, [])

    async def end_all() -> None:
        for call in calls:
            await store.keep([], [told(call)])

    ending = asyncio.create_task(end_all())
    seen = set()
    while not ending.done():
        state = await store.day(day)
        seen.add(state.totals.get("g", 0) + sum(call.tokens for call in state.open))
    await ending
    assert seen == {100 * len(calls)}


async def test_what_nobody_knows_of_lapses_and_what_is_known_stays(money: Money, owner: asyncpg.Connection) -> None:
    known, unknown = a_call(timedelta(minutes=20)), a_call()
    money.ledger.opened(known)
    await money.ledger.flush()
    await money.ledger._store.reserve(unknown, NOBODY)
    soon = datetime.now(UTC) + timedelta(seconds=30)
    await owner.execute("UPDATE gateway.reservation SET expires_at = $1", soon)

    await money.janitor.round()

    ends = {
        str(row["id"]): row["expires_at"] for row in await owner.fetch("SELECT id, expires_at FROM gateway.reservation")
    }
    assert ends[known.id] > soon
    assert ends[unknown.id] == soon
