"""A gateway that answers by script, over the real contract: what a model says is the only thing these tests make up."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

from parley.gateway.v1 import gateway_pb2 as pb
from parley.gateway.v1 import gateway_pb2_grpc
from runtime.errors import NotFound, ParleyError

MODEL = "scripted-model"


@dataclass
class Gate:
    """Holds the answer until the test opens it; `reached` tells that the answer has come so far."""

    reached: asyncio.Event = field(default_factory=asyncio.Event)
    opened: asyncio.Event = field(default_factory=asyncio.Event)

    def open(self) -> None:
        self.opened.set()


@dataclass(frozen=True)
class Think:
    """A piece of reasoning."""

    text: str


@dataclass(frozen=True)
class Call:
    """The model calls a tool; the answer ends with its calls."""

    name: str
    arguments: str = "{}"
    id: str = "call_1"


def finished(reason: pb.FinishReason.ValueType = pb.FINISH_REASON_STOP, *, output_tokens: int = 7) -> pb.Finished:
    return pb.Finished(reason=reason, usage=pb.Usage(input_tokens=11, output_tokens=output_tokens, cost_usd=0.25))


class ScriptedGateway(gateway_pb2_grpc.GatewayServiceServicer):
    """Answers each call with the next script, or with a default one.

    Attributes:
        requests: What was asked.
        tokens: Credentials the calls came with.
        closed: Set when a caller has closed a call before its end.
    """

    def __init__(self) -> None:
        self.requests: list[pb.ChatRequest] = []
        self.tokens: list[str] = []
        self.closed = asyncio.Event()
        self.models = [
            pb.Model(
                name="fast",
                provider="openai",
                provider_model=MODEL,
                alias=True,
                default=True,
                context_window_tokens=16_000,
                tools=True,
            ),
            pb.Model(name=f"openai/{MODEL}", provider="openai", provider_model=MODEL, context_window_tokens=16_000),
            pb.Model(name="openai/plain-model", provider="openai", provider_model="plain-model"),
        ]
        self._scripts: deque[tuple[Any, ...]] = deque()

    def script(self, *steps: Any) -> None:
        """Sets the answer of the next call that has none: texts and lists of texts (one response each), gates, errors.

        An answer that does not end in an error or a `Finished` ends with a `Finished` of its own.
        """
        self._scripts.append(steps)

    def forget(self) -> None:
        """Returns to the beginning, for the next test."""
        self.requests.clear()
        self.tokens.clear()
        self.closed = asyncio.Event()
        self._scripts.clear()

    async def Chat(self, request: pb.ChatRequest, context: Any) -> AsyncIterator[pb.ChatResponse]:
        self.requests.append(request)
        self.tokens.append(dict(context.invocation_metadata()).get("authorization", "").removeprefix("Bearer "))
        steps = self._scripts.popleft() if self._scripts else ("Hello ", "from the script.")
        try:
            started = [pb.ChatDelta(started=pb.Started(provider="openai", model=MODEL))]
            if not steps or not isinstance(steps[0], str):  # which it comes together with, as the gateway has it
                if not steps or not isinstance(steps[0], ParleyError):
                    yield pb.ChatResponse(deltas=started)
                started = []
            calls = 0
            for step in steps:
                if isinstance(step, Call):
                    for delta in _pieces(calls, step):
                        yield pb.ChatResponse(deltas=[delta])
                    calls += 1
                elif isinstance(step, Gate):
                    step.reached.set()
                    await step.opened.wait()
                elif isinstance(step, ParleyError):
                    raise step
                elif isinstance(step, pb.Finished):
                    yield pb.ChatResponse(deltas=[pb.ChatDelta(finished=step)])
                    return
                else:
                    pieces = step if isinstance(step, list) else [step]
                    yield pb.ChatResponse(deltas=[*started, *map(_delta, pieces)])
                    started = []
            reason = pb.FINISH_REASON_TOOL_CALLS if calls else pb.FINISH_REASON_STOP
            yield pb.ChatResponse(deltas=[pb.ChatDelta(finished=finished(reason))])
        except (asyncio.CancelledError, GeneratorExit):
            self.closed.set()
            raise

    async def ListModels(self, request: pb.ListModelsRequest, context: Any) -> pb.ListModelsResponse:
        return pb.ListModelsResponse(models=self.models)

    async def GetModel(self, request: pb.GetModelRequest, context: Any) -> pb.GetModelResponse:
        provider, _, model = request.name.partition("/")
        if provider != "openai" and request.name not in {one.provider_model for one in self.models}:
            raise NotFound.of("MODEL_NOT_FOUND", "There is no model or alias of this name.")
        named = pb.Model(name=request.name, provider="openai", provider_model=model or provider)
        return pb.GetModelResponse(model=named)


def _delta(piece: str | Think) -> pb.ChatDelta:
    return pb.ChatDelta(reasoning=piece.text) if isinstance(piece, Think) else pb.ChatDelta(text=piece)


def _pieces(index: int, call: Call) -> list[pb.ChatDelta]:
    """Returns a call as providers send it: its name first, then its arguments in two halves."""
    half = len(call.arguments) // 2
    return [
        pb.ChatDelta(tool_call=pb.ToolCallDelta(index=index, id=call.id, name=call.name)),
        pb.ChatDelta(tool_call=pb.ToolCallDelta(index=index, arguments_delta=call.arguments[:half])),
        pb.ChatDelta(tool_call=pb.ToolCallDelta(index=index, arguments_delta=call.arguments[half:])),
    ]
