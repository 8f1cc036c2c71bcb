"""A budget that is used up refuses in every dialect with the same facts, and asks no model."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import openai
import pytest

from tests.e2e.person import Frame, Person
from tests.e2e.system import System

HELLO: Any = [{"role": "user", "content": "Hello again"}]


@pytest.fixture
async def spent(stack: System, person: Person, operator: Person) -> AsyncIterator[Person]:
    """Somebody who has used more tokens today than there are for them; afterwards no model has been asked."""
    await person.turn(await person.titled(), message="Hello")
    await person.usage(1)
    asked = len(stack.provider.requests)
    await set_budget(person, operator, {"limit": 1})
    yield person
    assert len(stack.provider.requests) == asked


@pytest.fixture
async def client(stack: System, spent: Person) -> AsyncIterator[openai.AsyncOpenAI]:
    """Their client of OpenAI's, which tries twice more unless it is told not to."""
    async with openai.AsyncOpenAI(base_url=f"{stack.edge_url}/openai/v1", api_key=spent.access_token) as client:
        yield client


async def set_budget(person: Person, operator: Person, budget: dict[str, Any]) -> None:
    user_id = (await person.http.get("/auth/v1/user")).json()["id"]
    by = {"by": ["user", "organization"], "user_id": user_id}
    [row] = (await operator.http.get("/v1/admin/usage", params=by)).json()["rows"]
    whose = {"scope": "user", "org_id": row["org_id"], "user_id": user_id}
    answer = await operator.http.put("/v1/admin/budgets", params=whose, json=budget)
    assert answer.status_code == 200, answer.text


def check(told: Any) -> None:
    """Holds what is told to the facts: of the day's one token more than that is used, and tomorrow there is another."""
    assert (told["limit_type"], told["limit"]) == ("user_tokens_day", 1)
    assert told["current"] > 1
    assert told["resets_at"].endswith("T00:00:00Z")


async def test_a_turn_ends_with_the_limit(spent: Person) -> None:
    stream = await spent.say("Hello again")
    failed: Frame = stream.last
    assert (failed.event, failed.data["code"]) == ("error", "token_budget_exceeded")
    assert 0 < failed.data["retry_after"] <= 86_400
    check(failed.data)


async def test_a_turn_in_the_background_ends_with_it_too(spent: Person) -> None:
    submitted = await spent.submit("Hello again")
    stream = await spent.events(submitted["run_id"])
    assert stream.last.data["code"] == "token_budget_exceeded"
    assert (await spent.run(submitted["run_id"]))["error_code"] == "token_budget_exceeded"


@pytest.mark.parametrize("streamed", [False, True])
async def test_a_completion_is_refused(client: openai.AsyncOpenAI, streamed: bool) -> None:
    with pytest.raises(openai.RateLimitError) as raised:
        await client.chat.completions.create(model="fast", messages=HELLO, stream=streamed)
    assert raised.value.code == raised.value.type == "insufficient_quota"
    assert 0 < int(raised.value.response.headers["retry-after"]) <= 86_400
    check(raised.value.body)


async def test_a_response_is_refused(client: openai.AsyncOpenAI) -> None:
    with pytest.raises(openai.RateLimitError) as raised:
        await client.responses.create(model="fast", input="Hello again")
    assert raised.value.code == "insufficient_quota"
    assert 0 < int(raised.value.response.headers["retry-after"]) <= 86_400
    check(raised.value.body)


async def test_a_response_that_is_streamed_fails_with_it(client: openai.AsyncOpenAI) -> None:
    events: Any = await client.responses.create(model="fast", input="Hello again", stream=True)
    *_, failed = [event async for event in events]
    assert (failed.type, failed.response.status) == ("response.failed", "failed")
    assert failed.response.error.code == "insufficient_quota"
    check(failed.response.error.to_dict())


async def test_vectors_are_refused(client: openai.AsyncOpenAI) -> None:
    with pytest.raises(openai.RateLimitError) as raised:
        await client.embeddings.create(model="openai/text-embedding-3-small", input="words nobody has asked for")
    check(raised.value.body)


async def test_a_limit_that_is_lifted_is_lifted_at_once(person: Person, operator: Person) -> None:
    await person.turn(await person.titled(), message="Hello")
    await person.usage(1)
    await set_budget(person, operator, {"limit": 1})
    assert (await person.say("And now?")).last.event == "error"
    await set_budget(person, operator, {"inherit": True})
    assert (await person.say("And now?")).last.event == "done"
