"""Every call of a provider is in the ledger, whatever its end."""

from __future__ import annotations

import asyncio
import json
import uuid
from typing import Any

import pytest

from parley.gateway.v1 import gateway_pb2
from parley.gateway.v1 import usage_pb2 as usage
from runtime.channel import unary
from runtime.errors import ParleyError
from tests.contract.gateway.usage.conftest import Books, MakeBooks
from tests.fakes.llm_provider import Answer, Cut, Fault, Garbage, Hangup, Stall, UsageReport


async def test_a_call_is_written_with_all_that_is_known_of_it(books: Books) -> None:
    books.gateway.provider.script(Answer(usage=UsageReport(1000, 100, cached_tokens=400, reasoning_tokens=60)))
    person, run_id = books.person(), str(uuid.uuid4())
    await person.chat(model="openai/gpt-4o-mini", run_id=run_id, bot="helper")
    (row,) = await books.rows(1)
    assert (str(row["user_id"]), str(row["org_id"])) == (person.user_id, person.org_id)
    assert (str(row["run_id"]), row["bot"]) == (run_id, "helper")
    assert (row["provider"], row["model"]) == ("openai", "gpt-4o-mini")
    assert (row["input_tokens"], row["output_tokens"]) == (1000, 100)
    assert (row["cached_tokens"], row["reasoning_tokens"]) == (400, 60)
    assert row["cost_usd"] == pytest.approx(600 * 0.15e-6 + 400 * 0.075e-6 + 100 * 0.6e-6)
    assert (row["estimated"], row["outcome"]) == (False, "completed")
    assert row["started_at"] <= row["ended_at"]


async def test_usage_that_nobody_told_is_written_as_estimated(books: Books) -> None:
    books.gateway.provider.script(Answer(text="x" * 400, usage=None))
    await books.person().chat()
    (row,) = await books.rows(1)
    assert (row["output_tokens"], row["estimated"], row["outcome"]) == (100, True, "completed")


@pytest.mark.parametrize(
    ("behaviour", "outcome", "estimated"),
    [
        (Fault(status=401), "provider_auth_failed", False),
        (Fault(status=400), "request_rejected", False),
        (Stall(), "first_token_timeout", True),
        (Stall(after=2), "stream_stalled", True),
        (Cut(after=2), "provider_unavailable", True),
    ],
    ids=lambda value: str(value)[:20],
)
async def test_a_call_that_fails_is_written_with_its_reason(
    make_books: MakeBooks, behaviour: Any, outcome: str, estimated: bool
) -> None:
    """What a provider may have read or written by then is estimated; one that refused has used nothing."""
    books = await make_books(first_token_timeout_s=0.3, gap_timeout_s=0.3, retries=0)
    books.gateway.provider.script(behaviour)
    person = books.person()
    await person.refusal()
    (row,) = await books.rows(1)
    assert (row["outcome"], row["estimated"]) == (outcome, estimated)
    assert (row["input_tokens"] > 0) == estimated
    await books.settled(person, row["input_tokens"] + row["output_tokens"])


async def test_every_attempt_is_a_row(books: Books) -> None:
    books.gateway.provider.script(Hangup(), Fault(status=503), Answer())
    person = books.person()
    await person.chat()
    rows = await books.rows(3, person)
    assert [row["outcome"] for row in rows] == ["provider_unavailable", "provider_unavailable", "completed"]
    assert [row["input_tokens"] for row in rows[:2]] == [0, 0]


@pytest.mark.parametrize("after", [0, 3])
async def test_a_caller_who_leaves_is_written(books: Books, after: int) -> None:
    """Before the first word as in the middle."""
    books.gateway.provider.script(Stall(after=after))
    person = books.person()
    call = person.responses()
    reading = asyncio.ensure_future(anext(call))
    await books.gateway.provider.until(lambda: books.gateway.provider.requests)
    if after:
        await reading
    reading.cancel()
    await asyncio.gather(reading, return_exceptions=True)
    await call.aclose()
    (row,) = await books.rows(1)
    assert (row["outcome"], row["estimated"]) == ("cancelled", True)
    assert row["input_tokens"] > 0
    assert (row["output_tokens"] > 0) == (after > 0)
    await books.settled(person, row["input_tokens"] + row["output_tokens"])


async def test_a_call_that_no_provider_saw_is_no_row(books: Books) -> None:
    person = books.person()
    for wrong in ({"model": "nobody/knows"}, {"temperature": 9.0}):
        with pytest.raises(ParleyError):
            await person.chat(**wrong)
    await person.chat()
    assert len(await books.rows(1)) == 1


async def test_days_add_up(books: Books) -> None:
    books.gateway.provider.script(Answer(usage=UsageReport(10, 5)), times=4)
    books.gateway.provider.script(Answer(text="x" * 40, usage=None))
    person = books.person()
    await asyncio.gather(*(person.chat(model="openai/gpt-4o-mini", bot="b") for _ in range(3)))
    await person.chat(model="openai/gpt-4o", bot="b")
    await person.chat(model="openai/gpt-4o", bot="b")
    rows = await books.rows(5)
    told = await person.ask("GetUsage", usage.GetUsageRequest())
    assert {(row.model, row.totals.calls) for row in told.rows} == {("gpt-4o-mini", 3), ("gpt-4o", 2)}
    assert sum(row.totals.input_tokens for row in told.rows) == sum(row["input_tokens"] for row in rows)
    assert sum(row.totals.output_tokens for row in told.rows) == sum(row["output_tokens"] for row in rows)
    assert sum(row.totals.cost_usd for row in told.rows) == pytest.approx(sum(row["cost_usd"] for row in rows))
    assert sum(row.totals.estimated_calls for row in told.rows) == 1
    await books.settled(person, sum(row["input_tokens"] + row["output_tokens"] for row in rows))


