"""OpenAI's own Python client, unchanged, against the whole system."""

from __future__ import annotations

import asyncio
import json
import secrets
from collections.abc import AsyncIterator, Callable
from typing import Any

import openai
import pytest
from pydantic import BaseModel

from tests.e2e.person import Person
from tests.e2e.system import System
from tests.fakes.llm_provider import Answer, Fault, Stall, ToolUse

WEATHER: Any = {
    "type": "function",
    "function": {"name": "weather", "parameters": {"type": "object", "properties": {"city": {"type": "string"}}}},
}


def unique(text: str) -> tuple[str, Any]:
    """Returns words that no other test says, and a prompt of them."""
    words = f"{text} {secrets.token_hex(6)}"
    return words, [{"role": "user", "content": words}]


@pytest.fixture
async def client_of(stack: System) -> AsyncIterator[Callable[..., openai.AsyncOpenAI]]:
    """Makes clients of a credential."""
    clients = []

    def make(credential: str, **more: Any) -> openai.AsyncOpenAI:
        clients.append(openai.AsyncOpenAI(base_url=f"{stack.edge_url}/openai/v1", api_key=credential, **more))
        return clients[-1]

    yield make
    for client in clients:
        await client.close()


@pytest.fixture
async def client(person: Person, client_of: Callable[..., openai.AsyncOpenAI]) -> openai.AsyncOpenAI:
    """A person's client, with an API key for models."""
    made = await person.http.post("/v1/api-keys", json={"name": "tests"})
    assert made.status_code == 201, made.text
    return client_of(made.json()["key"])


async def test_an_answer_comes_whole(stack: System, client: openai.AsyncOpenAI) -> None:
    words, prompt = unique("Hello")
    stack.provider.script(Answer(text="Grüße, wörtlich 🌍"), match=words)
    answer = await client.chat.completions.create(model="fast", messages=prompt)
    assert (answer.choices[0].message.content, answer.choices[0].finish_reason) == ("Grüße, wörtlich 🌍", "stop")
    assert answer.usage is not None
    assert answer.usage.prompt_tokens == 11


async def test_an_answer_is_streamed_as_it_is_written(stack: System, client: openai.AsyncOpenAI) -> None:
    words, prompt = unique("Hello")
    stack.provider.script(Stall(after=2, answer=Answer(text="one two three")), match=words)
    stream = await client.chat.completions.create(model="fast", messages=prompt, stream=True)
    seen = ""
    async for chunk in stream:
        seen += chunk.choices[0].delta.content or ""
        if seen == "one two":  # the model has not finished, and will not
            break
    await stream.close()
    await stack.provider.until(
        lambda: any(words in json.dumps(request.body) for request in stack.provider.closed_early)
    )


async def test_used_tokens_come_last(stack: System, client: openai.AsyncOpenAI) -> None:
    words, prompt = unique("Hello")
    stack.provider.script(Answer(text="one two three"), match=words)
    asked: Any = {"model": "fast", "messages": prompt, "stream": True, "stream_options": {"include_usage": True}}
    chunks = [chunk async for chunk in await client.chat.completions.create(**asked)]
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices) == "one two three"
    assert [chunk.usage is None for chunk in chunks] == [True] * (len(chunks) - 1) + [False]
    assert (chunks[-1].usage.prompt_tokens, chunks[-1].usage.completion_tokens) == (11, 3)


async def test_who_stops_waiting_stops_the_model(stack: System, client: openai.AsyncOpenAI) -> None:
    words, prompt = unique("Hello")
    stack.provider.script(Stall(after=1), match=words)
    asking = asyncio.create_task(client.chat.completions.create(model="fast", messages=prompt))

    def of_this(requests: Any) -> bool:
        return any(words in json.dumps(request.body) for request in requests)

    await stack.provider.until(lambda: of_this(stack.provider.requests))
    asking.cancel()
    await stack.provider.until(lambda: of_this(stack.provider.closed_early))


async def test_tools_are_called_side_by_side_and_answered(stack: System, client: openai.AsyncOpenAI) -> None:
    words, prompt = unique("The weather")
    uses = [ToolUse("weather", '{"city": "Bonn"}'), ToolUse("weather", '{"city": "Rome"}')]
    stack.provider.script(Answer(text="", tools=uses), match=words, step=0)
    stack.provider.script(Answer(text="Mild and hot."), match=words, step=1)
    asked: Any = {"model": "fast", "tools": [WEATHER], "tool_choice": "auto", "parallel_tool_calls": True}
    first = (await client.chat.completions.create(messages=prompt, **asked)).choices[0]
    assert first.finish_reason == "tool_calls"
    used: Any = first.message.tool_calls
    assert [json.loads(one.function.arguments)["city"] for one in used] == ["Bonn", "Rome"]
    results = [{"role": "tool", "tool_call_id": one.id, "content": "fine"} for one in used]
    said: Any = [*prompt, first.message, *results]
    answer = await client.chat.completions.create(messages=said, **asked)
    assert answer.choices[0].message.content == "Mild and hot."
    request = stack.provider.requests[-1].body
    assert [one["role"] for one in request["messages"]] == ["user", "assistant", "tool", "tool"]


class City(BaseModel):
    name: str
    people: int


