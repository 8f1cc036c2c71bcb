"""The gateway as the domain sees it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from parley.gateway.v1 import gateway_pb2, gateway_pb2_grpc
from runtime.channel import stream, unary
from services.chat.asking import (
    FinishReason,
    Model,
    ModelFinished,
    ModelStarted,
    ReasoningDelta,
    Role,
    TextDelta,
    ToolCall,
)
from services.chat.conversions import usage_of

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Sequence

    import grpc

    from services.chat.asking import Answering, ModelCall, ModelDelta, PromptMessage, Tap, ToolOffer

_PROMPT_ROLES = {
    Role.SYSTEM: gateway_pb2.ROLE_SYSTEM,
    Role.USER: gateway_pb2.ROLE_USER,
    Role.ASSISTANT: gateway_pb2.ROLE_ASSISTANT,
    Role.TOOL: gateway_pb2.ROLE_TOOL,
}
_FINISH_REASONS = {
    gateway_pb2.FINISH_REASON_LENGTH: FinishReason.LENGTH,
    gateway_pb2.FINISH_REASON_TOOL_CALLS: FinishReason.TOOL_CALLS,
    gateway_pb2.FINISH_REASON_CONTENT_FILTER: FinishReason.CONTENT_FILTER,
}
_TOOLBOXES_MAX = 16
"""How many are kept as the contract spells them: there is one for each role."""


class GatewayClient:
    """`Gateway` over gRPC.

    Args:
        channel: To the gateway.
        timeout_s: Longest wait for what is told of models.
    """

    def __init__(self, channel: grpc.aio.Channel, *, timeout_s: float) -> None:
        self._stub = gateway_pb2_grpc.GatewayServiceStub(channel)
        self._timeout_s = timeout_s
        self._tools: dict[tuple[ToolOffer, ...], list[gateway_pb2.Tool]] = {}

    def chat(self, call: ModelCall, *, token: str, tap: Tap | None = None) -> Answering:
        """Asks a model once it is iterated over; closing it closes the upstream connection."""
        pour = None if tap is None else _Pour(tap)
        return _Answering(stream(self._stub.Chat, self._request(call), token=token, tap=pour))

    async def list_models(self, *, token: str) -> Sequence[Model]:
        """Returns the models and aliases there are."""
        request = gateway_pb2.ListModelsRequest()
        response = await unary(self._stub.ListModels, request, timeout_s=self._timeout_s, token=token)
        return [_model(model) for model in response.models]

    async def get_model(self, name: str, *, token: str) -> Model:
        """Returns what would answer a call of this name, listed or not."""
        request = gateway_pb2.GetModelRequest(name=name)
        response = await unary(self._stub.GetModel, request, timeout_s=self._timeout_s, token=token)
        return _model(response.model)

    def _request(self, call: ModelCall) -> gateway_pb2.ChatRequest:
        tools = self._tools.get(call.tools)
        if tools is None:
            tools = [
                gateway_pb2.Tool(name=name, description=description, parameters_json=parameters)
                for name, description, parameters in call.tools
            ]
            if len(self._tools) < _TOOLBOXES_MAX:
                self._tools[call.tools] = tools
        request = gateway_pb2.ChatRequest(
            model=call.model,
            tools=tools,
            max_output_tokens=call.max_output_tokens,
            conversation_id=call.conversation_id,
        )
        messages = request.messages
        for message in call.messages:
            _add_message(messages, message)
        if call.total_s:
            request.timeouts.total.FromMilliseconds(int(call.total_s * 1000))
        return request


def _model(model: gateway_pb2.Model) -> Model:
    return Model(
        name=model.name,
        provider=model.provider,
        provider_model=model.provider_model,
        default=model.default,
        context_window_tokens=model.context_window_tokens,
        max_output_tokens=model.max_output_tokens,
        tools=model.tools,
    )


class _Answering:
    """A model's answer: an iterator and no generator, which a first token would wait for, and each live run would hold.

    Args:
        responses: The gateway's.
    """

    __slots__ = ("_calls", "_responses")

    def __init__(self, responses: AsyncGenerator[gateway_pb2.ChatResponse, None]) -> None:
        self._responses = responses
        self._calls = _Calls()

    def __aiter__(self) -> _Answering:
        return self

    async def __anext__(self) -> list[ModelDelta]:
        while not (deltas := _joined((await anext(self._responses)).deltas, self._calls)):
            pass
        return deltas

    async def aclose(self) -> None:
        await self._responses.aclose()


class _Pour:
    """Hands on what is nothing but text, or nothing but reasoning, also where it comes with the word of who answers.

    Args:
        tap: Takes it.
    """

    __slots__ = ("_tap",)

    def __init__(self, tap: Tap) -> None:
        self._tap = tap

    def __call__(self, response: gateway_pb2.ChatResponse) -> bool:
        deltas = response.deltas
        if len(deltas) != 1:
            return self._take(deltas)
        delta = deltas[0]  # nearly always
        if text := delta.text:
            return self._tap.text(text if "\x00" not in text else _storable(text))
        return self._tap.reasoning(_storable(text)) if (text := delta.reasoning) else False

    def _take(self, deltas: Sequence[gateway_pb2.ChatDelta]) -> bool:
        kinds = [delta.WhichOneof("kind") for delta in deltas]
        first = 1 if kinds[:1] == ["started"] else 0
        kind = kinds[first] if len(kinds) > first else None
        if kind not in _DELTAS or kinds.count(kind) != len(kinds) - first:
            return False
        text = _storable("".join([getattr(delta, kind) for delta in deltas[first:]]))
        if not text or (first and not self._tap.started(deltas[0].started.provider, deltas[0].started.model)):
            return False
        return self._tap.text(text) if kind == "text" else self._tap.reasoning(text)


def _add_message(messages: Any, message: PromptMessage) -> None:
    """Appends a message where it is to be, so that nothing is copied."""
    role, text, calls, tool_call_id = message
    added = messages.add()
    added.role = _PROMPT_ROLES[role]
    added.text = text
    for call in calls:
        added.tool_calls.add(id=call.id, name=call.name, arguments_json=call.arguments_json)
    if tool_call_id:
        added.tool_call_id = tool_call_id


class _Calls:
    """The tools' calls of one answer, put together from their pieces."""

    __slots__ = ("_pieces",)

    def __init__(self) -> None:
        self._pieces: dict[int, tuple[str, str, list[str]]] = {}

    def add(self, piece: gateway_pb2.ToolCallDelta) -> None:
        call_id, name, arguments = self._pieces.get(piece.index, ("", "", []))
        arguments.append(piece.arguments_delta)
        self._pieces[piece.index] = (call_id or piece.id, name or piece.name, arguments)

    def whole(self) -> tuple[ToolCall, ...]:
        return tuple(
            ToolCall(call_id, name, "".join(arguments))
            for _, (call_id, name, arguments) in sorted(self._pieces.items())
        )


