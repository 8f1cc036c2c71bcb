"""The gateway on loopback, in front of a scripted provider that speaks every wire."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeAlias

import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from parley.gateway.v1 import gateway_pb2 as pb
from parley.gateway.v1 import gateway_pb2_grpc
from runtime.channel import open_channel, stream, unary
from runtime.mux.channel import MuxChannel
from runtime.testing import Issuer, loopback
from services.gateway.composition import assemble
from services.gateway.config import GatewayConfig
from services.gateway.providers.bridge import Bridge
from services.gateway.providers.registry import LiveRegistry
from tests.fakes.llm_provider import ScriptedProvider

# litellm stumbles over its own dependencies' deprecations; as errors they would become failures of the provider.
LITELLMS_WARNINGS = ("ignore:Accessing the 'model_", "ignore:Item 'summary' on TypedDict")

QUESTION = [pb.PromptMessage(role=pb.ROLE_USER, text="What time is it?")]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if Path(__file__).parent in item.path.parents:
            for warning in LITELLMS_WARNINGS:
                item.add_marker(pytest.mark.filterwarnings(warning))


@dataclass
class Reply:
    """What a call has answered so far.

    Attributes:
        responses: As they came.
        calls: Tool calls by place: id, name, arguments.
        begun_anew: The texts that were taken back.
    """

    responses: list[pb.ChatResponse] = field(default_factory=list)
    text: str = ""
    reasoning: str = ""
    calls: dict[int, tuple[str, str, str]] = field(default_factory=dict)
    started: pb.Started | None = None
    finished: pb.Finished | None = None
    begun_anew: list[str] = field(default_factory=list)
    logprobs: list[Any] = field(default_factory=list)

    def add(self, response: pb.ChatResponse) -> None:
        assert response.deltas, "an empty response"
        self.responses.append(response)
        for delta in response.deltas:
            assert self.finished is None, "a delta after the end"
            kind = delta.WhichOneof("kind")
            if kind != "reset":
                assert (kind == "started") == (self.started is None), "`started` comes first and once"
            if kind == "started":
                self.started = delta.started
            elif kind == "reset":
                self.begun_anew.append(self.text)
                self.text, self.reasoning, self.calls, self.started = "", "", {}, None
            elif kind == "logprobs_json":
                self.logprobs.append(json.loads(delta.logprobs_json))
            elif kind == "text":
                self.text += delta.text
            elif kind == "reasoning":
                self.reasoning += delta.reasoning
            elif kind == "tool_call":
                piece = delta.tool_call
                id_, name, arguments = self.calls.get(piece.index, ("", "", ""))
                self.calls[piece.index] = (id_ + piece.id, name + piece.name, arguments + piece.arguments_delta)
            else:
                self.finished = delta.finished


@dataclass
class Gateway:
    """The service and what a test does with it."""

    stub: gateway_pb2_grpc.GatewayServiceAsyncStub
    issuer: Issuer
    provider: ScriptedProvider
    registry: LiveRegistry
    address: str

    def request(self, **fields: Any) -> pb.ChatRequest:
        return pb.ChatRequest(**{"messages": QUESTION, **fields})

    def responses(self, **fields: Any) -> contextlib.aclosing[AsyncGenerator[pb.ChatResponse, None]]:
        """Opens a call; leaving the block cancels it."""
        answer: Any = stream(self.stub.Chat, self.request(**fields), timeout_s=20, token=self.issuer.token())
        return contextlib.aclosing(answer)

    async def chat(self, reply: Reply | None = None, **fields: Any) -> Reply:
        """Makes a call and returns its answer; what came before a failure is in `reply`."""
        reply = reply or Reply()
        async with self.responses(**fields) as responses:
            async for response in responses:
                reply.add(response)
        return reply

    async def models(self, *, embeddings: bool = False) -> list[pb.Model]:
        """Lists the models that answer, or those that make vectors."""
        answer: pb.ListModelsResponse = await unary(
            self.stub.ListModels, pb.ListModelsRequest(), timeout_s=5, token=self.issuer.token()
        )
        return [model for model in answer.models if model.embeddings == embeddings]


MakeGateway: TypeAlias = Callable[..., Awaitable[Gateway]]
"""`await make_gateway(environ, mux=…, **settings)`; without an environment: OpenAI's variables point to the scripted provider.

With `mux` the gateway is called over a shared connection.
"""


@pytest.fixture(scope="session")
async def bridge() -> Bridge:
    """litellm, loaded once: it takes seconds."""
    bridge = Bridge()
    await asyncio.to_thread(bridge.load, streams=True)
    return bridge


@pytest.fixture
async def provider() -> AsyncIterator[ScriptedProvider]:
    async with ScriptedProvider() as provider:
        yield provider


@pytest.fixture
async def make_gateway(bridge: Bridge, provider: ScriptedProvider) -> AsyncIterator[MakeGateway]:
    async with contextlib.AsyncExitStack() as stack:

        async def make(environ: dict[str, str] | None = None, *, mux: bool = False, **settings: Any) -> Gateway:
            if environ is None:
                environ = {"OPENAI_API_KEY": "sk-test", "OPENAI_BASE_URL": f"{provider.base_url}/v1"}
            defaults = {"listen": "", "auth_address": "", "ollama_probe": False, "retry_backoff_s": 0.01}
            servicers, registry = await assemble(GatewayConfig(**{**defaults, **settings}), environ, bridge, stack)
            await registry.load()
            issuer = Issuer()
            address = await stack.enter_async_context(
                loopback("gateway", *servicers, verifier=issuer.verifier("gateway"))
            )
            channel = await stack.enter_async_context(open_channel(address, pb.DESCRIPTOR, mux=mux))
            if isinstance(channel, MuxChannel):
                await channel.mux_ready()
            else:
                # gRPC remembers of an address that nobody was there, and this port may have been somebody else's a moment ago.
                await channel.channel_ready()
            return Gateway(gateway_pb2_grpc.GatewayServiceStub(channel), issuer, provider, registry, address)

        yield make


@pytest.fixture
async def gateway(make_gateway: MakeGateway) -> Gateway:
    """A gateway whose only provider is OpenAI, played by the scripted one."""
    return await make_gateway()


@pytest.fixture
def spans() -> InMemorySpanExporter:
    """What has been traced since the test began."""
    exporter = InMemorySpanExporter()
    if not isinstance(trace.get_tracer_provider(), TracerProvider):
        trace.set_tracer_provider(TracerProvider())
    provider = trace.get_tracer_provider()
    assert isinstance(provider, TracerProvider)
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    return exporter