async def test_an_answer_follows_a_schema(stack: System, client: openai.AsyncOpenAI) -> None:
    words, prompt = unique("A city")
    stack.provider.script(Answer(text='{"name": "Bonn", "people": 330000}'), match=words)
    answer = await client.chat.completions.parse(model="fast", messages=prompt, response_format=City)
    assert answer.choices[0].message.parsed == City(name="Bonn", people=330000)
    asked = next(one.body for one in stack.provider.requests if words in json.dumps(one.body))
    assert asked["response_format"]["json_schema"]["name"] == "City"


async def test_a_picture_reaches_the_model(stack: System, client: openai.AsyncOpenAI) -> None:
    words, _ = unique("What is this?")
    picture = "data:image/png;base64," + "A" * 400_000
    parts = [{"type": "text", "text": words}, {"type": "image_url", "image_url": {"url": picture}}]
    stack.provider.script(Answer(text="A dot."), match=words)
    said: Any = [{"role": "user", "content": parts}]
    answer = await client.chat.completions.create(model="fast", messages=said)
    assert answer.choices[0].message.content == "A dot."
    asked = next(one.body for one in stack.provider.requests if words in json.dumps(one.body))
    assert picture in json.dumps(asked)


@pytest.mark.parametrize("encoding", ["float", None])
async def test_texts_become_vectors(client: openai.AsyncOpenAI, encoding: Any) -> None:
    """Without a word about it the client asks for base64, which it decodes itself."""
    more = {"encoding_format": encoding} if encoding else {}
    texts = [secrets.token_hex(4), secrets.token_hex(7)]
    answer = await client.embeddings.create(model="openai/text-embedding-3-small", input=texts, dimensions=3, **more)
    assert [one.embedding for one in answer.data] == [[8.0, 0.5, 0.5], [14.0, 0.5, 0.5]]
    assert answer.usage.prompt_tokens == 2


async def test_models_are_listed(client: openai.AsyncOpenAI) -> None:
    names = [model.id async for model in client.models.list()]
    assert "fast" in names
    assert (await client.models.retrieve("fast")).id == "fast"


async def test_a_model_that_there_is_not_is_told(client: openai.AsyncOpenAI) -> None:
    _, prompt = unique("Hello")
    with pytest.raises(openai.NotFoundError) as raised:
        await client.chat.completions.create(model="no-such-model", messages=prompt)
    assert (raised.value.code, raised.value.param) == ("model_not_found", "model")


async def test_a_provider_that_is_busy_is_told_and_tried_again_by_the_client(
    stack: System, client: openai.AsyncOpenAI
) -> None:
    """The gateway tries three times by itself: the client sees one refusal, waits as it is told, and asks once more."""
    words, prompt = unique("Hello")
    stack.provider.script(Fault(status=429), match=words, times=3)
    stack.provider.script(Answer(text="At last."), match=words)
    with pytest.raises(openai.RateLimitError) as raised:
        await client.with_options(max_retries=0).chat.completions.create(model="fast", messages=prompt)
    assert raised.value.code == "rate_limit_exceeded"
    assert "PROVIDER-SECRET-WORDS" not in str(raised.value)
    assert (await client.chat.completions.create(model="fast", messages=prompt)).choices[
        0
    ].message.content == "At last."


async def test_a_model_that_goes_silent_is_told_in_the_stream(stack: System, client: openai.AsyncOpenAI) -> None:
    words, prompt = unique("Hello")
    stack.provider.script(Stall(after=1), match=words)
    stream = await client.chat.completions.create(model="fast", messages=prompt, stream=True)
    with pytest.raises(openai.APIError) as raised:
        [chunk async for chunk in stream]
    assert raised.value.code == "stream_stalled"


async def test_a_revoked_key_opens_nothing_more(person: Person, client_of: Callable[..., openai.AsyncOpenAI]) -> None:
    """A key whose token is in use ends within five minutes; one that is not, at once."""
    made = (await person.http.post("/v1/api-keys", json={"name": "tests"})).json()
    assert (await person.http.delete(f"/v1/api-keys/{made['id']}")).status_code == 200
    with pytest.raises(openai.AuthenticationError) as raised:
        await client_of(made["key"]).models.list()
    assert raised.value.code == "invalid_api_key"
    listed = (await person.http.get("/v1/api-keys")).json()["api_keys"]
    assert [key["revoked_at"] is not None for key in listed if key["id"] == made["id"]] == [True]


async def test_a_key_for_models_opens_no_conversations(stack: System, person: Person) -> None:
    made = (await person.http.post("/v1/api-keys", json={"name": "tests"})).json()
    headers = {"authorization": f"Bearer {made['key']}"}
    assert (await person.http.get("/v1/conversations", headers=headers)).status_code == 401
    assert (await person.http.get("/v1/api-keys", headers=headers)).status_code in {401, 403}


async def test_a_key_for_chat_opens_conversations(person: Person) -> None:
    made = (await person.http.post("/v1/api-keys", json={"name": "tests", "scopes": ["chat"]})).json()
    headers = {"authorization": f"Bearer {made['key']}"}
    assert (await person.http.get("/v1/conversations", headers=headers)).status_code == 200


async def test_an_access_token_serves_too(person: Person, client_of: Callable[..., openai.AsyncOpenAI]) -> None:
    assert (await client_of(person.access_token).models.list()).data
