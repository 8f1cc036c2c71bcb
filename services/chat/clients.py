"""The other services as the domain sees them."""

from __future__ import annotations

import contextlib
from datetime import UTC
from typing import TYPE_CHECKING

from parley.auth.v1 import auth_pb2, auth_pb2_grpc
from parley.data.v1 import data_pb2, data_pb2_grpc
from parley.gateway.v1 import gateway_pb2, gateway_pb2_grpc
from runtime.channel import stream, unary
from runtime.errors import NotFound
from runtime.identity import remote_keys
from services.chat.domain import Part, PartKind, Run, RunNotFound, RunStatus, Stored, Usage
from services.chat.ports import (
    Begun,
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
    from collections.abc import AsyncGenerator, Iterator, Sequence
    from datetime import datetime

    import grpc
    from google.protobuf.timestamp_pb2 import Timestamp

    from services.chat.ports import Ending, ModelDelta, NewRun

_STATUSES = {
    RunStatus.RUNNING: data_pb2.RUN_STATUS_RUNNING,
    RunStatus.COMPLETED: data_pb2.RUN_STATUS_COMPLETED,
    RunStatus.CANCELLED: data_pb2.RUN_STATUS_CANCELLED,
    RunStatus.FAILED: data_pb2.RUN_STATUS_FAILED,
    RunStatus.INTERRUPTED: data_pb2.RUN_STATUS_INTERRUPTED,
    RunStatus.LIMITED: data_pb2.RUN_STATUS_LIMITED,
}
_STATUS_OF = {number: status for status, number in _STATUSES.items()}
_HISTORY_ROLES = {data_pb2.ROLE_USER: Role.USER, data_pb2.ROLE_ASSISTANT: Role.ASSISTANT}
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


class DataClient:
    """`Data` over gRPC.

    Args:
        channel: To the data service.
        timeout_s: Longest wait for an answer.
    """

    def __init__(self, channel: grpc.aio.Channel, *, timeout_s: float) -> None:
        self._stub = data_pb2_grpc.RunServiceStub(channel)
        self._timeout_s = timeout_s

    async def begin_run(self, new: NewRun, *, token: str) -> Begun:
        """Stores the message, an empty answer and the run; returns the history that fits."""
        request = data_pb2.BeginRunRequest(
            conversation_id=new.conversation_id,
            client_message_id=new.client_message_id,
            content=new.content,
            model=new.model,
            owner=new.owner,
            history_max_messages=new.history_max_messages,
            history_max_tokens=new.history_max_tokens,
        )
        request.lease.FromMilliseconds(int(new.lease_s * 1000))
        begun = await unary(self._stub.BeginRun, request, timeout_s=self._timeout_s, token=token)
        return Begun(
            run=_run(begun.run),
            fence=begun.run.fence,
            content=_text(begun.user_message),
            asked_at=_moment(begun.user_message.create_time),
            history=tuple(PromptMessage(_HISTORY_ROLES[earlier.role], _text(earlier)) for earlier in begun.history),
            existing=begun.existing,
        )

    async def checkpoint_run(
        self, run_id: str, *, fence: int, parts: Sequence[Part], last_seq: int, lease_s: float, token: str
    ) -> None:
        """Stores the answer so far and renews the lease."""
        request = data_pb2.CheckpointRunRequest(
            run_id=run_id, fence=fence, parts=map(_part_pb, parts), last_seq=last_seq
        )
        request.lease.FromMilliseconds(int(lease_s * 1000))
        with _ours():
            await unary(self._stub.CheckpointRun, request, timeout_s=self._timeout_s, token=token)

    async def finish_run(self, ending: Ending, *, token: str) -> Run:
        """Stores the whole answer; a run that has ended stays as it is and is returned."""
        usage = ending.usage
        request = data_pb2.FinishRunRequest(
            run_id=ending.run_id,
            fence=ending.fence,
            status=_STATUSES[ending.status],
            error_reason=ending.error_reason,
            parts=map(_part_pb, ending.parts),
            usage=data_pb2.Usage(
                input_tokens=usage.input_tokens,
                output_tokens=usage.output_tokens,
                cached_tokens=usage.cached_tokens,
                reasoning_tokens=usage.reasoning_tokens,
                cost_usd=usage.cost_usd,
                estimated=usage.estimated,
            ),
            model=ending.model,
            last_seq=ending.last_seq,
        )
        with _ours():
            finished = await unary(self._stub.FinishRun, request, timeout_s=self._timeout_s, token=token)
        return _run(finished.run)

    async def get_run(self, run_id: str, *, token: str) -> Stored:
        """Returns what is stored of a run."""
        request = data_pb2.GetRunRequest(run_id=run_id)
        with _ours():
            found = await unary(self._stub.GetRun, request, timeout_s=self._timeout_s, token=token)
        run, answer = found.run, found.answer
        return Stored(
            run=_run(run),
            content=_text(found.user_message),
            asked_at=_moment(found.user_message.create_time),
            parts=tuple(_parts(answer)),
            usage=_usage(answer.usage) if answer.HasField("usage") else None,
            last_seq=run.last_seq,
            fence=run.fence,
            owner=run.owner,
            lease_expires_at=run.lease_expire_time.ToNanoseconds() / 1e9 if run.HasField("lease_expire_time") else None,
        )


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


class AuthClient:
    """`Auth` over gRPC.

    Args:
        channel: To the auth service.
        actor_key: What proves this service.
        timeout_s: Longest wait for an answer.
    """

    def __init__(self, channel: grpc.aio.Channel, *, actor_key: str, timeout_s: float) -> None:
        self._stub = auth_pb2_grpc.AuthServiceStub(channel)
        self._actor_key = actor_key
        self._timeout_s = timeout_s

    async def delegate(self, *, token: str) -> str:
        """Returns a token with which this service acts for the user for up to an hour."""
        request = auth_pb2.ExchangeTokenRequest(actor="chat", actor_key=self._actor_key, audiences=["data", "gateway"])
        request.ttl.FromSeconds(3600)
        response = await unary(self._stub.ExchangeToken, request, timeout_s=self._timeout_s, token=token)
        access_token: str = response.access_token
        return access_token

    async def jwks(self) -> str:
        """Returns the public keys of access tokens as JSON text."""
        return await remote_keys(self._stub.GetJwks, auth_pb2.GetJwksRequest())


@contextlib.contextmanager
def _ours() -> Iterator[None]:
    """Makes data's answer about an unknown run the one this service gives by itself: the two must not be told apart."""
    try:
        yield
    except NotFound:
        raise RunNotFound from None


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
            joined.append(ModelFinished(reason, _usage(finished.usage)))
    _close(joined, kind, texts)
    return joined


_DELTAS: dict[str, type[TextDelta | ReasoningDelta]] = {"text": TextDelta, "reasoning": ReasoningDelta}


def _close(joined: list[ModelDelta], kind: str, texts: list[str]) -> None:
    # U+0000 cannot be stored: replaced here, so that what was streamed and what is stored are the same.
    if kind in _DELTAS and (text := "".join(texts).replace("\x00", "\ufffd")):
        joined.append(_DELTAS[kind](text))


def _run(run: data_pb2.Run) -> Run:
    return Run(
        id=run.id,
        conversation_id=run.conversation_id,
        user_message_id=run.user_message_id,
        message_id=run.answer_message_id,
        model=run.model,
        status=_STATUS_OF[run.status],
        error_reason=run.error_reason,
        created_at=_moment(run.create_time),
        ended_at=_moment(run.end_time) if run.HasField("end_time") else None,
    )


def _usage(usage: data_pb2.Usage | gateway_pb2.Usage) -> Usage:
    return Usage(
        usage.input_tokens,
        usage.output_tokens,
        usage.cached_tokens,
        usage.reasoning_tokens,
        usage.cost_usd if usage.HasField("cost_usd") else None,
        usage.estimated,
    )


def _parts(message: data_pb2.Message) -> Iterator[Part]:
    for part in message.parts:
        kind = part.WhichOneof("kind")
        if kind in _PART_KINDS:
            yield Part(_PART_KINDS[kind], getattr(part, kind))


_PART_KINDS = {"text": PartKind.TEXT, "reasoning": PartKind.REASONING}


def _part_pb(part: Part) -> data_pb2.Part:
    return data_pb2.Part(text=part.text) if part.kind is PartKind.TEXT else data_pb2.Part(reasoning=part.text)


def _text(message: data_pb2.Message) -> str:
    return "".join(part.text for part in _parts(message) if part.kind is PartKind.TEXT)


def _moment(timestamp: Timestamp) -> datetime:
    return timestamp.ToDatetime(UTC)
