"""What a call may wish for reaches each provider in its own words, or is left out where it knows none."""

from __future__ import annotations

import json
from typing import Any

import pytest

from parley.gateway.v1 import gateway_pb2 as pb
from runtime import errors
from tests.contract.gateway.conftest import MakeGateway
from tests.contract.gateway.test_wires import CASES
from tests.fakes.llm_provider import Answer, ScriptedProvider, ToolUse

PIXEL = "data:image/png;base64,iVBORw0KGgo="
SCHEMA = '{"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}'
TOOLS = [pb.Tool(name="now", description="tells the time"), pb.Tool(name="where")]
WISHES: dict[str, Any] = {
    "seed": 7,
    "top_p": 0.5,
    "frequency_penalty": 0.25,
    "presence_penalty": -0.5,
    "stop": ["END"],
    "tools": TOOLS,
    "tool_choice": pb.ToolChoice(mode=pb.ToolChoice.MODE_NAMED, name="now"),
    "parallel_tool_calls": False,
    "top_logprobs": 2,
}
AS_SCHEMA = pb.ResponseFormat(json_schema=pb.JsonSchema(name="place", schema_json=SCHEMA, strict=True))


async def body_of(make_gateway: MakeGateway, provider: ScriptedProvider, wire: str, **fields: Any) -> dict[str, Any]:
    gateway = await make_gateway(CASES[wire].environ(provider.base_url))
    await gateway.chat(**fields)
    body: dict[str, Any] = provider.requests[-1].body
    return body


async def test_an_openai_shaped_provider_gets_all_wishes(make_gateway: MakeGateway, provider: ScriptedProvider) -> None:
    body = await body_of(make_gateway, provider, "openai", response_format=AS_SCHEMA, **WISHES)

    assert {name: body[name] for name in ("seed", "top_p", "frequency_penalty", "presence_penalty", "stop")} == {
        "seed": 7,
        "top_p": 0.5,
        "frequency_penalty": 0.25,
        "presence_penalty": -0.5,
        "stop": ["END"],
    }
    assert body["tool_choice"] == {"type": "function", "function": {"name": "now"}}
    assert body["parallel_tool_calls"] is False
    assert (body["logprobs"], body["top_logprobs"]) == (True, 2)
    assert body["response_format"] == {
        "type": "json_schema",
        "json_schema": {"name": "place", "schema": json.loads(SCHEMA), "strict": True},
    }


async def test_anthropic_gets_those_it_knows(make_gateway: MakeGateway, provider: ScriptedProvider) -> None:
    body = await body_of(make_gateway, provider, "anthropic", **WISHES)

    assert body["tool_choice"] == {"type": "tool", "name": "now", "disable_parallel_tool_use": True}
    assert body["stop_sequences"] == ["END"]
    assert not {"seed", "logprobs", "top_logprobs", "frequency_penalty", "presence_penalty"} & set(body)


async def test_a_provider_that_litellm_reads_gets_those_it_knows(
    make_gateway: MakeGateway, provider: ScriptedProvider
) -> None:
    body = await body_of(make_gateway, provider, "bedrock", **WISHES)

    assert body["inferenceConfig"]["topP"] == 0.5
    assert body["inferenceConfig"]["stopSequences"] == ["END"]


@pytest.mark.parametrize(
    ("mode", "spelt"),
    [
        (pb.ToolChoice.MODE_AUTO, "auto"),
        (pb.ToolChoice.MODE_NONE, "none"),
        (pb.ToolChoice.MODE_REQUIRED, "required"),
    ],
)
async def test_tools_may_be_left_to_the_model_forbidden_or_asked_for(
    make_gateway: MakeGateway, provider: ScriptedProvider, mode: pb.ToolChoice.Mode.ValueType, spelt: str
) -> None:
    body = await body_of(make_gateway, provider, "openai", tools=TOOLS, tool_choice=pb.ToolChoice(mode=mode))

    assert body["tool_choice"] == spelt


async def test_what_is_not_wished_for_is_not_sent(make_gateway: MakeGateway, provider: ScriptedProvider) -> None:
    body = await body_of(make_gateway, provider, "openai")

    assert set(body) == {"model", "messages", "max_tokens", "stream", "stream_options"}


