"""Responses, asked for by OpenAI's own Python client, on top of the run log."""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator
from typing import Any

import openai
import pytest

from tests.e2e.person import Person
from tests.e2e.system import System
from tests.fakes.llm_provider import Answer, Stall


def unique(text: str) -> str:
    return f"{text} {secrets.token_hex(6)}"


@pytest.fixture
async def client(stack: System, person: Person) -> AsyncIterator[openai.AsyncOpenAI]:
    """A person's client, with an API key for conversations."""
    made = (await person.http.post("/v1/api-keys", json={"name": "tests", "scopes": ["chat"]})).json()
    async with openai.AsyncOpenAI(base_url=f"{stack.edge_url}/openai/v1", api_key=made["key"]) as client:
        yield client


async def test_a_response_goes_on_where_the_last_one_ended(
    stack: System, client: openai.AsyncOpenAI, person: Person
) -> None:
    first, second = unique("First"), unique("Second")
    stack.provider.script(Answer(text="One."), match=first)
    stack.provider.script(Answer(text="Two."), match=second)
    one = await client.responses.create(model="fast", input=first)
    assert (one.output_text, one.status) == ("One.", "completed")
    assert one.usage is not None
    assert one.usage.input_tokens == 11
    two = await client.responses.create(model="fast", input=second, previous_response_id=one.id)
    assert two.output_text == "Two."
    assert one.conversation is not None
    said = [message["content"] for message in await person.messages(one.conversation.id)]
    assert said == [first, "One.", second, "Two."]
    assert (await client.responses.retrieve(one.id)).output_text == "One."


async def test_a_response_is_streamed(stack: System, client: openai.AsyncOpenAI) -> None:
    words = unique("Hello")
    stack.provider.script(Answer(text="one two three", delay_s=0.05), match=words)
    async with client.responses.stream(model="fast", input=words) as stream:
        events = [event async for event in stream]
        final = await stream.get_final_response()
    assert final.output_text == "one two three"
    deltas = [event.delta for event in events if event.type == "response.output_text.delta"]
    assert "".join(deltas) == "one two three"
    assert len(deltas) > 1


async def test_a_stream_that_was_left_is_gone_on_with(stack: System, client: openai.AsyncOpenAI) -> None:
    words = unique("Hello")
    stack.provider.script(Answer(text="one two three four", delay_s=0.1), match=words)
    stream: Any = await client.responses.create(model="fast", input=words, background=True, stream=True)
    seen = []
    async for event in stream:
        seen.append(event)
        if event.type == "response.output_text.delta":
            break
    await stream.close()
    rest: Any = await client.responses.retrieve(
        seen[0].response.id, stream=True, starting_after=seen[-1].sequence_number
    )
    seen += [event async for event in rest]
    assert [event.sequence_number for event in seen] == list(range(len(seen)))
    deltas = [event.delta for event in seen if event.type == "response.output_text.delta"]
    assert "".join(deltas) == seen[-1].response.output_text == "one two three four"


async def test_a_response_in_the_background_is_stopped(stack: System, client: openai.AsyncOpenAI) -> None:
    words = unique("Hello")
    stack.provider.script(Stall(after=1, answer=Answer(text="one two")), match=words)
    queued = await client.responses.create(model="fast", input=words, background=True)
    assert queued.status in {"queued", "in_progress"}
    events: Any = await client.responses.retrieve(queued.id, stream=True)
    async for event in events:
        if event.type == "response.output_text.delta":
            break
    await events.close()
    assert (await client.responses.retrieve(queued.id)).status == "in_progress"
    stopped = await client.responses.cancel(queued.id)
    assert (stopped.status, stopped.output_text) == ("cancelled", "one")
    assert (await client.responses.cancel(queued.id)).status == "cancelled"


