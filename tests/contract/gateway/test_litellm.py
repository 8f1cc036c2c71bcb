"""What we need of litellm's inner interface: these fail when a new version changes it."""

from __future__ import annotations

import logging
import subprocess
import sys
from dataclasses import dataclass, replace
from typing import Any

import pytest

from services.gateway.domain import Call, Counts, Message, ModelLimits, Role, Timeouts, Tool, ToolCall
from services.gateway.failures import AttemptFailed
from services.gateway.providers import environment
from services.gateway.providers.bridge import Bridge
from services.gateway.providers.frames import Frames
from services.gateway.providers.provider import Provider
from services.gateway.providers.tail import TailDeployment
from tests.fakes.http_server import Exchange, HttpServer

CALL = Call(
    model="",
    messages=(
        Message(Role.SYSTEM, "Be brief."),
        Message(Role.USER, "Time?"),
        Message(Role.ASSISTANT, tool_calls=(ToolCall("c1", "now", '{"zone":"UTC"}'),)),
        Message(Role.TOOL, "noon", tool_call_id="c1"),
    ),
    tools=(Tool("now", "Tells the time.", '{"properties":{"zone":{"type":"string"}}}'),),
    temperature=0.5,
    stop=("END",),
)
SCHEMA = {"type": "object", "properties": {"zone": {"type": "string"}}}
OPENAI_MESSAGES = [
    {"role": "system", "content": "Be brief."},
    {"role": "user", "content": "Time?"},
    {
        "role": "assistant",
        "content": None,
        "tool_calls": [{"id": "c1", "type": "function", "function": {"name": "now", "arguments": '{"zone":"UTC"}'}}],
    },
    {"role": "tool", "content": "noon", "tool_call_id": "c1"},
]
OPENAI_BODY = {
    "messages": OPENAI_MESSAGES,
    "stream": True,
    "stream_options": {"include_usage": True},
    "max_tokens": 50,
    "temperature": 0.5,
    "stop": ["END"],
    "tools": [
        {"type": "function", "function": {"name": "now", "description": "Tells the time.", "parameters": SCHEMA}}
    ],
}
ENVIRON = {
    "OPENAI_API_KEY": "key-o",
    "ANTHROPIC_API_KEY": "key-a",
    "AZURE_API_KEY": "key-z",
    "AZURE_API_BASE": "https://az.example",
    "AZURE_API_VERSION": "2024-10-21",
    "OPENROUTER_API_KEY": "key-r",
    "AWS_ACCESS_KEY_ID": "a",
    "AWS_SECRET_ACCESS_KEY": "s",
    "AWS_REGION": "us-east-1",
    "OLLAMA_API_BASE": "http://ollama.example:11434",
    "GEMINI_API_KEY": "k",
    "MISTRAL_API_KEY": "k",
    "DEEPSEEK_API_KEY": "k",
    "XAI_API_KEY": "k",
    "GROQ_API_KEY": "k",
}
FOUND = {p.name: p for p in environment.find(ENVIRON, compatible={"vllm": "http://v.example/v1"}, ollama_probe=False)}


@dataclass(frozen=True)
class Spelt:
    """A request as a provider wants it."""

    provider: str
    url: str
    headers: dict[str, str]
    body: dict[str, Any]


EXPECTED = [
    Spelt(
        "openai",
        "https://api.openai.com/v1/chat/completions",
        {"Authorization": "Bearer key-o"},
        {"model": "gpt-4o-mini", **OPENAI_BODY},
    ),
    Spelt(
        "azure",
        "https://az.example/openai/deployments/our%20deployment/chat/completions?api-version=2024-10-21",
        {"api-key": "key-z"},
        {"model": "our deployment", **OPENAI_BODY},
    ),
    Spelt(
        "openrouter",
        "https://openrouter.ai/api/v1/chat/completions",
        {"Authorization": "Bearer key-r"},
        {"model": "meta-llama/llama-3.3-70b-instruct", **OPENAI_BODY, "usage": {"include": True}},
    ),
    Spelt(
        "vllm",
        "http://v.example/v1/chat/completions",
        {},
        {"model": "any-model", **OPENAI_BODY},
    ),
    Spelt(
        "anthropic",
        "https://api.anthropic.com/v1/messages",
        {"x-api-key": "key-a", "anthropic-version": "2023-06-01"},
        {
            "model": "claude-haiku-4-5",
            "system": [{"type": "text", "text": "Be brief."}],
            "messages": [
                {"role": "user", "content": [{"type": "text", "text": "Time?"}]},
                {
                    "role": "assistant",
                    "content": [{"type": "tool_use", "id": "c1", "name": "now", "input": {"zone": "UTC"}}],
                },
                {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "c1", "content": "noon"}]},
            ],
            "tools": [{"name": "now", "description": "Tells the time.", "input_schema": SCHEMA, "type": "custom"}],
            "stream": True,
            "max_tokens": 50,
            "temperature": 0.5,
            "stop_sequences": ["END"],
        },
    ),
    Spelt(
        "ollama",
        "http://ollama.example:11434/api/chat",
        {},
        {
            "model": "llama3.2",
            "messages": [
                {"role": "system", "content": "Be brief.", "images": []},
                {"role": "user", "content": "Time?", "images": []},
                {
                    "role": "assistant",
                    "content": "",
                    "images": [],
                    "tool_calls": [{"function": {"name": "now", "arguments": {"zone": "UTC"}}}],
                },
                {"role": "tool", "content": "noon", "images": [], "tool_call_id": "c1"},
            ],
            "options": {"num_predict": 50, "temperature": 0.5, "stop": ["END"]},
            "stream": True,
            "tools": OPENAI_BODY["tools"],
        },
    ),
]


