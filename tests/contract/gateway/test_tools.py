"""Tools, end to end on the wires we read ourselves: offered, called, answered; and which models call any."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
import structlog

from parley.gateway.v1 import gateway_pb2 as pb
from tests.contract.gateway.conftest import Gateway, MakeGateway, Reply
from tests.fakes.llm_provider import Answer, ScriptedProvider, ToolUse

NOW = pb.Tool(name="now", description="Tells the time.", parameters_json='{"properties":{"zone":{"type":"string"}}}')
ADD = pb.Tool(name="add", description="Adds.")
USER = pb.PromptMessage(role=pb.ROLE_USER, text="What time is it?")
ENVIRON: dict[str, Callable[[str], dict[str, str]]] = {
    "openai": lambda url: {"OPENAI_API_KEY": "k", "OPENAI_BASE_URL": f"{url}/v1"},
    "anthropic": lambda url: {"ANTHROPIC_API_KEY": "k", "ANTHROPIC_BASE_URL": url},
    "ollama": lambda url: {"OLLAMA_API_BASE": url},
}


@pytest.fixture(params=["openai", "anthropic"])
def wire(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
async def gateway(make_gateway: MakeGateway, provider: ScriptedProvider, wire: str) -> Gateway:
    return await make_gateway(ENVIRON[wire](provider.base_url))


async def test_tools_are_offered_in_the_wire_s_words(gateway: Gateway, wire: str) -> None:
    await gateway.chat(tools=[NOW, ADD])

    schemas = [
        {"type": "object", "properties": {"zone": {"type": "string"}}},
        {"type": "object", "properties": {}},
    ]
    tools = gateway.provider.requests[0].body["tools"]
    if wire == "openai":
        tools = [tool["function"] for tool in tools if tool["type"] == "function"]
    assert [(tool["name"], tool["description"]) for tool in tools] == [("now", "Tells the time."), ("add", "Adds.")]
    assert [tool["parameters" if wire == "openai" else "input_schema"] for tool in tools] == schemas


async def test_parallel_calls_come_apart_whole(gateway: Gateway) -> None:
    first, second = '{"zone": "Europe/Zürich"}', '{"of": [1, 2, {"deep": "👋🏽"}]}'
    gateway.provider.script(
        Answer(text="Let me see.", tools=[ToolUse("now", first), ToolUse("add", second)], split_bytes=7)
    )

    reply = await gateway.chat(tools=[NOW, ADD])

    assert reply.text == "Let me see."
    assert [(name, arguments) for _, name, arguments in reply.calls.values()] == [("now", first), ("add", second)]
    assert len({id_ for id_, _, _ in reply.calls.values()}) == 2
    assert _reason(reply) == pb.FINISH_REASON_TOOL_CALLS


async def test_arguments_come_as_the_model_writes_them(gateway: Gateway) -> None:
    """A long argument is seen growing, not at its end."""
    arguments = json.dumps({"text": "word " * 200})
    gateway.provider.script(Answer(text="", tools=[ToolUse("now", arguments)], delay_s=0.001))

    reply = await gateway.chat(tools=[NOW])

    pieces = [delta for response in reply.responses for delta in response.deltas if delta.HasField("tool_call")]
    assert len(pieces) > 10
    assert reply.calls[0][2] == arguments


@pytest.mark.parametrize("broken", ['{"zone": ', "noon", "[1]", '{"zone": NaN}'])
async def test_broken_arguments_are_passed_on_as_they_are(gateway: Gateway, broken: str) -> None:
    gateway.provider.script(Answer(text="", tools=[ToolUse("now", broken)]))

    reply = await gateway.chat(tools=[NOW])

    assert reply.calls[0][1:] == ("now", broken)


async def test_a_call_without_arguments_gets_an_empty_object(gateway: Gateway) -> None:
    gateway.provider.script(Answer(text="", tools=[ToolUse("now", ""), ToolUse("add", '{"a":1}'), ToolUse("now", "")]))

    reply = await gateway.chat(tools=[NOW, ADD])

    assert [arguments for _, _, arguments in reply.calls.values()] == ["{}", '{"a":1}', "{}"]


async def test_what_was_called_and_answered_is_spelt_in_the_wire_s_words(gateway: Gateway, wire: str) -> None:
    calls = [pb.ToolCall(id="c1", name="now", arguments_json='{"zone":"UTC"}'), pb.ToolCall(id="c2", name="add")]

    await gateway.chat(messages=_after(*calls, text="Let me see."), tools=[NOW, ADD])

    sent = gateway.provider.requests[0].body["messages"][1:]
    if wire == "openai":
        assert sent[0]["content"] == "Let me see."
        assert [(c["id"], c["function"]["name"], c["function"]["arguments"]) for c in sent[0]["tool_calls"]] == [
            ("c1", "now", '{"zone":"UTC"}'),
            ("c2", "add", "{}"),
        ]
        assert [(m["role"], m["tool_call_id"], m["content"]) for m in sent[1:]] == [
            ("tool", "c1", "result 0"),
            ("tool", "c2", "result 1"),
        ]
    else:
        assert sent[0]["content"] == [
            {"type": "text", "text": "Let me see."},
            {"type": "tool_use", "id": "c1", "name": "now", "input": {"zone": "UTC"}},
            {"type": "tool_use", "id": "c2", "name": "add", "input": {}},
        ]
        # All results of one step in one message: that is what the wire demands.
        assert [(part["type"], part["tool_use_id"], part["content"]) for part in sent[1]["content"]] == [
            ("tool_result", "c1", "result 0"),
            ("tool_result", "c2", "result 1"),
        ]


@pytest.mark.parametrize("broken", ['{"zone": ', "[1]", "[" * 100_000])
async def test_broken_arguments_do_not_end_the_conversation(gateway: Gateway, wire: str, broken: str) -> None:
    """A model that is told of its mistake is shown it, in the object that every wire wants."""
    await gateway.chat(messages=_after(pb.ToolCall(id="c1", name="now", arguments_json=broken)), tools=[NOW])

    called = gateway.provider.requests[0].body["messages"][1]
    shown = (
        json.loads(called["tool_calls"][0]["function"]["arguments"])
        if wire == "openai"
        else called["content"][0]["input"]
    )
    assert shown == {"not_a_json_object": broken}


async def test_an_id_that_the_prompt_has_used_is_not_given_out_again(gateway: Gateway) -> None:
    gateway.provider.script(Answer(text="", tools=[ToolUse("now", id="call_0")]))
    used = pb.ToolCall(id="call_0", name="now", arguments_json="{}")

    reply = await gateway.chat(messages=_after(used), tools=[NOW])

    assert reply.calls[0][0] not in {"", "call_0"}


async def test_where_tools_are_withheld_the_model_answers(gateway: Gateway, wire: str) -> None:
    """The last step of a turn offers none, with calls in the prompt; a model that calls one nevertheless has just stopped."""
    gateway.provider.script(Answer(text="It is noon.", tools=[ToolUse("now")]))

    reply = await gateway.chat(messages=_after(pb.ToolCall(id="c1", name="now", arguments_json="{}")))

    assert (reply.text, reply.calls, _reason(reply)) == ("It is noon.", {}, pb.FINISH_REASON_STOP)
    if wire == "anthropic":
        # Its wire refuses such a prompt without any tool, so there is one, which must not be called.
        assert gateway.provider.requests[0].body["tool_choice"] == {"type": "none"}
    else:
        assert "tools" not in gateway.provider.requests[0].body


async def test_without_a_word_on_usage_it_is_estimated(gateway: Gateway) -> None:
    gateway.provider.script(Answer(text="", tools=[ToolUse("now", '{"zone":"Europe/Zürich"}')], usage=None))

    reply = await gateway.chat(tools=[NOW])

    assert reply.finished is not None
    usage = reply.finished.usage
    assert usage.estimated
    assert usage.input_tokens > 0
    assert usage.output_tokens > 0


async def test_a_turn_of_two_steps(gateway: Gateway) -> None:
    """What is streamed of a call can be handed back as it is."""
    gateway.provider.script(Answer(text="", tools=[ToolUse("now", "")]), match="time", step=0)
    gateway.provider.script(Answer(text="Noon."), match="time", step=1)

    first = await gateway.chat(tools=[NOW])
    id_, name, arguments = first.calls[0]
    prompt = _after(pb.ToolCall(id=id_, name=name, arguments_json=arguments))
    second = await gateway.chat(messages=prompt, tools=[NOW])

    assert second.text == "Noon."


async def _models(gateway: Gateway) -> dict[str, bool]:
    return {model.name: model.tools for model in await gateway.models()}


async def test_models_tell_whether_they_call_tools(make_gateway: MakeGateway, provider: ScriptedProvider) -> None:
    """Known models do; of unknown ones at an address of the operator's own nobody knows, and a wrong yes fails every answer."""
    openai = await _models(await make_gateway(ENVIRON["openai"](provider.base_url)))
    vllm = await _models(await make_gateway({}, compatible={"vllm": f"{provider.base_url}/v1"}))

    assert openai == {
        "fast": True,
        "power": True,
        "openai/gpt-4o": True,
        "openai/gpt-4o-mini": True,
        "openai/scripted": False,
    }
    assert not any(vllm.values())


