"""A call that nobody lives to tell of is counted for the provider it was at."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Sequence
from dataclasses import replace

import asyncpg
import pytest
import redis.asyncio

from parley.gateway.v1 import usage_pb2 as usage
from services.gateway.providers.aliases import Alias, AliasTarget
from services.gateway.providers.registry import Stored
from services.gateway.usage.composition import Money
from services.gateway.usage.domain import OpenCall
from services.gateway.usage.ledger import Ledger
from services.gateway.usage.store import LEASE, PostgresUsage
from tests.contract.gateway.usage.conftest import LIMITS, Books, Person, a_call, ready
from tests.fakes.llm_provider import Fault, Stall

TAKEN = {
    *("id", "day", "org_id", "user_id", "bot", "run_id"),
    *("provider", "model", "tokens", "input_tokens", "started_at"),
}
"""What the release before takes of a call under way, and no more than that."""


async def given_up(owner: asyncpg.Connection, number: int = 1) -> list[tuple[str, str, str]]:
    """Has calls taken for abandoned; returns vendors, providers and models that are counted for it."""
    # At once, since an instance that lives would put their end off.
    async with owner.transaction():
        await owner.execute("UPDATE gateway.reservation SET expires_at = now() - interval '1 s'")
        assert len(await owner.fetch("SELECT gateway.reclaim_tokens(100)")) == number
    rows = await owner.fetch("SELECT * FROM gateway.usage_call WHERE outcome = 'abandoned' ORDER BY provider_name")
    return [(row["provider"], row["provider_name"], row["model"]) for row in rows]


@contextlib.asynccontextmanager
async def stalled(books: Books, person: Person, model: str, at: str) -> AsyncIterator[None]:
    """Calls a model whose provider stalls, for the length of the block; it begins once the call is known to be at a provider."""
    registry = books.gateway.registry
    second = replace(registry.names.providers["openai"], name="openai-eu")
    both = (AliasTarget("openai/gpt-4o"), AliasTarget("openai-eu/gpt-4o-mini", rank=1))
    await registry.change(Stored(providers=[second], aliases=[Alias("both", both, stored=True)]))
    call = person.responses(model=model)
    reading = asyncio.ensure_future(anext(call))
    try:
        async with asyncio.timeout(10):
            while await books.owner.fetchval("SELECT provider_name FROM gateway.reservation_provider") != at:  # noqa: ASYNC110
                await asyncio.sleep(0.02)
        yield
    finally:
        reading.cancel()
        await asyncio.gather(reading, return_exceptions=True)
        await call.aclose()


async def test_it_names_the_account_it_was_at(books: Books) -> None:
    """Whichever store let it in; who tells after all is believed."""
    books.gateway.provider.script(Stall(after=3))
    person = books.person()
    async with stalled(books, person, "openai-eu/gpt-4o-mini", "openai-eu"):
        assert await given_up(books.owner) == [("openai", "openai-eu", "gpt-4o-mini")]
        page = await books.operator().ask(
            "ListUsage", usage.ListUsageRequest(dimensions=[usage.USAGE_DIMENSION_PROVIDER], user_id=person.user_id)
        )
        assert [(row.provider_name, row.totals.calls) for row in page.rows] == [("openai-eu", 1)]

    (row,) = await books.rows(1, person)
    async with asyncio.timeout(10):
        while row["outcome"] == "abandoned":
            await asyncio.sleep(0.02)
            (row,) = await books.rows(1, person)
    assert (row["outcome"], row["provider_name"]) == ("cancelled", "openai-eu")


async def test_it_names_the_one_it_went_on_to(books: Books) -> None:
    books.gateway.provider.script(Fault(status=503), Stall(after=3))
    async with stalled(books, books.person(), "both", "openai-eu"):
        assert await given_up(books.owner) == [("openai", "openai-eu", "gpt-4o-mini")]


def at(call: OpenCall, name: str) -> OpenCall:
    call.provider, call.provider_name = f"vendor of {name}", name
    return call


class Meanwhile(PostgresUsage):
    """Is slow enough for a call to go on to another provider while it is stored."""

    async def keep(self, opened: Sequence[OpenCall], over: Sequence[OpenCall]) -> None:
        await super().keep(opened, over)
        for call in opened:
            at(call, "p-2")


async def test_it_names_the_one_it_went_on_to_while_it_was_stored(money: Money, owner: asyncpg.Connection) -> None:
    store = money.ledger._store
    ledger = Ledger(Meanwhile(store._database, "here"))
    ledger.opened(at(a_call(), "p-1"))
    await ledger.flush()
    assert await given_up(owner) == [("vendor of p-2", "p-2", "m")]
    assert not await owner.fetchval("SELECT count(*) FROM gateway.reservation_provider")


async def test_nothing_of_a_call_that_is_told_of_is_left(money: Money, owner: asyncpg.Connection) -> None:
    call = at(a_call(), "p-1")
    await money.ledger._store.keep([call], [])
    assert await owner.fetchval("SELECT provider_name FROM gateway.reservation_provider") == "p-1"
    await money.ledger._store.keep([], [call])
    assert not await owner.fetchval("SELECT count(*) FROM gateway.reservation_provider")


async def test_one_of_the_release_before_names_none(money: Money, owner: asyncpg.Connection) -> None:
    ours, theirs = at(a_call(), "p-1"), at(a_call(), "")
    await money.ledger._store.keep([ours], [])
    told = json.dumps([theirs.reservation()])
    await owner.execute("SELECT gateway.keep_usage('[]', $1, '{}', 'before', $2)", told, LEASE)
    assert await given_up(owner, 2) == [("vendor of ", "", "m"), ("vendor of p-1", "p-1", "m")]


@pytest.mark.parametrize("counted_by", ["redis"], indirect=True)
async def test_the_release_before_reads_what_is_held_back(
    money: Money, owner: asyncpg.Connection, client: redis.asyncio.Redis, counted_by: str
) -> None:
    """It takes whole rows and whole entries, and fails by what it does not know."""
    counters, call = await ready(client), at(a_call(), "p-1")
    async with counters.scripts.running():
        await counters.reserve(call, LIMITS)
    await money.ledger._store.keep([call], [])
    row = await owner.fetchval(
        "SELECT to_jsonb(held) - ARRAY['instance', 'expires_at'] FROM gateway.reservation AS held"
    )
    (entry,) = await client.hvals(f"parley:{{budget}}:open:{call.day}")
    assert json.loads(row).keys() == json.loads(entry).keys() == TAKEN
