"""What was held back is returned and what was used is counted, whoever dies."""

from __future__ import annotations

import asyncio
import json
from datetime import timedelta

import asyncpg
import pytest
import redis.asyncio

from runtime.config import Secret
from services.gateway.usage.composition import Money
from services.gateway.usage.domain import OpenCall
from tests.contract.gateway.usage.conftest import LIMITS, Books, MakeBooks, a_call, ready
from tests.fakes.llm_provider import Answer, UsageReport


async def test_a_dead_instances_call_is_stored_as_estimated_and_its_tokens_returned(
    money: Money, client: redis.asyncio.Redis, owner: asyncpg.Connection
) -> None:
    counters, call = await ready(client), a_call()
    async with counters.scripts.running():
        await counters.reserve(call, LIMITS)
    await money.ledger.flush()
    money.ledger.opened(call)
    await money.ledger.flush()
    await money.janitor.reclaim()
    assert await counters.current(call.day, call.scopes[0]) == 100, "it lives"
    await owner.execute(
        "UPDATE gateway.reservation SET expires_at = now() - interval '1 second', started_at = started_at - interval '2 minutes'"
    )
    await client.hset(f"parley:{{budget}}:open:{call.day}", call.id, _aged(call))
    for _ in range(2):
        await money.janitor.reclaim()
    (row,) = await owner.fetch("SELECT * FROM gateway.usage_call")
    assert (str(row["id"]), row["outcome"], row["estimated"]) == (call.id, "abandoned", True)
    assert (row["input_tokens"], row["output_tokens"]) == (12, 0)
    assert not await owner.fetch("SELECT FROM gateway.reservation")
    for scope in call.scopes:
        assert await counters.current(call.day, scope) == 12


def _aged(call: OpenCall) -> str:
    return json.dumps(call.reservation() | {"started_at": (call.started_at - timedelta(minutes=2)).isoformat()})


async def test_what_only_redis_knows_of_a_dead_instance_is_stored_too(
    money: Money, client: redis.asyncio.Redis, owner: asyncpg.Connection
) -> None:
    counters, call = await ready(client), a_call(timedelta(minutes=2))
    async with counters.scripts.running():
        await counters.reserve(call, LIMITS)
    await money.janitor.reclaim()
    (row,) = await owner.fetch("SELECT * FROM gateway.usage_call")
    assert (str(row["id"]), row["outcome"], row["input_tokens"]) == (call.id, "abandoned", 12)
    assert await counters.current(call.day, call.scopes[0]) == 12


@pytest.mark.parametrize("counted_by", ["redis"], indirect=True)
async def test_counters_that_were_lost_are_rebuilt(make_books: MakeBooks, client: redis.asyncio.Redis) -> None:
    books = await make_books(user_tokens_per_day=1_000)
    books.gateway.provider.script(Answer(usage=UsageReport(20, 80)), times=99)
    person = books.person()
    for _ in range(3):
        await person.chat(max_output_tokens=88)
    await books.rows(3)
    await client.flushdb()
    for _ in range(3):
        await person.chat(max_output_tokens=88)
    await ready(client)
    await books.settled(person, 600)
    for _ in range(4):
        await person.chat(max_output_tokens=88)
    await books.settled(person, 1000)
    assert (await person.refusal()).metadata["current"] == "1000"


@pytest.mark.parametrize("counted_by", ["postgres"], indirect=True)
async def test_without_redis_budgets_hold(make_books: MakeBooks) -> None:
    books = await make_books(user_tokens_per_day=250, redis_url=Secret("redis://127.0.0.1:1/0"))
    books.gateway.provider.script(Answer(usage=UsageReport(12, 88)), times=9)
    person = books.person()
    ends = await asyncio.gather(*(person.chat(max_output_tokens=88) for _ in range(6)), return_exceptions=True)
    assert sum(not isinstance(end, Exception) for end in ends) == 2
    await books.settled(person, 200)


@pytest.mark.parametrize("counted_by", ["redis"], indirect=True)
async def test_calls_go_on_while_the_ledger_cannot_be_written(books: Books, client: redis.asyncio.Redis) -> None:
    person = books.person()
    await ready(client)
    # Nobody writes while somebody holds its lock.
    async with books.owner.transaction():
        await books.owner.execute("SELECT pg_advisory_xact_lock(hashtextextended('gateway.usage', 0))")
        for _ in range(5):
            await person.chat()
        assert not await books.owner.fetchval("SELECT count(*) FROM gateway.usage_call")
    assert len(await books.rows(5, person)) == 5
