"""Each call of a provider is let in by itself: what was used before it counts."""

from __future__ import annotations

from services.gateway.providers.aliases import Alias, AliasTarget
from services.gateway.providers.registry import Stored
from tests.contract.gateway.usage.conftest import Books, MakeBooks
from tests.fakes.llm_provider import Answer, Cut, UsageReport

# With the question's 12 a call holds back 100.
WRITES = 88
BEGUN = Cut(after=1, answer=Answer(text="x" * 240))


async def two(make_books: MakeBooks, limit: int) -> Books:
    """One provider under two names, one after the other behind the alias `both`."""
    books = await make_books(user_tokens_per_day=limit)
    chosen = (AliasTarget("openai/a"), AliasTarget("openai/b", rank=1))
    await books.gateway.registry.change(Stored(aliases=[Alias("both", chosen, stored=True)]))
    return books


async def test_a_second_answer_needs_room_of_its_own(make_books: MakeBooks) -> None:
    """The first has been broken off after 64 tokens; with a second one the day could hold 164."""
    books = await two(make_books, 150)
    books.gateway.provider.script(BEGUN)
    person = books.person()

    refusal = await person.refusal(model="both", allow_reset=True, max_output_tokens=WRITES)

    assert (refusal.code, refusal.metadata["current"]) == ("TOKEN_BUDGET_EXCEEDED", "64")
    (row,) = await books.rows(1)
    assert (row["input_tokens"] + row["output_tokens"], row["outcome"]) == (64, "provider_unavailable")
    await books.settled(person, 64)
    assert len(books.gateway.provider.requests) == 1


async def test_a_second_answer_that_has_room_is_a_row_of_its_own(make_books: MakeBooks) -> None:
    books = await two(make_books, 164)
    books.gateway.provider.script(BEGUN, Answer(usage=UsageReport(12, 88)))
    person = books.person()

    await person.chat(model="both", allow_reset=True, max_output_tokens=WRITES)

    rows = await books.rows(2)
    assert [row["input_tokens"] + row["output_tokens"] for row in rows] == [64, 100]
    await books.settled(person, 164)
