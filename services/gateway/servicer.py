"""protobuf to domain and back; no rules here."""

from __future__ import annotations

from typing import TYPE_CHECKING

from parley.gateway.v1 import gateway_pb2 as pb
from parley.gateway.v1 import gateway_pb2_grpc
from runtime.validation import invalid
from runtime.wellknown import seconds
from services.gateway.domain import (
    NO_TIMEOUTS,
    AnswerSchema,
    Call,
    Finished,
    FinishReason,
    Image,
    Logprobs,
    Message,
    Reasoning,
    Reset,
    ResponseFormat,
    Role,
    Started,
    Text,
    Timeouts,
    Tool,
    ToolCall,
    ToolCallPiece,
    ToolChoice,
    ToolMode,
)

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Sequence

    from services.gateway.chat import Chat
    from services.gateway.domain import Delta, ListedModel, Usage
    from services.gateway.embeddings.domain import Embeddings
    from services.gateway.passing import Offer

SERVICE = pb.DESCRIPTOR.services_by_name["GatewayService"].full_name

_ROLES = {
    pb.ROLE_SYSTEM: Role.SYSTEM,
    pb.ROLE_USER: Role.USER,
    pb.ROLE_ASSISTANT: Role.ASSISTANT,
    pb.ROLE_TOOL: Role.TOOL,
}
_MODES = {
    pb.ToolChoice.MODE_AUTO: ToolMode.AUTO,
    pb.ToolChoice.MODE_NONE: ToolMode.NONE,
    pb.ToolChoice.MODE_REQUIRED: ToolMode.REQUIRED,
    pb.ToolChoice.MODE_NAMED: ToolMode.NAMED,
}
_REASONS = {
    FinishReason.STOP: pb.FINISH_REASON_STOP,
    FinishReason.LENGTH: pb.FINISH_REASON_LENGTH,
    FinishReason.TOOL_CALLS: pb.FINISH_REASON_TOOL_CALLS,
    FinishReason.CONTENT_FILTER: pb.FINISH_REASON_CONTENT_FILTER,
}


class GatewayServicer(gateway_pb2_grpc.GatewayServiceServicer):
    """Serves `GatewayService`."""

    def __init__(self, chat: Chat, embeddings: Embeddings) -> None:
        self._chat = chat
        self._embeddings = embeddings

    async def Chat(self, request: pb.ChatRequest, context: object) -> AsyncIterator[pb.ChatResponse]:
        """See the contract."""
        batches = self._chat.stream(_call(request), _offer(context))
        try:
            async for deltas in batches:
                yield _response(deltas)
        finally:
            await batches.aclose()

    async def ListModels(self, request: pb.ListModelsRequest, context: object) -> pb.ListModelsResponse:
        """See the contract."""
        return pb.ListModelsResponse(models=[_model(model) for model in self._chat.models()])

    async def GetModel(self, request: pb.GetModelRequest, context: object) -> pb.GetModelResponse:
        """See the contract."""
        return pb.GetModelResponse(model=_model(self._chat.model(request.name)))

    async def Embed(self, request: pb.EmbedRequest, context: object) -> pb.EmbedResponse:
        """See the contract."""
        made = await self._embeddings.embed(request.model, list(request.texts), request.dimensions)
        return pb.EmbedResponse(
            embeddings=[pb.Embedding(values=vector) for vector in made.vectors],
            provider=made.provider,
            model=made.model,
            usage=_usage(made.usage),
        )


def _offer(context: object) -> Offer | None:
    """Returns what sends deltas at once, over a shared connection; None: on one of its own each message is waited for."""
    send: Callable[[pb.ChatResponse], bool] | None = getattr(context, "offer", None)
    if send is None:
        return None

    def offer(deltas: Sequence[Delta]) -> bool:
        if len(deltas) == 1 and type(delta := deltas[0]) is Text:
            # Nearly every token there is.
            response = pb.ChatResponse()
            response.deltas.add().text = delta.text
            return send(response)
        return send(_response(deltas))

    return offer


