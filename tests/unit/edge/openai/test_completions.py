"""Completions, asked for by OpenAI's own client."""

import asyncio
import json
from typing import Any

import httpx
import openai
import pytest
from pydantic import BaseModel

from parley.gateway.v1 import gateway_pb2 as pb
from runtime.errors import DeadlineExceeded, InvalidArgument, ParleyError, ResourceExhausted
from tests.unit.edge.openai.behind import Gateway, finished, started, text

HELLO: Any = [{"role": "user", "content": "Hello"}]
WEATHER: Any = {"type": "function", "function": {"name": "weather", "parameters": {"type": "object"}, "strict": True}}


def calls(*pieces: pb.ToolCallDelta) -> pb.ChatResponse:
    return pb.ChatResponse(deltas=[pb.ChatDelta(tool_call=piece) for piece in pieces])


TWO_CALLS = [
    started(),
    calls(pb.ToolCallDelta(index=0, id="a", name="weather"), pb.ToolCallDelta(index=0, arguments_delta='{"city":')),
    calls(pb.ToolCallDelta(index=0, arguments_delta='"Bonn"}'), pb.ToolCallDelta(index=1, id="b", name="weather")),
    calls(pb.ToolCallDelta(index=1, arguments_delta="{}")),
    finished(pb.FINISH_REASON_TOOL_CALLS),
]


async def frames(edge: str, client: openai.AsyncOpenAI, **body: Any) -> list[Any]:
    headers = {"authorization": f"Bearer {client.api_key}"}
    asked = {"model": "m", "messages": HELLO, "stream": True, **body}
    async with httpx.AsyncClient() as http:
        answer = await http.post(f"{edge}/chat/completions", json=asked, headers=headers)
    assert answer.headers["content-type"].startswith("text/event-stream")
    assert answer.text.endswith("\n\n")
    lines = answer.text[:-2].split("\n\n")
    assert all(line.startswith("data: ") for line in lines)
    return [line if line == "data: [DONE]" else json.loads(line[6:]) for line in lines]


async def test_an_answer_comes_whole(client: openai.AsyncOpenAI, gateway: Gateway) -> None:
    answer = await client.chat.completions.create(model="fast", messages=HELLO)
    [choice] = answer.choices
    assert (choice.message.content, choice.finish_reason, answer.model) == ("Hello there", "stop", "gpt-4o-mini")
    assert answer.usage is not None
    assert (answer.usage.prompt_tokens, answer.usage.completion_tokens, answer.usage.total_tokens) == (11, 5, 16)
    assert answer._request_id
    [asked] = gateway.asked
    assert (asked.model, asked.messages[0].role, asked.messages[0].text) == ("fast", pb.ROLE_USER, "Hello")


async def test_an_answer_that_nobody_has_seen_may_begin_anew(client: openai.AsyncOpenAI, gateway: Gateway) -> None:
    anew = pb.ChatResponse(deltas=[pb.ChatDelta(reset=pb.Reset())])
    gateway.script = [[started(), text("Hel"), anew, started("other"), text("Good day"), finished()]]
    answer = await client.chat.completions.create(model="fast", messages=HELLO)
    assert gateway.asked[0].allow_reset
    assert (answer.choices[0].message.content, answer.model) == ("Good day", "other")


async def test_a_streamed_answer_is_spelt_as_openai_spells_it(
    edge: str, client: openai.AsyncOpenAI, gateway: Gateway
) -> None:
    gateway.script = [[started(), text("Hel", "lo"), finished()]]
    *chunks, done = await frames(edge, client)
    assert done == "data: [DONE]"
    assert not gateway.asked[0].allow_reset
    same = {(one["id"], one["object"], one["created"], one["model"]) for one in chunks}
    assert len(same) == 1
    assert all("usage" not in one for one in chunks)
    assert [one["choices"] for one in chunks] == [
        [{"index": 0, "delta": delta, "logprobs": None, "finish_reason": reason}]
        for delta, reason in [
            ({"role": "assistant", "content": ""}, None),
            ({"content": "Hel"}, None),
            ({"content": "lo"}, None),
            ({}, "stop"),
        ]
    ]


async def test_used_tokens_are_told_last_where_they_are_asked_for(
    edge: str, client: openai.AsyncOpenAI, gateway: Gateway
) -> None:
    used = finished(input_tokens=9, output_tokens=4, cached_tokens=2, reasoning_tokens=1)
    gateway.script = [[started(), text("Hi"), used]]
    *chunks, last, _ = await frames(edge, client, stream_options={"include_usage": True})
    assert all(one["usage"] is None for one in chunks)
    assert last["choices"] == []
    assert last["usage"] == {
        "prompt_tokens": 9,
        "completion_tokens": 4,
        "total_tokens": 13,
        "prompt_tokens_details": {"cached_tokens": 2},
        "completion_tokens_details": {"reasoning_tokens": 1},
    }


