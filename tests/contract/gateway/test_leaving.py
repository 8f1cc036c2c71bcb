"""Whoever leaves is let go at once, whatever the provider thinks of it."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator
from typing import Any

import pytest
import structlog

from services.gateway.domain import Call, Message, ModelLimits, Role, Timeouts
from services.gateway.providers.bridge import Bridge
from services.gateway.providers.provider import Provider, Wire
from services.gateway.providers.tail import TailDeployment
from tests.contract.gateway.conftest import MakeGateway
from tests.fakes.llm_provider import Answer, ScriptedProvider

ENDLESS = Answer(chunks=["on "] * 10_000, delay_s=0.01, deaf=True)


@pytest.mark.parametrize("name", ["openai", "anthropic", "bedrock"])
async def test_a_provider_that_does_not_hear_goodbye_keeps_nobody(
    make_gateway: MakeGateway, provider: ScriptedProvider, name: str
) -> None:
    """It goes on writing into a connection that is closed on our side."""
    url = provider.base_url
    environ = {
        "openai": {"OPENAI_API_KEY": "k", "OPENAI_BASE_URL": f"{url}/v1"},
        "anthropic": {"ANTHROPIC_API_KEY": "k", "ANTHROPIC_BASE_URL": url},
        "bedrock": {
            "AWS_ACCESS_KEY_ID": "AKIATEST",
            "AWS_SECRET_ACCESS_KEY": "secret",
            "AWS_REGION": "us-east-1",
            "AWS_BEDROCK_RUNTIME_ENDPOINT": url,
        },
    }[name]
    gateway = await make_gateway(environ)
    provider.script(ENDLESS)

    async with gateway.responses() as responses:
        await anext(responses)
    await provider.until(lambda: provider.closed_early)
    assert (await gateway.chat()).finished is not None


class Swallowing(Bridge):
    """A bridge whose stream takes no notice of being cancelled until it is let go."""

    def __init__(self) -> None:
        super().__init__()
        self.let_go = asyncio.Event()
        self.ended = asyncio.Event()

    async def open(self, *_: Any, **__: Any) -> AsyncGenerator[Any, None]:
        while not self.let_go.is_set():
            with contextlib.suppress(asyncio.CancelledError):
                await self.let_go.wait()
        self.ended.set()
        nothing: tuple[Any, ...] = ()
        for chunk in nothing:
            yield chunk


async def test_a_library_that_swallows_the_goodbye_keeps_nobody_either() -> None:
    """Its stream is left behind and told of; it ends by itself."""
    bridge = Swallowing()
    source = Provider(name="slow", system="slow", dialect="bedrock", wire=Wire.LITELLM)
    deployment = TailDeployment(source, "m", True, ModelLimits(), Timeouts(), bridge)
    call = Call("m", (Message(Role.USER, "?"),))

    with structlog.testing.capture_logs() as lines:
        async with contextlib.aclosing(deployment.prepare(call, max_output_tokens=1)()) as batches:
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.05):
                    await anext(batches)

    assert [line["provider"] for line in lines if line["event"] == "upstream_not_closed"] == ["slow"]
    assert not bridge.ended.is_set()
    bridge.let_go.set()
    await asyncio.wait_for(bridge.ended.wait(), 10)
