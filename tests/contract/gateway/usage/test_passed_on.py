"""What goes straight from the provider's reader to the caller is counted, and paid for once, like what takes the long way."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from services.gateway.domain import ProviderDelta
from services.gateway.passing import Passage
from services.gateway.providers.aliases import Alias, AliasTarget
from services.gateway.providers.registry import Stored
from tests.contract.gateway.conftest import Reply
from tests.contract.gateway.usage.conftest import MakeBooks
from tests.fakes.llm_provider import Answer, Cut, Stall, StreamError, UsageReport

# A token each, by the estimate.
ANSWER = Answer(chunks=["word"] * 60, delay_s=0.002, usage=None)


@pytest.fixture(autouse=True)
def passed(monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """Whether each of what was offered to go the short way has gone it."""
    ways: list[bool] = []
    take = Passage.take

    def watched(self: Passage, deltas: Sequence[ProviderDelta]) -> bool:
        ways.append(take(self, deltas))
        return ways[-1]

    monkeypatch.setattr(Passage, "take", watched)
    return ways


@pytest.mark.parametrize(
    ("behaviour", "outcome"),
    [
        (Stall(after=50, answer=ANSWER), "stream_stalled"),
        (Cut(after=50, answer=ANSWER), "provider_unavailable"),
        (StreamError(after=50, answer=ANSWER), "provider_unavailable"),
    ],
    ids=["stalled", "cut", "error"],
)
async def test_an_answer_that_breaks_off_counts_as_far_as_it_came(
    make_books: MakeBooks, passed: list[bool], behaviour: Any, outcome: str
) -> None:
    books = await make_books(mux=True, gap_timeout_s=0.3)
    books.gateway.provider.script(behaviour)
    person = books.person()

    await person.refusal()

    (row,) = await books.rows(1)
    assert (row["outcome"], row["estimated"], row["output_tokens"]) == (outcome, True, 50)
    await books.settled(person, row["input_tokens"] + 50)
    assert any(passed)


@pytest.mark.parametrize("told", [None, UsageReport(12, 88)], ids=["estimated", "told"])
async def test_a_whole_answer_counts_as_the_provider_says_or_by_its_length(
    make_books: MakeBooks, passed: list[bool], told: UsageReport | None
) -> None:
    books = await make_books(mux=True)
    books.gateway.provider.script(Answer(chunks=["word"] * 60, delay_s=0.002, usage=told))
    person = books.person()

    await person.chat()

    (row,) = await books.rows(1)
    assert (row["outcome"], row["estimated"]) == ("completed", told is None)
    assert row["output_tokens"] == (60 if told is None else 88)
    await books.settled(person, row["input_tokens"] + row["output_tokens"])
    assert any(passed)


async def test_who_leaves_has_used_what_was_passed_on(make_books: MakeBooks, passed: list[bool]) -> None:
    books = await make_books(mux=True)
    books.gateway.provider.script(Answer(chunks=["word"] * 10_000, delay_s=0.002, usage=None))
    person, reply = books.person(), Reply()

    call = person.responses()
    async for response in call:
        reply.add(response)
        if passed.count(True) > 20:
            break
    await call.aclose()

    (row,) = await books.rows(1)
    assert (row["outcome"], row["estimated"]) == ("cancelled", True)
    assert row["output_tokens"] >= passed.count(True)
    await books.settled(person, row["input_tokens"] + row["output_tokens"])


async def test_another_target_that_begins_anew_is_counted_by_itself(make_books: MakeBooks, passed: list[bool]) -> None:
    books = await make_books(mux=True)
    chosen = (AliasTarget("openai/a"), AliasTarget("openai/b", rank=1))
    await books.gateway.registry.change(Stored(aliases=[Alias("both", chosen, stored=True)]))
    books.gateway.provider.script(Cut(after=50, answer=ANSWER), ANSWER)
    person = books.person()

    reply = await person.chat(model="both", allow_reset=True)

    rows = await books.rows(2)
    assert [(row["outcome"], row["output_tokens"]) for row in rows] == [("provider_unavailable", 50), ("completed", 60)]
    assert (reply.begun_anew, reply.text) == (["word" * 50], "word" * 60)
    await books.settled(person, sum(row["input_tokens"] + row["output_tokens"] for row in rows))
    assert passed.count(True) > 60