async def test_the_demo_calls_tools(make_gateway: MakeGateway, provider: ScriptedProvider) -> None:
    demo = await _models(await make_gateway({}, demo_base_url=f"{provider.base_url}/v1"))

    assert demo["demo/scripted"]


async def test_an_ollama_tells_of_each_model(make_gateway: MakeGateway, provider: ScriptedProvider) -> None:
    models = await _models(await make_gateway(ENVIRON["ollama"](provider.base_url)))

    assert models["ollama/llama3.2:latest"]


async def test_the_operator_knows_better(make_gateway: MakeGateway, provider: ScriptedProvider) -> None:
    told: dict[str, Any] = {"tools": {"vllm": True, "vllm/gpt-4o": False, "nobody": True}}
    with structlog.testing.capture_logs() as lines:
        models = await _models(await make_gateway({}, compatible={"vllm": f"{provider.base_url}/v1"}, **told))

    assert (models["vllm/scripted"], models["vllm/gpt-4o"], models["fast"]) == (True, False, True)
    assert [line["name"] for line in lines if line["event"] == "tools_not_used"] == ["nobody"]


def _after(*calls: pb.ToolCall, text: str = "") -> list[pb.PromptMessage]:
    """A prompt after one step: each call has its result."""
    results = [
        pb.PromptMessage(role=pb.ROLE_TOOL, tool_call_id=call.id, text=f"result {place}")
        for place, call in enumerate(calls)
    ]
    return [USER, pb.PromptMessage(role=pb.ROLE_ASSISTANT, text=text, tool_calls=calls), *results]


def _reason(reply: Reply) -> int:
    assert reply.finished is not None
    return reply.finished.reason
