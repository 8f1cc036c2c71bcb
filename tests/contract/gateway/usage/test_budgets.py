"""Nobody's tokens of a day are passed."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from typing import Any

import pytest
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind

from parley.gateway.v1 import usage_pb2 as usage
from runtime.errors import ParleyError, ResourceExhausted
from tests.contract.gateway.usage.conftest import Books, MakeBooks
from tests.fakes.llm_provider import Answer, Stall, UsageReport

# The question's estimate is 12, and with this many to be written a call holds back 100.
WRITES = 88


async def test_a_call_over_the_budget_is_refused_before_any_provider_is_asked(make_books: MakeBooks) -> None:
    books = await make_books(user_tokens_per_day=10)
    refusal = await books.person().refusal(max_output_tokens=WRITES)
    assert isinstance(refusal, ResourceExhausted)
    assert refusal.code == "TOKEN_BUDGET_EXCEEDED"
    told = dict(refusal.metadata)
    resets_at = datetime.fromisoformat(told.pop("resets_at"))
    assert told == {"limit_type": "user_tokens_day", "current": "0", "limit": "10"}
    assert resets_at.time() == datetime.min.time()
    assert refusal.retry_after_s == pytest.approx((resets_at - datetime.now(UTC)).total_seconds(), abs=5)
    assert not books.gateway.provider.requests


async def test_a_call_that_is_refused_is_seen_as_no_call_of_a_provider(
    make_books: MakeBooks, spans: InMemorySpanExporter
) -> None:
    """All was made ready for it by then."""
    books = await make_books(user_tokens_per_day=10)
    await books.person().refusal(max_output_tokens=WRITES)
    assert [span.name for span in spans.get_finished_spans() if span.kind is SpanKind.SERVER]
    assert not [span.name for span in spans.get_finished_spans() if span.name.startswith("chat ")]


@pytest.mark.parametrize(
    ("setting", "limit_type"),
    [
        ("user_tokens_per_day", "user_tokens_day"),
        ("organization_tokens_per_day", "organization_tokens_day"),
        ("global_tokens_per_day", "global_tokens_day"),
    ],
)
async def test_none_allowed_is_none(make_books: MakeBooks, setting: str, limit_type: str) -> None:
    books = await make_books(**{setting: 0})
    refusal = await books.person().refusal()
    assert (refusal.code, refusal.metadata["limit_type"]) == ("TOKEN_BUDGET_EXCEEDED", limit_type)


async def test_no_limit_is_none(make_books: MakeBooks) -> None:
    books = await make_books(user_tokens_per_day=None, organization_tokens_per_day=None, global_tokens_per_day=None)
    person = books.person()
    await person.chat(max_output_tokens=1_000_000)
    assert not (await person.budget()).HasField("limit_tokens")


async def test_what_was_used_counts_and_what_was_held_back_is_returned(make_books: MakeBooks) -> None:
    books = await make_books(user_tokens_per_day=150)
    books.gateway.provider.script(Answer(usage=UsageReport(20, 10)), times=9)
    person = books.person()
    for calls in (1, 2):
        await person.chat(max_output_tokens=WRITES)
        await books.settled(person, 30 * calls)
    refusal = await person.refusal(max_output_tokens=WRITES)
    assert (refusal.metadata["current"], refusal.metadata["limit"]) == ("60", "150")
    await person.chat(max_output_tokens=WRITES - 60)
    await books.person(person.org_id).chat(max_output_tokens=WRITES)


async def test_an_organization_s_budget_is_its_members_together(make_books: MakeBooks) -> None:
    books = await make_books(organization_tokens_per_day=150)
    books.gateway.provider.script(Answer(usage=UsageReport(20, 40)), times=9)
    person = books.person()
    await person.chat(max_output_tokens=WRITES)
    await books.settled(person, 60)
    refusal = await books.person(person.org_id).refusal(max_output_tokens=WRITES)
    assert (refusal.metadata["limit_type"], refusal.metadata["current"]) == ("organization_tokens_day", "60")
    await books.person().chat(max_output_tokens=WRITES)


@pytest.mark.parametrize("excess", [0, 7])
async def test_two_hundred_at_once_pass_no_budget(make_books: MakeBooks, excess: int) -> None:
    """Each may write what was held back for it, or its prompt may be larger than was thought."""
    books = await make_books(user_tokens_per_day=None, organization_tokens_per_day=1_050, global_tokens_per_day=None)
    books.gateway.provider.script(Answer(usage=UsageReport(12 + excess, WRITES)), times=400)
    person = books.person()
    people = [books.person(person.org_id) for _ in range(20)]

    async def call(number: int) -> str:
        try:
            await people[number % 20].chat(max_output_tokens=WRITES)
        except ParleyError as error:
            return error.code
        return "let in"

    ends = await asyncio.gather(*map(call, range(200)))
    let_in = ends.count("let in")
    assert set(ends) == {"let in", "TOKEN_BUDGET_EXCEEDED"}
    rows = await books.rows(let_in)
    used = sum(row["input_tokens"] + row["output_tokens"] for row in rows)
    assert (len(rows), used) == (let_in, let_in * (100 + excess))
    assert used <= 1_050 + excess * 10
    assert let_in >= 1_050 // (100 + excess) - 1
    await books.settled(person, used, usage.SCOPE_ORGANIZATION)


@pytest.mark.parametrize("kind", ["user", "organization", "global"])
async def test_a_budget_that_is_set_holds_from_the_next_call_on(books: Books, kind: str) -> None:
    person, operator = books.person(), books.operator()
    whose: dict[str, Any] = {"scope": usage.Scope.Value(f"SCOPE_{kind.upper()}")}
    if kind != "global":
        whose["org_id"] = person.org_id
    if kind == "user":
        whose["user_id"] = person.user_id
    default = (await operator.ask("GetBudget", usage.GetBudgetRequest(**whose))).budget.limit_tokens
    await person.chat()
    state = (await operator.ask("SetBudget", usage.SetBudgetRequest(**whose, limit_tokens=0))).budget
    assert (state.scope, state.limit_tokens, state.HasField("limit_tokens")) == (whose["scope"], 0, True)
    assert (await person.refusal()).metadata["limit_type"] == f"{kind}_tokens_day"
    assert not (await operator.ask("GetBudget", usage.GetBudgetRequest(**whose))).inherited
    await operator.ask("SetBudget", usage.SetBudgetRequest(**whose, unlimited=True))
    await person.chat()
    state = (await operator.ask("SetBudget", usage.SetBudgetRequest(**whose, inherit=True))).budget
    assert state.limit_tokens == default
    assert (await operator.ask("GetBudget", usage.GetBudgetRequest(**whose))).inherited


@pytest.mark.parametrize(
    ("field", "wrong"),
    [
        ("scope", {}),
        ("org_id", {"scope": usage.SCOPE_ORGANIZATION}),
        ("user_id", {"scope": usage.SCOPE_USER, "org_id": "00000000-0000-0000-0000-000000000001"}),
        ("org_id", {"scope": usage.SCOPE_GLOBAL, "org_id": "00000000-0000-0000-0000-000000000001"}),
        ("limit_tokens", {"scope": usage.SCOPE_GLOBAL, "limit_tokens": -1}),
        ("tokens_per_day", {"scope": usage.SCOPE_GLOBAL, "limit_tokens": None}),
        ("tokens_per_day", {"scope": usage.SCOPE_GLOBAL, "limit_tokens": None, "unlimited": False}),
    ],
)
async def test_a_budget_that_is_set_wrongly_is_refused(books: Books, field: str, wrong: dict[str, Any]) -> None:
    with pytest.raises(ParleyError) as raised:
        await books.operator().ask("SetBudget", usage.SetBudgetRequest(**({"limit_tokens": 5} | wrong)))
    assert (raised.value.code, raised.value.metadata["field"]) == ("INVALID_ARGUMENT", field)


async def test_a_call_under_way_counts_what_is_held_back(books: Books) -> None:
    books.gateway.provider.script(Stall(after=1))
    person = books.person()
    call = person.responses(max_output_tokens=WRITES)
    await anext(call)
    assert (await person.budget()).current_tokens == 100
    await call.aclose()
    (row,) = await books.rows(1)
    await books.settled(person, row["input_tokens"] + row["output_tokens"])
