"""The gateway as the domain sees it."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

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
    from collections.abc import AsyncGenerator, Callable, Sequence

    import grpc

    from services.chat.asking import ModelCall, ModelDelta, PromptMessage

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


class GatewayClient:
    """`Gateway` over gRPC.

    Args:
        channel: To the gateway.
        timeout_s: Longest wait for the list of models.
    """

    def __init__(self, channel: grpc.aio.Channel, *, timeout_s: float) -> None:
        self._stub = gateway_pb2_grpc.GatewayServiceStub(channel)
        self._timeout_s = timeout_s

    async def chat(
        self, call: ModelCall, *, token: str, tap: Callable[[TextDelta | ReasoningDelta], bool] | None = None
    ) -> AsyncGenerator[list[ModelDelta], None]:
        """Asks a model; closing the generator closes the upstream connection."""
        request = gateway_pb2.ChatRequest(
            model=call.model,
            messages=map(_message_pb, call.messages),
            tools=[
                gateway_pb2.Tool(name=name, description=description, parameters_json=parameters)
                for name, description, parameters in call.tools
            ],
            max_output_tokens=call.max_output_tokens,
            conversation_id=call.conversation_id,
        )
        if call.total_s:
            request.timeouts.total.FromMilliseconds(int(call.total_s * 1000))
        calls = _Calls()

        def pour(response: gateway_pb2.ChatResponse) -> bool:
            return tap is not None and (written := _written(response.deltas)) is not None and tap(written)

        async with contextlib.aclosing(stream(self._stub.Chat, request, token=token, tap=pour)) as responses:
            async for response in responses:
                if deltas := _joined(response.deltas, calls):
                    yield deltas

    async def list_models(self, *, token: str) -> Sequence[Model]:
        """Returns the models and aliases there are."""
        request = gateway_pb2.ListModelsRequest()
        response = await unary(self._stub.ListModels, request, timeout_s=self._timeout_s, token=token)
        return [
            Model(
                name=model.name,
                provider=model.provider,
                provider_model=model.provider_model,
                default=model.default,
                context_window_tokens=model.context_window_tokens,
                max_output_tokens=model.max_output_tokens,
                tools=model.tools,
            )
            for model in response.models
        ]


def _message_pb(message: PromptMessage) -> gateway_pb2.PromptMessage:
    return gateway_pb2.PromptMessage(
        role=_PROMPT_ROLES[message.role],
        text=message.text,
        tool_calls=[
            gateway_pb2.ToolCall(id=call_id, name=name, arguments_json=arguments)
            for call_id, name, arguments in message.tool_calls
        ],
        tool_call_id=message.tool_call_id,
    )


class _Calls:
    """The tools' calls of one answer, put together from their pieces."""

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


def _written(deltas: Sequence[gateway_pb2.ChatDelta]) -> TextDelta | ReasoningDelta | None:
    """Returns deltas as one where they are nothing but text, or nothing but reasoning."""
    kind = deltas[0].WhichOneof("kind") if deltas else None
    if kind not in _DELTAS:
        return None
    if len(deltas) == 1:  # nearly always
        text = getattr(deltas[0], kind)
    elif any(delta.WhichOneof("kind") != kind for delta in deltas):
        return None
    else:
        text = "".join([getattr(delta, kind) for delta in deltas])
    return _DELTAS[kind](_storable(text)) if text else None


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