async def test_nobody_sees_anothers_usage(books: Books) -> None:
    one = books.person()
    await one.chat()
    await books.rows(1)
    other = books.person(one.org_id)
    assert not (await other.ask("GetUsage", usage.GetUsageRequest())).rows
    for name, request in (
        ("ListUsage", usage.ListUsageRequest()),
        ("GetBudget", usage.GetBudgetRequest(scope=usage.SCOPE_GLOBAL)),
        ("SetBudget", usage.SetBudgetRequest(scope=usage.SCOPE_GLOBAL, unlimited=True)),
    ):
        with pytest.raises(ParleyError) as raised:
            await other.ask(name, request)
        assert raised.value.code == "PERMISSION_DENIED"


async def test_an_operator_sees_everybodys_page_by_page(books: Books) -> None:
    people = [books.person() for _ in range(3)]
    for person in people:
        await person.chat(bot="b")
    await books.rows(3)
    by = [usage.USAGE_DIMENSION_USER, usage.USAGE_DIMENSION_ORGANIZATION]
    seen, token = [], ""
    for _ in range(3):
        page = await books.operator().ask(
            "ListUsage", usage.ListUsageRequest(dimensions=by, page_size=1, page_token=token)
        )
        seen += [(row.user_id, row.org_id, row.bot, row.totals.calls) for row in page.rows]
        token = page.next_page_token
    assert not token
    assert sorted(seen) == sorted((person.user_id, person.org_id, "", 1) for person in people)
    whole = await books.operator().ask("ListUsage", usage.ListUsageRequest())
    assert [row.totals.calls for row in whole.rows] == [3]
    own = await books.operator().ask("ListUsage", usage.ListUsageRequest(user_id=people[0].user_id))
    assert [row.totals.calls for row in own.rows] == [1]


@pytest.mark.parametrize(
    ("field", "request_"),
    [
        ("from_day", usage.ListUsageRequest(from_day="2026-13-01")),
        ("to_day", usage.ListUsageRequest(to_day="yesterday")),
        ("from_day", usage.ListUsageRequest(from_day="2026-02-01", to_day="2026-01-01")),
        ("from_day", usage.ListUsageRequest(from_day="2020-02-01", to_day="2026-01-01")),
        ("org_id", usage.ListUsageRequest(org_id="x")),
        ("user_id", usage.ListUsageRequest(user_id="x")),
        ("dimensions", usage.ListUsageRequest(dimensions=[99])),  # type: ignore[list-item]
        ("page_size", usage.ListUsageRequest(page_size=1001)),
        ("page_token", usage.ListUsageRequest(page_token="!")),
        ("page_token", usage.ListUsageRequest(page_token="LTE")),
    ],
)
async def test_what_is_asked_wrongly_is_named(books: Books, field: str, request_: Any) -> None:
    with pytest.raises(ParleyError) as raised:
        await books.operator().ask("ListUsage", request_)
    assert (raised.value.code, raised.value.metadata["field"]) == ("INVALID_ARGUMENT", field)


async def test_vectors_are_counted_too_and_those_made_before_are_not(make_books: MakeBooks) -> None:
    books = await make_books(user_tokens_per_day=100)
    person = books.person()

    async def embed(*texts: str) -> None:
        request = gateway_pb2.EmbedRequest(model="openai/text-embedding-3-small", texts=texts)
        await unary(books.gateway.stub.Embed, request, timeout_s=10, token=person.token)

    for _ in range(2):
        await embed("some words", "and some more")
    (row,) = await books.rows(1)
    assert (row["provider"], row["model"], row["outcome"]) == ("openai", "text-embedding-3-small", "completed")
    assert row["input_tokens"] > 0
    await books.settled(person, row["input_tokens"])
    with pytest.raises(ParleyError) as raised:
        await embed("x" * 4000)
    assert raised.value.code == "TOKEN_BUDGET_EXCEEDED"


async def test_a_number_of_tokens_that_cannot_be_is_estimated_instead(books: Books) -> None:
    answer = {"data": [{"index": 0, "embedding": [1.0, 2.0]}], "usage": {"prompt_tokens": 2**62}}
    books.gateway.provider.script(Garbage(json.dumps(answer).encode(), content_type="application/json"))
    person = books.person()
    request = gateway_pb2.EmbedRequest(model="openai/text-embedding-3-small", texts=["x" * 40])
    response = await unary(books.gateway.stub.Embed, request, timeout_s=10, token=person.token)
    (row,) = await books.rows(1)
    assert (row["input_tokens"], row["estimated"], row["outcome"]) == (10, True, "completed")
    assert (response.usage.input_tokens, response.usage.estimated) == (10, True)
    await books.settled(person, 10)
