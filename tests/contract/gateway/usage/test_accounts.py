"""The ledger tells the accounts apart that one vendor is called with."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import timedelta

import asyncpg

from parley.gateway.v1 import gateway_pb2
from parley.gateway.v1 import usage_pb2 as usage
from runtime.channel import unary
from services.gateway.providers.registry import Stored
from services.gateway.usage.composition import Money
from services.gateway.usage.store import LEASE
from tests.contract.gateway.usage.conftest import Books, Person, a_call
from tests.contract.gateway.usage.test_truth import told

NAMED = ("provider", "provider_name", "model")


async def two_accounts(books: Books) -> Person:
    """Opens a second account at the vendor, and calls a model of each once."""
    registry = books.gateway.registry
    second = replace(registry.names.providers["openai"], name="openai-eu")
    await registry.change(Stored(providers=[second]))
    person = books.person()
    for provider in ("openai", "openai-eu"):
        await person.chat(model=f"{provider}/gpt-4o-mini")
    return person


async def test_a_row_names_the_provider_beside_its_vendor(books: Books) -> None:
    person = await two_accounts(books)
    rows = await books.rows(2, person)
    assert [tuple(row[name] for name in NAMED) for row in rows] == [
        ("openai", "openai", "gpt-4o-mini"),
        ("openai", "openai-eu", "gpt-4o-mini"),
    ]


async def test_so_does_one_of_vectors(books: Books) -> None:
    person = await two_accounts(books)
    request = gateway_pb2.EmbedRequest(model="openai-eu/text-embedding-3-small", texts=["some words"])
    await unary(books.gateway.stub.Embed, request, timeout_s=10, token=person.token)
    *_, row = await books.rows(3, person)
    assert tuple(row[name] for name in NAMED) == ("openai", "openai-eu", "text-embedding-3-small")


async def test_an_operator_sees_what_went_to_which_account(books: Books) -> None:
    """Whoever does not ask for that sees the vendor as one."""
    person = await two_accounts(books)
    await books.rows(2, person)

    async def seen(*by: usage.UsageDimension.ValueType) -> list[tuple[str, str, str, int]]:
        page = await books.operator().ask("ListUsage", usage.ListUsageRequest(dimensions=by, user_id=person.user_id))
        return [(row.provider, row.provider_name, row.model, row.totals.calls) for row in page.rows]

    assert await seen(usage.USAGE_DIMENSION_PROVIDER) == [("openai", "openai", "", 1), ("openai", "openai-eu", "", 1)]
    assert await seen(usage.USAGE_DIMENSION_PROVIDER, usage.USAGE_DIMENSION_MODEL) == [
        ("openai", "openai", "gpt-4o-mini", 1),
        ("openai", "openai-eu", "gpt-4o-mini", 1),
    ]
    assert await seen(usage.USAGE_DIMENSION_MODEL) == [("openai", "", "gpt-4o-mini", 2)]
    own = await person.ask("GetUsage", usage.GetUsageRequest())
    assert [(row.provider, row.model, row.totals.calls) for row in own.rows] == [("openai", "gpt-4o-mini", 2)]


async def test_the_release_before_stores_what_it_knows(money: Money, owner: asyncpg.Connection) -> None:
    """Its rows name no provider, and are sums of their own beside those that do."""
    calls = [told(a_call()), told(a_call(), provider_name="p-1")]
    calls[1].org_id, calls[1].user_id = calls[0].org_id, calls[0].user_id
    rows = [row for call in calls for row in call.rows()]
    del rows[0]["provider_name"]
    for _ in range(2):
        await owner.execute("SELECT gateway.keep_usage($1, '[]', '{}', 'before', $2)", json.dumps(rows), LEASE)
    days = await owner.fetch("SELECT provider_name, calls FROM gateway.usage_day ORDER BY provider_name")
    assert [tuple(row) for row in days] == [("", 1), ("p-1", 1)]


async def test_an_abandoned_call_that_is_told_of_is_counted_for_its_provider(
    money: Money, owner: asyncpg.Connection
) -> None:
    store, call = money.ledger._store, a_call(timedelta(minutes=2))
    await store.keep([call], [])
    await owner.execute("UPDATE gateway.reservation SET expires_at = now() - interval '1 s'")
    await store.reclaim()
    await store.keep([], [told(call, provider_name="p-1")])
    days = await owner.fetch("SELECT provider_name, calls FROM gateway.usage_day ORDER BY provider_name")
    assert [tuple(row) for row in days] == [("", 0), ("p-1", 1)]