@pytest.mark.parametrize("streamed", [False, True])
async def test_tools_are_called_side_by_side_and_their_results_go_back(
    client: openai.AsyncOpenAI, gateway: Gateway, streamed: bool
) -> None:
    gateway.script = [TWO_CALLS, [started(), text("Mild."), finished()]]
    asked: Any = {"model": "fast", "messages": HELLO, "tools": [WEATHER], "tool_choice": "required"}
    if streamed:
        async with client.chat.completions.stream(**asked) as stream:
            message: Any = (await stream.get_final_completion()).choices[0].message
    else:
        message = (await client.chat.completions.create(**asked)).choices[0].message
    assert [(one.id, one.function.name, one.function.arguments) for one in message.tool_calls] == [
        ("a", "weather", '{"city":"Bonn"}'),
        ("b", "weather", "{}"),
    ]
    results: Any = [{"role": "tool", "tool_call_id": one.id, "content": "mild"} for one in message.tool_calls]
    again: Any = [*HELLO, message.model_dump(exclude_none=True), *results]
    answer = await client.chat.completions.create(model="fast", messages=again, tools=[WEATHER])
    assert answer.choices[0].message.content == "Mild."
    first, second = gateway.asked
    assert first.tool_choice.mode == pb.ToolChoice.MODE_REQUIRED
    assert [(one.name, json.loads(one.parameters_json)) for one in first.tools] == [("weather", {"type": "object"})]
    assert [one.id for one in second.messages[1].tool_calls] == ["a", "b"]
    assert [one.tool_call_id for one in second.messages[2:]] == ["a", "b"]


async def test_a_whole_answer_that_only_calls_tools_has_no_text(client: openai.AsyncOpenAI, gateway: Gateway) -> None:
    gateway.script = [TWO_CALLS]
    [choice] = (await client.chat.completions.create(model="fast", messages=HELLO, tools=[WEATHER])).choices
    assert (choice.message.content, choice.finish_reason) == (None, "tool_calls")


class City(BaseModel):
    name: str
    people: int


async def test_an_answer_follows_a_schema(client: openai.AsyncOpenAI, gateway: Gateway) -> None:
    gateway.script = [[started(), text('{"name":"Bonn",', '"people":330000}'), finished()]]
    answer = await client.chat.completions.parse(model="fast", messages=HELLO, response_format=City)
    assert answer.choices[0].message.parsed == City(name="Bonn", people=330000)
    schema = gateway.asked[0].response_format.json_schema
    assert (schema.name, schema.strict) == ("City", True)
    assert json.loads(schema.schema_json)["required"] == ["name", "people"]


async def test_what_a_request_says_is_passed_on(client: openai.AsyncOpenAI, gateway: Gateway) -> None:
    told: Any = {
        "temperature": 0,
        "top_p": 0.5,
        "frequency_penalty": -1,
        "presence_penalty": 1,
        "seed": -7,
        "parallel_tool_calls": False,
        "reasoning_effort": "low",
    }
    await client.chat.completions.create(
        model="fast",
        messages=HELLO,
        stop=["a", "b"],
        max_completion_tokens=77,
        logprobs=True,
        top_logprobs=3,
        tools=[WEATHER],
        tool_choice={"type": "function", "function": {"name": "weather"}},
        response_format={"type": "json_object"},
        extra_body={"something": {"nobody": "knows"}},
        user="u",
        **told,
    )
    [asked] = gateway.asked
    assert {name: getattr(asked, name) for name in told} == told
    assert (list(asked.stop), asked.max_output_tokens, asked.top_logprobs) == (["a", "b"], 77, 3)
    assert (asked.tool_choice.mode, asked.tool_choice.name) == (pb.ToolChoice.MODE_NAMED, "weather")
    assert asked.response_format.json_object


async def test_what_a_request_does_not_say_is_left_open(client: openai.AsyncOpenAI, gateway: Gateway) -> None:
    await client.chat.completions.create(
        model="fast", messages=HELLO, temperature=None, stop=None, extra_body={"tools": None}
    )
    [asked] = gateway.asked
    said = {field.name for field, _ in asked.ListFields()}
    assert said == {"model", "messages", "allow_reset"}