@pytest.mark.parametrize("spelt", EXPECTED, ids=lambda spelt: spelt.provider)
def test_a_request_is_spelt_to_the_letter(bridge: Bridge, spelt: Spelt) -> None:
    request = bridge.request(FOUND[spelt.provider], str(spelt.body["model"]), CALL, max_output_tokens=50)

    assert request.url == spelt.url
    assert spelt.headers.items() <= request.headers.items()
    assert {"content-type", "Content-Type"} & set(request.headers)
    assert request.body == spelt.body
    if "Authorization" not in spelt.headers:
        assert "Authorization" not in request.headers


ALIKE = [
    replace(CALL, tools=(), stop=()),
    Call(model="", messages=(Message(Role.USER, "And now?"),), temperature=0.5),
    Call(model="", messages=(Message(Role.USER, "And now?"), Message(Role.ASSISTANT, "Ten."))),
    Call(model="", messages=(Message(Role.USER, "Hm."),), seed=7, top_p=0.5, reasoning_effort="low"),
    Call(model="", messages=tuple(Message(role, " hm ") for role in (Role.USER, Role.SYSTEM, Role.USER, Role.USER))),
    Call(model="", messages=(Message(Role.USER, "Hm."),), temperature=0.5, stop=("END",)),
    CALL,
]


@pytest.mark.parametrize("spelt", EXPECTED, ids=lambda spelt: spelt.provider)
def test_a_call_is_spelt_the_same_whatever_was_asked_before(bridge: Bridge, spelt: Spelt) -> None:
    provider, model, frames = FOUND[spelt.provider], str(spelt.body["model"]), Frames()
    for call in [*ALIKE, *reversed(ALIKE)]:
        for most in (50, 60):
            remembering = bridge.request(provider, model, call, max_output_tokens=most, frames=frames)
            assert remembering == bridge.request(provider, model, call, max_output_tokens=most)


def test_what_calls_of_a_model_have_in_common_is_spelt_once(bridge: Bridge) -> None:
    frames = Frames()
    first, second = (
        bridge.request(FOUND["openai"], "gpt-4o-mini", call, max_output_tokens=50, frames=frames) for call in ALIKE[:2]
    )

    assert first.headers is second.headers
    assert first.body["messages"] != second.body["messages"]


def test_a_reasoning_model_s_limit_has_its_own_name(bridge: Bridge) -> None:
    body = bridge.request(FOUND["openai"], "gpt-5.2", CALL, max_output_tokens=50).body

    assert body["max_completion_tokens"] == 50
    assert "max_tokens" not in body


# OpenRouter tells the price with each answer.
PROPOSING = [p for p in FOUND.values() if p.models and p.priced and p.name != "openrouter"]


@pytest.mark.parametrize("provider", PROPOSING, ids=lambda provider: provider.name)
def test_the_models_we_propose_are_known(bridge: Bridge, provider: Provider) -> None:
    for model in provider.models:
        assert bridge.limits(provider, model).context_window_tokens > 0, model
        assert (bridge.price(provider, model, Counts(1000, 1000)) or 0) > 0, model


def test_what_is_not_known_has_neither_price_nor_limit(bridge: Bridge) -> None:
    limits = bridge.limits(FOUND["openai"], "home-made")

    assert (limits.context_window_tokens, limits.max_output_tokens) == (0, 0)
    assert bridge.price(FOUND["openai"], "home-made", Counts(1, 1)) is None


def test_what_goes_into_the_cache_and_comes_from_it_has_its_price(bridge: Bridge) -> None:
    def price(**counts: int) -> float:
        return bridge.price(FOUND["anthropic"], "claude-haiku-4-5", Counts(1000, 0, **counts)) or 0

    assert price(cached_tokens=1000) < price() < price(cache_write_tokens=1000)


def test_its_own_log_handlers_are_gone(bridge: Bridge) -> None:
    assert bridge is not None
    for name in ("LiteLLM", "LiteLLM Router", "LiteLLM Proxy"):
        assert logging.getLogger(name).handlers == []


def test_nothing_imports_it_before_the_process_listens() -> None:
    code = "import sys, services.gateway.main; sys.exit('litellm' in sys.modules)"

    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize("dialect", ["gemini", "mistral", "groq", "xai", "deepseek"])
async def test_redirects_are_not_followed(bridge: Bridge, dialect: str) -> None:
    """They would carry the prompt, and Gemini's key, to wherever they point."""
    elsewhere: list[str] = []

    async def answer(exchange: Exchange) -> None:
        elsewhere.append(exchange.request.path)
        await exchange.reply(200, b"{}", "application/json")

    async def point(exchange: Exchange) -> None:
        await exchange.reply(307, b"", "text/plain", {"location": f"http://localhost:{other.port}/"})

    async with (
        HttpServer(answer, port=0, changed=lambda: None) as other,
        HttpServer(point, port=0, changed=lambda: None) as first,
    ):
        source = replace(FOUND[dialect], base_url=f"http://127.0.0.1:{first.port}")
        deployment = TailDeployment(source, "m", True, ModelLimits(), Timeouts(), bridge)
        with pytest.raises(AttemptFailed):
            async for _ in deployment.prepare(CALL, max_output_tokens=5)():
                pass
    assert not elsewhere