def _call(request: pb.ChatRequest) -> Call:
    has = request.HasField
    return Call(
        model=request.model,
        messages=tuple([_message(place, message) for place, message in enumerate(request.messages)]),
        tools=tuple([Tool(tool.name, tool.description, tool.parameters_json) for tool in request.tools]),
        temperature=request.temperature if has("temperature") else None,
        max_output_tokens=request.max_output_tokens,
        stop=tuple(request.stop),
        timeouts=_timeouts(request.timeouts) if has("timeouts") else NO_TIMEOUTS,
        conversation_id=request.conversation_id,
        run_id=request.run_id,
        bot=request.bot,
        tool_choice=_tool_choice(request.tool_choice) if has("tool_choice") else None,
        parallel_tool_calls=request.parallel_tool_calls if has("parallel_tool_calls") else None,
        response_format=_response_format(request.response_format) if has("response_format") else None,
        seed=request.seed if has("seed") else None,
        top_p=request.top_p if has("top_p") else None,
        frequency_penalty=request.frequency_penalty if has("frequency_penalty") else None,
        presence_penalty=request.presence_penalty if has("presence_penalty") else None,
        top_logprobs=request.top_logprobs if has("top_logprobs") else None,
        reasoning_effort=request.reasoning_effort,
        allow_reset=request.allow_reset,
    )


def _timeouts(timeouts: pb.Timeouts) -> Timeouts:
    return Timeouts(
        seconds("timeouts.first_token", timeouts.first_token),
        seconds("timeouts.gap", timeouts.gap),
        seconds("timeouts.total", timeouts.total),
    )


def _tool_choice(choice: pb.ToolChoice) -> ToolChoice | None:
    mode = _MODES.get(choice.mode)
    if mode is None and choice.mode != pb.ToolChoice.MODE_UNSPECIFIED:
        raise invalid("tool_choice.mode", "must be one of auto, none, required and named.")
    return ToolChoice(mode, choice.name) if mode is not None else None


def _response_format(shape: pb.ResponseFormat) -> ResponseFormat | None:
    kind = shape.WhichOneof("kind")
    if kind == "json_schema":
        wanted = shape.json_schema
        strict = wanted.strict if wanted.HasField("strict") else None
        return ResponseFormat(AnswerSchema(wanted.name, wanted.schema_json, wanted.description, strict))
    return ResponseFormat() if kind == "json_object" and shape.json_object else None


def _message(place: int, message: pb.PromptMessage) -> Message:
    role = _ROLES.get(message.role)
    if role is None:
        raise invalid(f"messages[{place}].role", "must be one of system, user, assistant and tool.")
    # Most messages have neither, and a prompt has many messages.
    calls, images = message.tool_calls, message.images
    return Message(
        role,
        message.text,
        tuple([ToolCall(call.id, call.name, call.arguments_json) for call in calls]) if calls else (),
        message.tool_call_id,
        tuple([Image(image.url, image.detail) for image in images]) if images else (),
    )


def _response(deltas: Sequence[Delta]) -> pb.ChatResponse:
    response = pb.ChatResponse()
    add = response.deltas.add
    for delta in deltas:
        kind = type(delta)
        if kind is Text:
            add().text = delta.text  # type: ignore[union-attr]
        elif kind is Reasoning:
            add().reasoning = delta.text  # type: ignore[union-attr]
        else:
            _fill(add(), delta)
    return response


def _fill(told: pb.ChatDelta, delta: Delta) -> None:
    match delta:
        case Started(provider=provider, model=model):
            started = told.started
            started.SetInParent()
            started.provider, started.model = provider, model
        case ToolCallPiece():
            told.tool_call.CopyFrom(
                pb.ToolCallDelta(index=delta.index, id=delta.id, name=delta.name, arguments_delta=delta.arguments)
            )
        case Logprobs(json=probabilities):
            told.logprobs_json = probabilities
        case Reset():
            told.reset.SetInParent()
        case Finished():
            told.finished.CopyFrom(_finished(delta))


def _finished(finished: Finished) -> pb.Finished:
    return pb.Finished(reason=_REASONS[finished.reason], usage=_usage(finished.usage))


def _usage(usage: Usage) -> pb.Usage:
    counts = usage.counts
    return pb.Usage(
        input_tokens=counts.input_tokens,
        output_tokens=counts.output_tokens,
        cached_tokens=counts.cached_tokens,
        reasoning_tokens=counts.reasoning_tokens,
        cost_usd=usage.cost_usd,
        estimated=usage.estimated,
    )


def _model(model: ListedModel) -> pb.Model:
    return pb.Model(
        name=model.name,
        provider=model.provider,
        provider_model=model.provider_model,
        alias=model.alias,
        default=model.default,
        context_window_tokens=model.limits.context_window_tokens,
        max_output_tokens=model.limits.max_output_tokens,
        tools=model.limits.tools,
        embeddings=model.embeddings,
    )
