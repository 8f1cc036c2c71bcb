"""The gateway as the domain sees it."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

from parley.gateway.v1 import gateway_pb2, gateway_pb2_grpc
from runtime.channel import stream, unary
from services.chat.conversions import usage_of
from services.chat.ports import (
    FinishReason,
    Model,
    ModelFinished,
    ModelStarted,
    PromptMessage,
    ReasoningDelta,
    Role,
    TextDelta,
)

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Sequence

    import grpc

    from services.chat.ports import ModelDelta

_PROMPT_ROLES = {
    Role.SYSTEM: gateway_pb2.ROLE_SYSTEM,
    Role.USER: gateway_pb2.ROLE_USER,
    Role.ASSISTANT: gateway_pb2.ROLE_ASSISTANT,
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
        self, model: str, messages: Sequence[PromptMessage], *, conversation_id: str, token: str
    ) -> AsyncGenerator[list[ModelDelta], None]:
        """Asks a model; closing the generator closes the upstream connection. The gateway's own deadlines hold."""
        request = gateway_pb2.ChatRequest(
            model=model,
            messages=[
                gateway_pb2.PromptMessage(role=_PROMPT_ROLES[message.role], text=message.text) for message in messages
            ],
            conversation_id=conversation_id,
        )
        async with contextlib.aclosing(stream(self._stub.Chat, request, token=token)) as responses:
            async for response in responses:
                if deltas := _joined(response.deltas):
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
            )
            for model in response.models
        ]


def _joined(deltas: Sequence[gateway_pb2.ChatDelta]) -> list[ModelDelta]:
    """Returns deltas that arrived together, neighbours of one kind as one."""
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
            joined.append(ModelFinished(reason, usage_of(finished.usage)))
    _close(joined, kind, texts)
    return joined


_DELTAS: dict[str, type[TextDelta | ReasoningDelta]] = {"text": TextDelta, "reasoning": ReasoningDelta}


def _close(joined: list[ModelDelta], kind: str, texts: list[str]) -> None:
    # U+0000 cannot be stored: replaced here, so that what was streamed and what is stored are the same.
    if kind in _DELTAS and (text := "".join(texts).replace("\x00", "\ufffd")):
        joined.append(_DELTAS[kind](text))
