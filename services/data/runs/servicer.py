"""`parley.data.v1.RunService`: the contract's messages to the domain's and back."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from parley.data.v1 import data_pb2, data_pb2_grpc
from runtime.context import current_identity
from runtime.wellknown import seconds, timestamp
from services.data.conversations.servicer import message_pb, part_of, usage_of
from services.data.runs.domain import BeginRequest, FinishRequest, RunStatus

if TYPE_CHECKING:
    from services.data.runs.domain import Run, Runs

_STATUSES = {
    RunStatus.RUNNING: data_pb2.RUN_STATUS_RUNNING,
    RunStatus.COMPLETED: data_pb2.RUN_STATUS_COMPLETED,
    RunStatus.CANCELLED: data_pb2.RUN_STATUS_CANCELLED,
    RunStatus.FAILED: data_pb2.RUN_STATUS_FAILED,
    RunStatus.INTERRUPTED: data_pb2.RUN_STATUS_INTERRUPTED,
    RunStatus.LIMITED: data_pb2.RUN_STATUS_LIMITED,
}
_STATUS_OF = {number: status for status, number in _STATUSES.items()}


class RunServicer(data_pb2_grpc.RunServiceServicer):
    """Runs over gRPC."""

    def __init__(self, runs: Runs) -> None:
        self._runs = runs

    async def BeginRun(self, request: data_pb2.BeginRunRequest, context: Any) -> data_pb2.BeginRunResponse:
        begun = await self._runs.begin(current_identity(), _begin_request(request))
        return data_pb2.BeginRunResponse(
            run=_run_pb(begun.run),
            user_message=message_pb(begun.user_message),
            history=map(message_pb, begun.history),
            existing=begun.existing,
            conversation_created=begun.conversation_created,
        )

    async def CheckpointRun(
        self, request: data_pb2.CheckpointRunRequest, context: Any
    ) -> data_pb2.CheckpointRunResponse:
        await self._runs.checkpoint(
            current_identity(),
            request.run_id,
            fence=request.fence,
            parts=[part_of(part) for part in request.parts],
            last_seq=request.last_seq,
            lease_s=seconds("lease", request.lease),
        )
        return data_pb2.CheckpointRunResponse()

    async def FinishRun(self, request: data_pb2.FinishRunRequest, context: Any) -> data_pb2.FinishRunResponse:
        run = await self._runs.finish(current_identity(), _finish_request(request))
        return data_pb2.FinishRunResponse(run=_run_pb(run))

    async def GetRun(self, request: data_pb2.GetRunRequest, context: Any) -> data_pb2.GetRunResponse:
        run, user_message, answer = await self._runs.get(current_identity(), request.run_id)
        return data_pb2.GetRunResponse(
            run=_run_pb(run), user_message=message_pb(user_message), answer=message_pb(answer)
        )


def _begin_request(request: data_pb2.BeginRunRequest) -> BeginRequest:
    return BeginRequest(
        conversation_id=request.conversation_id,
        client_message_id=request.client_message_id,
        content=request.content,
        model=request.model,
        owner=request.owner,
        lease_s=seconds("lease", request.lease),
        history_max_messages=request.history_max_messages,
        history_max_tokens=request.history_max_tokens,
    )


def _finish_request(request: data_pb2.FinishRunRequest) -> FinishRequest:
    return FinishRequest(
        run_id=request.run_id,
        fence=request.fence,
        status=_STATUS_OF.get(request.status),
        error_reason=request.error_reason,
        parts=tuple(part_of(part) for part in request.parts),
        usage=usage_of(request.usage) if request.HasField("usage") else None,
        model=request.model,
        last_seq=request.last_seq,
    )


def _run_pb(run: Run) -> data_pb2.Run:
    return data_pb2.Run(
        id=run.id,
        conversation_id=run.conversation_id,
        user_message_id=run.user_message_id,
        answer_message_id=run.answer_message_id,
        client_message_id=run.client_message_id or "",
        model=run.model,
        status=_STATUSES[run.status],
        error_reason=run.error_reason,
        last_seq=run.last_seq,
        fence=run.fence,
        owner=run.owner,
        lease_expire_time=timestamp(run.lease_expires_at) if run.lease_expires_at else None,
        create_time=timestamp(run.created_at),
        end_time=timestamp(run.ended_at) if run.ended_at else None,
    )