async def test_log_probabilities_are_passed_on(edge: str, client: openai.AsyncOpenAI, gateway: Gateway) -> None:
    told = {"content": [{"token": "Hi", "logprob": -0.1, "bytes": None, "top_logprobs": []}]}
    step = pb.ChatResponse(deltas=[pb.ChatDelta(text="Hi"), pb.ChatDelta(logprobs_json=json.dumps(told, indent=2))])
    gateway.script = [[started(), step, step, finished()]] * 2
    answer = await client.chat.completions.create(model="fast", messages=HELLO, logprobs=True)
    assert answer.choices[0].logprobs is not None
    assert [one.token for one in answer.choices[0].logprobs.content or []] == ["Hi", "Hi"]
    *chunks, _ = await frames(edge, client, logprobs=True)
    assert [one["choices"][0]["logprobs"] for one in chunks if one["choices"][0]["logprobs"]] == [told, told]


async def test_every_role_and_part_is_understood(client: openai.AsyncOpenAI, gateway: Gateway) -> None:
    said: Any = [
        {"role": "developer", "content": [{"type": "text", "text": "Be"}, {"type": "text", "text": "brief."}]},
        {"role": "system", "content": "Be kind."},
        {
            "role": "user",
            "name": "ann",
            "content": [
                {"type": "text", "text": "What is this?"},
                {"type": "image_url", "image_url": {"url": "https://example.com/a.png", "detail": "low"}},
                {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}},
            ],
        },
        {"role": "assistant", "content": [{"type": "refusal", "refusal": "No."}]},
        {"role": "user", "content": "Why?"},
    ]
    await client.chat.completions.create(model="fast", messages=said)
    [asked] = gateway.asked
    assert [(one.role, one.text) for one in asked.messages] == [
        (pb.ROLE_SYSTEM, "Be\nbrief."),
        (pb.ROLE_SYSTEM, "Be kind."),
        (pb.ROLE_USER, "What is this?"),
        (pb.ROLE_ASSISTANT, "No."),
        (pb.ROLE_USER, "Why?"),
    ]
    assert [(one.url, one.detail) for one in asked.messages[2].images] == [
        ("https://example.com/a.png", "low"),
        ("data:image/png;base64,AAAA", ""),
    ]


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"messages": []}, "messages"),
        ({"messages": [{"role": "user"}]}, "messages[0].content"),
        ({"messages": [{"role": "narrator", "content": "x"}]}, "messages[0].role"),
        ({"messages": [{"role": "user", "content": [{"type": "input_audio"}]}]}, "messages[0].content[0].type"),
        ({"messages": "Hello"}, "messages"),
        ({"n": 2}, "n"),
        ({"temperature": "hot"}, "temperature"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"seed": 2**63}, "seed"),
        ({"top_logprobs": 2}, "top_logprobs"),
        ({"tool_choice": "some"}, "tool_choice"),
        ({"functions": [{"name": "f"}]}, "functions"),
        ({"modalities": ["audio"]}, "modalities"),
        ({"response_format": {"type": "xml"}}, "response_format.type"),
        ({"tools": [{"type": "function", "function": {}}]}, "tools[0].function.name"),
    ],
)
async def test_what_is_wrong_is_named(
    client: openai.AsyncOpenAI, gateway: Gateway, body: dict[str, Any], param: str
) -> None:
    with pytest.raises(openai.BadRequestError) as raised:
        await client.chat.completions.create(model="fast", messages=HELLO, extra_body=body)
    told = raised.value
    assert (told.param, told.type) == (param, "invalid_request_error")
    assert told.message
    assert gateway.asked == []


@pytest.mark.parametrize("body", [b"{", b"[]", b"\xff", b'{"messages":"\\ud800"}', b"[" * 100_000, b""])
async def test_what_is_no_request_is_refused(edge: str, client: openai.AsyncOpenAI, body: bytes) -> None:
    async with httpx.AsyncClient(headers={"authorization": f"Bearer {client.api_key}"}) as http:
        answer = await http.post(f"{edge}/chat/completions", content=body)
    assert answer.status_code == 400
    assert answer.json()["error"].keys() == {"message", "type", "param", "code"}


