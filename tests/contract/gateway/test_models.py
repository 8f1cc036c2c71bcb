"""Which names a call may use, and what they stand for."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from typing import Any

import pytest
import structlog
from structlog.typing import EventDict

from runtime import errors
from services.gateway.composition import assemble
from services.gateway.config import GatewayConfig
from services.gateway.providers.bridge import Bridge
from tests.contract.gateway.conftest import Gateway, MakeGateway
from tests.fakes.llm_provider import ScriptedProvider


async def test_aliases_come_first_and_everything_is_in_order(gateway: Gateway) -> None:
    names = [(model.name, model.alias) for model in await gateway.models()]

    assert names == [
        ("fast", True),
        ("power", True),
        ("openai/gpt-4o", False),
        ("openai/gpt-4o-mini", False),
        ("openai/scripted", False),
    ]


async def test_an_alias_tells_its_target_and_its_limits(gateway: Gateway) -> None:
    [fast] = [model for model in await gateway.models() if model.name == "fast"]

    assert (fast.provider, fast.provider_model, fast.default) == ("openai", "gpt-4o-mini", True)
    assert (fast.context_window_tokens, fast.max_output_tokens) == (128_000, 16_384)


@pytest.mark.parametrize(
    ("name", "model"),
    [
        ("", "gpt-4o-mini"),
        ("fast", "gpt-4o-mini"),
        ("gpt-4o", "gpt-4o"),
        ("openai/gpt-4o", "gpt-4o"),
        ("openai/not-listed:2026", "not-listed:2026"),
    ],
)
async def test_a_call_may_name_nothing_an_alias_a_model_or_a_provider_s_model(
    gateway: Gateway, name: str, model: str
) -> None:
    reply = await gateway.chat(model=name)

    assert gateway.provider.requests[0].body["model"] == model
    assert reply.started is not None
    assert reply.started.model == model


@pytest.mark.parametrize("name", ["nonsense", "nobody/gpt-4o", "openai/", "/gpt-4o"])
async def test_an_unknown_name_is_not_found(gateway: Gateway, name: str) -> None:
    with pytest.raises(errors.NotFound) as raised:
        await gateway.chat(model=name)

    assert raised.value.code == "MODEL_NOT_FOUND"
    assert not gateway.provider.requests


async def test_settings_add_aliases_models_and_the_default(make_gateway: MakeGateway) -> None:
    gateway = await make_gateway(
        aliases={"fast": "openai/scripted", "cheap": "gpt-4o"},
        models=("openai/extra", "nobody/x"),
        default_model="cheap",
    )

    models = {model.name: model for model in await gateway.models()}

    assert models["fast"].provider_model == "scripted"
    assert models["cheap"].provider_model == "gpt-4o"
    assert models["cheap"].default
    assert not models["fast"].default
    assert "openai/extra" in models
    assert "nobody/x" not in models


@pytest.mark.parametrize("default", ["gpt-4o", "openai/gpt-4o"])
async def test_a_model_may_be_the_default(make_gateway: MakeGateway, default: str) -> None:
    gateway = await make_gateway(default_model=default)

    await gateway.chat()

    assert gateway.provider.requests[0].body["model"] == "gpt-4o"
    assert [model.name for model in await gateway.models() if model.default] == ["openai/gpt-4o"]


async def test_an_alias_without_a_model_is_left_out(make_gateway: MakeGateway) -> None:
    gateway = await make_gateway(aliases={"power": "anthropic/claude-sonnet-5"})

    assert "power" not in {model.name for model in await gateway.models()}
    with pytest.raises(errors.NotFound):
        await gateway.chat(model="power")


async def test_without_any_provider_a_call_says_what_to_set(make_gateway: MakeGateway) -> None:
    gateway = await make_gateway({})

    assert await gateway.models() == []
    with pytest.raises(errors.FailedPrecondition) as raised:
        await gateway.chat()
    assert raised.value.code == "NO_PROVIDER_CONFIGURED"
    assert "OPENAI_API_KEY" in raised.value.message


async def test_the_demo_provider_answers_when_there_is_no_other(
    make_gateway: MakeGateway, provider: ScriptedProvider
) -> None:
    alone = await make_gateway({}, demo_base_url=f"{provider.base_url}/v1")
    beside = await make_gateway(demo_base_url=f"{provider.base_url}/v1")

    assert {model.provider for model in await alone.models()} == {"demo"}
    assert {model.provider for model in await beside.models()} == {"openai"}


async def test_an_ollama_that_does_not_answer_is_none(make_gateway: MakeGateway, provider: ScriptedProvider) -> None:
    gateway = await make_gateway(
        {"OLLAMA_API_BASE": "http://127.0.0.1:9"}, demo_base_url=f"{provider.base_url}/v1", discovery_timeout_s=0.5
    )

    assert {model.provider for model in await gateway.models()} == {"demo"}


async def test_an_ollama_tells_its_models_and_their_windows(
    make_gateway: MakeGateway, provider: ScriptedProvider
) -> None:
    gateway = await make_gateway({"OLLAMA_API_BASE": provider.base_url})

    models = {model.name: model for model in await gateway.models()}

    assert models["ollama/llama3.2:latest"].context_window_tokens == 8192
    assert models["fast"].provider_model == "llama3.2:latest"


async def test_a_server_that_does_not_list_its_models_can_still_be_called(
    make_gateway: MakeGateway, provider: ScriptedProvider
) -> None:
    gateway = await make_gateway({}, compatible={"vllm": f"{provider.base_url}/no-such-path"})

    with pytest.raises(errors.NotFound) as unknown:
        await gateway.chat()
    reply = await gateway.chat(model="vllm/any-model")

    assert unknown.value.code == "MODEL_NOT_FOUND"
    assert reply.finished is not None


async def test_a_server_that_starts_beside_the_gateway_is_waited_for(make_gateway: MakeGateway) -> None:
    with socket.socket() as reserved:
        reserved.bind(("127.0.0.1", 0))
        port = reserved.getsockname()[1]
    waited_for: asyncio.Queue[str] = asyncio.Queue()

    def notice(_: object, __: str, event: EventDict) -> EventDict:
        if event["event"] == "waiting_for_provider":
            waited_for.put_nowait(event["provider"])
        return event

    with structlog.testing.capture_logs(processors=[notice]):
        starting = asyncio.ensure_future(
            make_gateway({}, demo_base_url=f"http://127.0.0.1:{port}/v1", discovery_timeout_s=10)
        )
        # The server is started only once a look for it has failed.
        assert await asyncio.wait_for(waited_for.get(), 10) == "demo"
        async with ScriptedProvider(port=port):
            gateway = await starting

    assert "demo/gpt-4o" in {model.name for model in await gateway.models()}


@pytest.mark.parametrize(
    ("asked", "sent"),
    [(0, 4096), (100, 100), (1_000_000, 16_384)],
)
async def test_an_answer_is_limited_by_the_call_the_gateway_and_the_model(
    gateway: Gateway, asked: int, sent: int
) -> None:
    await gateway.chat(max_output_tokens=asked)

    assert gateway.provider.requests[0].body["max_tokens"] == sent


async def test_a_call_that_comes_while_the_gateway_starts_is_told_to_wait(provider: ScriptedProvider) -> None:
    environ = {"OPENAI_API_KEY": "k"}
    async with contextlib.AsyncExitStack() as stack:
        settings: dict[str, Any] = {"listen": "", "auth_address": ""}
        _, registry = await assemble(GatewayConfig(**settings), environ, Bridge(), stack)

        with pytest.raises(errors.Unavailable):
            registry.resolve("")
        assert registry.listed() == []