async def test_any_json_object_may_be_asked_for(make_gateway: MakeGateway, provider: ScriptedProvider) -> None:
    body = await body_of(make_gateway, provider, "openai", response_format=pb.ResponseFormat(json_object=True))

    assert body["response_format"] == {"type": "json_object"}


async def test_json_that_a_model_can_only_give_to_a_tool_is_text(
    make_gateway: MakeGateway, provider: ScriptedProvider
) -> None:
    gateway = await make_gateway(CASES["anthropic"].environ(provider.base_url))
    provider.script(Answer(text="", tools=[ToolUse("json_tool_call", '{"city": "Paris"}')]))

    reply = await gateway.chat(model="anthropic/claude-3-haiku-20240307", response_format=AS_SCHEMA)

    [tool] = provider.requests[-1].body["tools"]
    assert tool["name"] == "json_tool_call"
    assert json.loads(reply.text) == {"city": "Paris"}
    assert not reply.calls
    assert reply.finished is not None
    assert reply.finished.reason == pb.FINISH_REASON_STOP


async def test_a_model_that_follows_schemas_is_given_the_schema(
    make_gateway: MakeGateway, provider: ScriptedProvider
) -> None:
    body = await body_of(
        make_gateway, provider, "anthropic", model="anthropic/claude-sonnet-5", response_format=AS_SCHEMA
    )

    assert body["output_format"]["type"] == "json_schema"
    assert "json_mode" not in body


async def test_reasoning_effort_reaches_models_that_reason(
    make_gateway: MakeGateway, provider: ScriptedProvider
) -> None:
    reasoning = await body_of(make_gateway, provider, "openai", model="openai/gpt-5.2", reasoning_effort="low")
    plain = await body_of(make_gateway, provider, "openai", model="openai/gpt-4o-mini", reasoning_effort="low")

    assert reasoning["reasoning_effort"] == "low"
    assert "reasoning_effort" not in plain


def picture(url: str, text: str = "What is this?") -> list[pb.PromptMessage]:
    return [pb.PromptMessage(role=pb.ROLE_USER, text=text, images=[pb.Image(url=url, detail="low")])]


@pytest.mark.parametrize("url", [PIXEL, "https://pictures.example.org/cat.png"])
async def test_pictures_reach_openai_as_they_are(
    make_gateway: MakeGateway, provider: ScriptedProvider, url: str
) -> None:
    body = await body_of(make_gateway, provider, "openai", messages=picture(url))

    assert body["messages"][0]["content"] == [
        {"type": "text", "text": "What is this?"},
        {"type": "image_url", "image_url": {"url": url, "detail": "low"}},
    ]


async def test_pictures_reach_anthropic_in_its_words(make_gateway: MakeGateway, provider: ScriptedProvider) -> None:
    by_data = await body_of(make_gateway, provider, "anthropic", messages=picture(PIXEL, ""))
    by_address = await body_of(make_gateway, provider, "anthropic", messages=picture("https://example.org/cat.png"))

    assert by_data["messages"][0]["content"][0]["source"] == {
        "type": "base64",
        "media_type": "image/png",
        "data": "iVBORw0KGgo=",
    }
    assert by_address["messages"][0]["content"][1]["source"] == {"type": "url", "url": "https://example.org/cat.png"}


@pytest.mark.parametrize("wire", ["ollama", "bedrock"])
async def test_the_gateway_fetches_no_picture_itself(
    make_gateway: MakeGateway, provider: ScriptedProvider, wire: str
) -> None:
    gateway = await make_gateway(CASES[wire].environ(provider.base_url))

    with pytest.raises(errors.InvalidArgument) as raised:
        await gateway.chat(messages=picture("https://example.org/cat.png"))

    assert raised.value.code == "REQUEST_REJECTED"
    assert not provider.requests


async def test_log_probabilities_are_passed_on(make_gateway: MakeGateway, provider: ScriptedProvider) -> None:
    gateway = await make_gateway(CASES["openai"].environ(provider.base_url))
    provider.script(Answer(text="one two", logprobs=True))

    reply = await gateway.chat(top_logprobs=0)

    assert [token["token"] for told in reply.logprobs for token in told["content"]] == ["one", " two"]
    assert reply.text == "one two"