def _joined(deltas: Sequence[gateway_pb2.ChatDelta], calls: _Calls) -> list[ModelDelta]:
    """Returns deltas that arrived together, neighbours of one kind as one; pieces of tools' calls are put by until the end."""
    joined: list[ModelDelta] = []
    kind, texts = "", [""]
    for delta in deltas:
        which = delta.WhichOneof("kind")
        if which == kind and which in _DELTAS:
            texts.append(getattr(delta, kind))
            continue
        _close(joined, kind, texts)
        kind, texts = which or "", []
        if which in _DELTAS:
            texts.append(getattr(delta, which))
        elif which == "started":
            joined.append(ModelStarted(delta.started.provider, delta.started.model))
        elif which == "finished":
            finished = delta.finished
            reason = _FINISH_REASONS.get(finished.reason, FinishReason.STOP)
            joined.append(ModelFinished(reason, usage_of(finished.usage), calls.whole()))
        elif which == "tool_call":
            calls.add(delta.tool_call)
    _close(joined, kind, texts)
    return joined


_DELTAS: dict[str, type[TextDelta | ReasoningDelta]] = {"text": TextDelta, "reasoning": ReasoningDelta}


def _close(joined: list[ModelDelta], kind: str, texts: list[str]) -> None:
    if kind in _DELTAS and (text := _storable("".join(texts))):
        joined.append(_DELTAS[kind](text))


def _storable(text: str) -> str:
    # U+0000 cannot be stored: replaced here, so that what was streamed and what is stored are the same.
    return text.replace("\x00", "\ufffd") if "\x00" in text else text