@pytest.mark.parametrize(
    "told",
    [
        (InvalidArgument.of("CONTEXT_TOO_LONG", "Too long."), openai.BadRequestError, "context_length_exceeded"),
        (
            InvalidArgument("messages[0].text: must not be empty.", field="messages[0].text"),
            openai.BadRequestError,
            "invalid_value",
        ),
        (ResourceExhausted.of("PROVIDER_RATE_LIMITED", "Wait."), openai.RateLimitError, "rate_limit_exceeded"),
        (ResourceExhausted.of("TOKEN_BUDGET_EXCEEDED", "No."), openai.RateLimitError, "insufficient_quota"),
        (DeadlineExceeded.of("FIRST_TOKEN_TIMEOUT", "Late."), openai.InternalServerError, "first_token_timeout"),
    ],
)
@pytest.mark.parametrize("streamed", [False, True])
async def test_an_error_before_the_first_byte_has_its_status(
    client: openai.AsyncOpenAI,
    gateway: Gateway,
    told: tuple[ParleyError, type[openai.APIStatusError], str],
    streamed: bool,
) -> None:
    error, kind, code = told
    gateway.script = [[started(), error]]
    with pytest.raises(kind) as raised:
        await client.chat.completions.create(model="fast", messages=HELLO, stream=streamed)
    assert (raised.value.code, raised.value.param) == (
        code,
        "messages[0].content" if "field" in error.metadata else None,
    )
    assert raised.value.request_id
    assert "text:" not in raised.value.message


async def test_an_error_after_the_first_byte_is_raised_too(client: openai.AsyncOpenAI, gateway: Gateway) -> None:
    gateway.script = [[started(), text("Hel"), DeadlineExceeded.of("STREAM_STALLED", "The model went silent.")]]
    chunks = aiter(await client.chat.completions.create(model="fast", messages=HELLO, stream=True))
    assert [(await anext(chunks)).choices[0].delta.content for _ in range(2)] == ["", "Hel"]
    with pytest.raises(openai.APIError) as raised:
        await anext(chunks)
    assert (raised.value.code, raised.value.message) == ("stream_stalled", "The model went silent.")


async def test_after_an_error_nothing_follows(edge: str, client: openai.AsyncOpenAI, gateway: Gateway) -> None:
    gateway.script = [[started(), text("Hel"), DeadlineExceeded.of("STREAM_STALLED", "Silent.")]]
    *_, last = await frames(edge, client)
    assert last["error"] == {"message": "Silent.", "type": "server_error", "param": None, "code": "stream_stalled"}


async def test_a_limit_is_told_with_its_numbers_and_when_to_come_back(
    edge: str, client: openai.AsyncOpenAI, gateway: Gateway
) -> None:
    limits = {"limit_type": "user", "current": "7", "limit": "5", "resets_at": "2026-01-01T00:00:00Z"}
    spent = ResourceExhausted.of("TOKEN_BUDGET_EXCEEDED", "Spent.", retry_after_s=3600, **limits)
    gateway.script = [[spent], [ResourceExhausted.of("PROVIDER_RATE_LIMITED", "Wait.", retry_after_s=2)]]
    with pytest.raises(openai.RateLimitError) as raised:
        await client.with_options(max_retries=2).chat.completions.create(model="fast", messages=HELLO)
    assert isinstance(raised.value.body, dict)
    assert (limits | {"current": 7, "limit": 5}).items() <= raised.value.body.items()
    assert raised.value.response.headers["retry-after"] == "3600"
    assert len(gateway.asked) == 1, "the client was told that trying again is no use"
    with pytest.raises(openai.RateLimitError) as raised:
        await client.chat.completions.create(model="fast", messages=HELLO)
    assert raised.value.response.headers["retry-after"] == "2"
    assert "x-should-retry" not in raised.value.response.headers


async def test_who_waits_as_told_gets_an_answer(client: openai.AsyncOpenAI, gateway: Gateway) -> None:
    gateway.script = [[ResourceExhausted.of("PROVIDER_RATE_LIMITED", "Wait.", retry_after_s=0.01)]]
    patient = client.with_options(max_retries=1)
    answer = await patient.chat.completions.create(model="fast", messages=HELLO)
    assert answer.choices[0].message.content == "Hello there"
    assert len(gateway.asked) == 2


async def test_a_client_that_leaves_a_stream_ends_the_call(client: openai.AsyncOpenAI, gateway: Gateway) -> None:
    gateway.script = [[started(), text("Hel"), asyncio.Event()]]
    stream = await client.chat.completions.create(model="fast", messages=HELLO, stream=True)
    await anext(aiter(stream))
    await stream.close()
    await asyncio.wait_for(gateway.cancelled.wait(), 10)


async def test_a_client_that_leaves_before_the_answer_is_whole_ends_the_call(
    client: openai.AsyncOpenAI, gateway: Gateway
) -> None:
    gateway.script = [[started(), text("Hel"), asyncio.Event()]]
    asking = asyncio.create_task(client.chat.completions.create(model="fast", messages=HELLO))
    await gateway.called.wait()
    asking.cancel()
    await asyncio.wait_for(gateway.cancelled.wait(), 10)