@pytest.mark.parametrize(
    ("more", "param"),
    [
        ({"instructions": "Be brief."}, "instructions"),
        ({"tools": [{"type": "web_search"}]}, "tools"),
        ({"temperature": 0.5}, "temperature"),
        ({"max_output_tokens": 5}, "max_output_tokens"),
        ({"store": False}, "store"),
        ({"input": [{"role": "user", "content": "a"}, {"role": "user", "content": "b"}]}, "input"),
        ({"input": [{"role": "system", "content": "a"}]}, "input[0].role"),
        ({"text": {"format": {"type": "json_object"}}}, "text.format"),
        ({"conversation": "none"}, "conversation"),
    ],
)
async def test_what_a_conversation_does_not_take_is_named(
    client: openai.AsyncOpenAI, more: dict[str, Any], param: str
) -> None:
    with pytest.raises(openai.BadRequestError) as raised:
        await client.responses.create(**{"model": "fast", "input": "Hello", **more})
    assert raised.value.param == param
    assert "system" not in str(raised.value)  # nothing that was sent is repeated


@pytest.mark.parametrize("name", ["resp_nonsense", "resp_0193f000000070008000000000000001"])
async def test_a_response_that_there_is_not_is_told(client: openai.AsyncOpenAI, name: str) -> None:
    for ask in (client.responses.retrieve, client.responses.cancel, client.responses.delete):
        with pytest.raises(openai.NotFoundError) as raised:
            await ask(name)
        assert raised.value.code == "response_not_found"


async def test_somebody_elses_response_is_not_there(stack: System, client: openai.AsyncOpenAI, newcomer: Any) -> None:
    mine = await client.responses.create(model="fast", input=unique("Mine"))
    other = await newcomer()
    stranger = openai.AsyncOpenAI(base_url=f"{stack.edge_url}/openai/v1", api_key=other.access_token)
    async with stranger:
        with pytest.raises(openai.NotFoundError):
            await stranger.responses.retrieve(mine.id)
        with pytest.raises(openai.NotFoundError):
            await stranger.responses.input_items.list(mine.id)
        with pytest.raises(openai.NotFoundError):
            await stranger.responses.delete(mine.id)
        assert mine.conversation is not None
        with pytest.raises(openai.NotFoundError):
            await stranger.conversations.delete(mine.conversation.id)
    assert (await client.responses.retrieve(mine.id)).id == mine.id


async def test_what_a_response_answers_is_listed(client: openai.AsyncOpenAI) -> None:
    words = unique("What?")
    one = await client.responses.create(model="fast", input=words)
    items: Any = [item async for item in client.responses.input_items.list(one.id, order="asc")]
    assert [(item.role, [part.text for part in item.content]) for item in items] == [("user", [words])]
    assert not (await client.responses.input_items.list(one.id, after=items[-1].id)).data


async def test_a_response_is_deleted(client: openai.AsyncOpenAI, person: Person) -> None:
    one = await client.responses.create(model="fast", input=unique("Forget this"))
    await client.responses.delete(one.id)
    with pytest.raises(openai.NotFoundError):
        await client.responses.retrieve(one.id)
    assert one.conversation is not None
    assert (await person.http.get(f"/v1/conversations/{one.conversation.id}")).status_code == 404


async def test_a_response_that_is_being_written_is_deleted_and_its_model_stopped(
    stack: System, client: openai.AsyncOpenAI
) -> None:
    words = unique("Never mind")
    stack.provider.script(Stall(after=1), match=words)
    queued = await client.responses.create(model="fast", input=words, background=True)
    events: Any = await client.responses.retrieve(queued.id, stream=True)
    async for event in events:
        if event.type == "response.output_text.delta":
            break
    await events.close()
    await client.responses.delete(queued.id)
    await stack.provider.until(lambda: any(words in str(request.body) for request in stack.provider.closed_early))


async def test_a_response_that_others_stand_on_goes_with_its_conversation(client: openai.AsyncOpenAI) -> None:
    first = await client.responses.create(model="fast", input=unique("First"))
    second = await client.responses.create(model="fast", input=unique("Second"), previous_response_id=first.id)
    for one in (first, second):
        with pytest.raises(openai.ConflictError) as raised:
            await client.responses.delete(one.id)
        assert raised.value.code == "response_not_alone"
    assert first.conversation is not None
    deleted = await client.conversations.delete(first.conversation.id)
    assert (deleted.id, deleted.deleted) == (first.conversation.id, True)
    for one in (first, second):
        with pytest.raises(openai.NotFoundError):
            await client.responses.retrieve(one.id)
    for name in (first.conversation.id, "nonsense"):
        with pytest.raises(openai.NotFoundError) as missed:
            await client.conversations.delete(name)
        assert missed.value.code == "conversation_not_found"
