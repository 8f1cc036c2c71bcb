"""Every provider's wire, end to end: gRPC in, HTTP out, and the answer back."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest

from parley.gateway.v1 import gateway_pb2 as pb
from tests.contract.gateway.conftest import MakeGateway
from tests.fakes.llm_provider import Answer, Request, ScriptedProvider, ToolUse, UsageReport

NOW = pb.Tool(
    name="now",
    description="Tells the time.",
    parameters_json='{"type":"object","properties":{"zone":{"type":"string"}}}',
)
AFTER_A_TOOL = [
    pb.PromptMessage(role=pb.ROLE_SYSTEM, text="Be brief."),
    pb.PromptMessage(role=pb.ROLE_USER, text="What time is it?"),
    pb.PromptMessage(
        role=pb.ROLE_ASSISTANT, tool_calls=[pb.ToolCall(id="call_1", name="now", arguments_json='{"zone":"UTC"}')]
    ),
    pb.PromptMessage(role=pb.ROLE_TOOL, tool_call_id="call_1", text="noon"),
]


@dataclass(frozen=True)
class Case:
    """A provider: how it is configured, called and recognised."""

    environ: Callable[[str], dict[str, str]]
    model: str
    provider: str
    path: str
    key: tuple[str, str]
    query: str = ""
    settings: Callable[[str], dict[str, Any]] = lambda _: {}
    caches: bool = True


CASES = {
    "openai": Case(
        lambda url: {"OPENAI_API_KEY": "key-o", "OPENAI_BASE_URL": f"{url}/v1"},
        "openai/gpt-4o-mini",
        "openai",
        "/v1/chat/completions",
        ("authorization", "Bearer key-o"),
    ),
    "anthropic": Case(
        lambda url: {"ANTHROPIC_API_KEY": "key-a", "ANTHROPIC_BASE_URL": url},
        "anthropic/claude-haiku-4-5",
        "anthropic",
        "/v1/messages",
        ("x-api-key", "key-a"),
    ),
    "azure": Case(
        lambda url: {"AZURE_API_KEY": "key-z", "AZURE_API_BASE": url, "AZURE_API_VERSION": "2024-10-21"},
        "azure/our-deployment",
        "azure.ai.openai",
        "/openai/deployments/our-deployment/chat/completions",
        ("api-key", "key-z"),
        query="api-version=2024-10-21",
    ),
    "openrouter": Case(
        lambda url: {"OPENROUTER_API_KEY": "key-r", "OPENROUTER_API_BASE": f"{url}/api/v1"},
        "openrouter/meta-llama/llama-3.3-70b-instruct",
        "openrouter",
        "/api/v1/chat/completions",
        ("authorization", "Bearer key-r"),
    ),
    "ollama": Case(
        lambda url: {"OLLAMA_API_BASE": url, "OLLAMA_API_KEY": "key-l"},
        "ollama/llama3.2:latest",
        "ollama",
        "/api/chat",
        ("authorization", "Bearer key-l"),
        caches=False,
    ),
    "bedrock": Case(
        lambda url: {
            "AWS_ACCESS_KEY_ID": "AKIATEST",
            "AWS_SECRET_ACCESS_KEY": "secret",
            "AWS_REGION": "us-east-1",
            "AWS_BEDROCK_RUNTIME_ENDPOINT": url,
        },
        "bedrock/amazon.nova-lite-v1:0",
        "aws.bedrock",
        "/model/amazon.nova-lite-v1%3A0/converse-stream",
        ("authorization", "AWS4-HMAC-SHA256 Credential=AKIATEST/"),
    ),
    "compatible": Case(
        lambda _: {"VLLM_API_KEY": "key-v"},
        "vllm/scripted",
        "vllm",
        "/v1/chat/completions",
        ("authorization", "Bearer key-v"),
        settings=lambda url: {"compatible": {"vllm": f"{url}/v1"}},
    ),
    "demo": Case(
        lambda _: {},
        "",
        "demo",
        "/v1/chat/completions",
        ("authorization", ""),
        settings=lambda url: {"demo_base_url": f"{url}/v1"},
    ),
}


@pytest.fixture(params=CASES, ids=str)
def case(request: pytest.FixtureRequest) -> Case:
    return CASES[request.param]


async def test_an_answer_comes_through_whole(case: Case, make_gateway: MakeGateway, provider: ScriptedProvider) -> None:
    gateway = await make_gateway(case.environ(provider.base_url), **case.settings(provider.base_url))
    usage = UsageReport(input_tokens=30, output_tokens=12, cached_tokens=20 if case.caches else 0)
    provider.script(
        Answer(
            text="Grüße, 世界 👋🏽!",
            reasoning="hm",
            tools=[ToolUse("now", '{"zone": "Europe/Zürich"}')],
            usage=usage,
            split_bytes=3,
        )
    )

    reply = await gateway.chat(model=case.model, tools=[NOW])

    assert reply.text == "Grüße, 世界 👋🏽!"
    assert reply.reasoning == "hm"
    [(id_, name, arguments)] = reply.calls.values()
    assert id_
    assert (name, json.loads(arguments)) == ("now", {"zone": "Europe/Zürich"})
    assert reply.started is not None
    assert reply.started.provider == case.provider
    assert reply.finished is not None
    assert reply.finished.reason == pb.FINISH_REASON_TOOL_CALLS
    counted = reply.finished.usage
    assert (counted.input_tokens, counted.output_tokens, counted.cached_tokens) == (30, 12, usage.cached_tokens)
    assert not counted.estimated


async def test_the_request_is_spelt_for_the_provider(
    case: Case, make_gateway: MakeGateway, provider: ScriptedProvider
) -> None:
    gateway = await make_gateway(case.environ(provider.base_url), **case.settings(provider.base_url))

    await gateway.chat(
        model=case.model, messages=AFTER_A_TOOL, tools=[NOW], temperature=0.5, max_output_tokens=77, stop=["END"]
    )

    [request] = provider.requests
    name, value = case.key
    assert (request.path, request.query) == (case.path, case.query)
    assert request.headers.get(name, "").startswith(value)
    spelt = json.dumps(request.body, ensure_ascii=False)
    for part in ("Be brief.", "What time is it?", "noon", "Tells the time.", "zone", "0.5", "77", "END"):
        assert part in spelt, part
    if case.provider != "ollama":
        assert spelt.count("call_1") == 2


async def test_the_key_of_one_provider_never_reaches_another(
    make_gateway: MakeGateway, provider: ScriptedProvider
) -> None:
    environ: dict[str, str] = {}
    settings: dict[str, Any] = {}
    cases = [case for name, case in CASES.items() if name != "demo"]
    for case in cases:
        environ |= case.environ(provider.base_url)
        settings |= case.settings(provider.base_url)
    gateway = await make_gateway(environ, **settings)

    for case in cases:
        await gateway.chat(model=case.model)

    for case, request in zip(cases, provider.requests, strict=True):
        others = {other.key[1].removeprefix("Bearer ") for other in cases if other is not case}
        assert not [value for value in others if value in str(_everything(request))], case.provider


def _everything(request: Request) -> tuple[object, ...]:
    return (request.path, request.query, request.headers, request.raw)
