"""`parley.data.v1.RunService`: the contract's messages to the domain's and back."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from parley.data.v1 import data_pb2, data_pb2_grpc
from runtime.context import current_identity
from runtime.permissions import require
from runtime.wellknown import seconds, timestamp
from services.data.conversations.servicer import message_pb, part_of, spell_history, usage_of
from services.data.queue.domain import ClaimKind, ClaimRequest
from services.data.runs.domain import ActiveLimits, RequestLimits, RunStatus
from services.data.runs.keeping import Checkpoint, FinishRequest, Progress, RetryRequest
from services.data.runs.starting import BeginRequest, BranchKind, OnConflict

if TYPE_CHECKING:
    from services.data.queue.domain import Claim, Queue
    from services.data.runs.credentials import Credentials
    from services.data.runs.domain import Run
    from services.data.runs.keeping import Keeping
    from services.data.runs.starting import Starting

_STATUSES = {
    RunStatus.QUEUED: data_pb2.RUN_STATUS_QUEUED,
    RunStatus.RUNNING: data_pb2.RUN_STATUS_RUNNING,
    RunStatus.COMPLETED: data_pb2.RUN_STATUS_COMPLETED,
    RunStatus.CANCELLED: data_pb2.RUN_STATUS_CANCELLED,
    RunStatus.FAILED: data_pb2.RUN_STATUS_FAILED,
    RunStatus.INTERRUPTED: data_pb2.RUN_STATUS_INTERRUPTED,
    RunStatus.LIMITED: data_pb2.RUN_STATUS_LIMITED,
}
_STATUS_OF = {number: status for status, number in _STATUSES.items()}
_CONFLICTS = {
    OnConflict.REJECT: data_pb2.ON_CONFLICT_REJECT,
    OnConflict.ENQUEUE: data_pb2.ON_CONFLICT_ENQUEUE,
    OnConflict.INTERRUPT: data_pb2.ON_CONFLICT_INTERRUPT,
}
_CONFLICT_OF = {number: conflict for conflict, number in _CONFLICTS.items()} | {
    data_pb2.ON_CONFLICT_UNSPECIFIED: OnConflict.REJECT
}
_KINDS = {
    ClaimKind.QUEUED: data_pb2.Claim.KIND_QUEUED,
    ClaimKind.RELEASED: data_pb2.Claim.KIND_RELEASED,
    ClaimKind.LAPSED: data_pb2.Claim.KIND_LAPSED,
}


class RunServicer(data_pb2_grpc.RunServiceServicer):
    """Runs over gRPC."""

    def __init__(self, starting: Starting, keeping: Keeping, queue: Queue, credentials: Credentials) -> None:
        self._starting = starting
        self._keeping = keeping
        self._queue = queue
        self._credentials = credentials

    async def BeginRun(self, request: data_pb2.BeginRunRequest, context: Any) -> data_pb2.BeginRunResponse:
        begun = await self._starting.begin(current_identity(), _begin_request(request))
        response = data_pb2.BeginRunResponse(
            run=_run_pb(begun.run),
            user_message=message_pb(begun.user_message),
            existing=begun.existing,
            conversation_created=begun.conversation_created,
            answer=message_pb(begun.answer),
            interrupted=map(_run_pb, begun.interrupted),
            untitled=begun.untitled,
        )
        spell_history(begun.history, response.history)
        return response

    async def ClaimRuns(self, request: data_pb2.ClaimRunsRequest, context: Any) -> data_pb2.ClaimRunsResponse:
        require("run:claim")
        claims, due_at = await self._queue.claim(current_identity(), _claim_request(request))
        return data_pb2.ClaimRunsResponse(
            claims=map(_claim_pb, claims), next_due_time=timestamp(due_at) if due_at else None
        )

    async def LoadRun(self, request: data_pb2.LoadRunRequest, context: Any) -> data_pb2.LoadRunResponse:
        loaded = await self._keeping.load(
            current_identity(),
            request.run_id,
            fence=request.fence,
            history_max_messages=request.history_max_messages,
            history_max_tokens=request.history_max_tokens,
        )
        response = data_pb2.LoadRunResponse(
            run=_run_pb(loaded.run),
            user_message=message_pb(loaded.user_message),
            answer=message_pb(loaded.answer),
            untitled=loaded.untitled,
        )
        spell_history(loaded.history, response.history)
        return response

    async def CheckpointRun(
        self, request: data_pb2.CheckpointRunRequest, context: Any
    ) -> data_pb2.CheckpointRunResponse:
        lease_s = seconds("lease", request.lease)
        cancel_requested = await self._keeping.checkpoint(current_identity(), _progress(request), lease_s=lease_s)
        return data_pb2.CheckpointRunResponse(cancel_requested=cancel_requested)

    async def CheckpointRuns(
        self, request: data_pb2.CheckpointRunsRequest, context: Any
    ) -> data_pb2.CheckpointRunsResponse:
        checkpoints = [await self._checkpoint(item) for item in request.items]
        kept = await self._keeping.checkpoint_many(checkpoints)
        return data_pb2.CheckpointRunsResponse(
            items=[
                data_pb2.CheckpointRunsResponse.Item(stored=wanted is not None, cancel_requested=bool(wanted))
                for wanted in kept
            ]
        )

    async def _checkpoint(self, item: data_pb2.CheckpointRunsRequest.Item) -> Checkpoint | None:
        """Returns what one run's owner stores; None where its credential is refused."""
        caller = await self._credentials.known(item.access_token)
        if caller is None:
            return None
        return Checkpoint(caller, _progress(item.checkpoint), seconds("lease", item.checkpoint.lease))

    async def ReleaseRun(self, request: data_pb2.ReleaseRunRequest, context: Any) -> data_pb2.ReleaseRunResponse:
        await self._keeping.release(current_identity(), _progress(request))
        return data_pb2.ReleaseRunResponse()

    async def RetryRun(self, request: data_pb2.RetryRunRequest, context: Any) -> data_pb2.RetryRunResponse:
        run = await self._keeping.retry(current_identity(), _retry_request(request))
        return data_pb2.RetryRunResponse(run=_run_pb(run))

    async def FinishRun(self, request: data_pb2.FinishRunRequest, context: Any) -> data_pb2.FinishRunResponse:
        run = await self._keeping.finish(current_identity(), _finish_request(request))
        return data_pb2.FinishRunResponse(run=_run_pb(run))

    async def CancelRun(self, request: data_pb2.CancelRunRequest, context: Any) -> data_pb2.CancelRunResponse:
        run = await self._keeping.cancel(current_identity(), request.run_id)
        return data_pb2.CancelRunResponse(run=_run_pb(run))

    async def GetRun(self, request: data_pb2.GetRunRequest, context: Any) -> data_pb2.GetRunResponse:
        run, user_message, answer = await self._keeping.get(current_identity(), request.run_id)
        return data_pb2.GetRunResponse(
            run=_run_pb(run), user_message=message_pb(user_message), answer=message_pb(answer)
        )

    async def ListRuns(self, request: data_pb2.ListRunsRequest, context: Any) -> data_pb2.ListRunsResponse:
        runs = await self._keeping.list_runs(
            current_identity(),
            request.conversation_id,
            after_run_id=request.after_run_id,
            active_only=request.active_only,
            page_size=request.page_size,
        )
        return data_pb2.ListRunsResponse(runs=map(_run_pb, runs))

    async def ListDeadLetters(
        self, request: data_pb2.ListDeadLettersRequest, context: Any
    ) -> data_pb2.ListDeadLettersResponse:
        require("run:admin")
        page, token = await self._queue.list_dead_letters(
            current_identity(), page_size=request.page_size, page_token=request.page_token
        )
        letters = (
            data_pb2.DeadLetter(
                run=_run_pb(letter.run), user_id=letter.user_id, create_time=timestamp(letter.created_at)
            )
            for letter in page
        )
        return data_pb2.ListDeadLettersResponse(dead_letters=letters, next_page_token=token)

    async def RetryDeadLetter(
        self, request: data_pb2.RetryDeadLetterRequest, context: Any
    ) -> data_pb2.RetryDeadLetterResponse:
        require("run:admin")
        run = await self._queue.retry_dead_letter(current_identity(), request.run_id)
        return data_pb2.RetryDeadLetterResponse(run=_run_pb(run))

    async def DropDeadLetter(
        self, request: data_pb2.DropDeadLetterRequest, context: Any
    ) -> data_pb2.DropDeadLetterResponse:
        require("run:admin")
        await self._queue.drop_dead_letter(current_identity(), request.run_id)
        return data_pb2.DropDeadLetterResponse()


def _begin_request(request: data_pb2.BeginRunRequest) -> BeginRequest:
    branch = request.WhichOneof("branch")
    return BeginRequest(
        conversation_id=request.conversation_id,
        client_message_id=request.client_message_id,
        content=request.content,
        model=request.model,
        owner=request.owner,
        lease_s=seconds("lease", request.lease),
        history_max_messages=request.history_max_messages,
        history_max_tokens=request.history_max_tokens,
        background=request.background,
        max_tries=request.max_tries,
        on_conflict=_CONFLICT_OF.get(request.on_conflict),
        limits=_limits(request.active_limits),
        request_limits=RequestLimits(
            request.request_limits.per_minute, request.request_limits.per_hour, request.request_limits.per_day
        ),
        branch=(BranchKind(branch.removesuffix("_message_id")), getattr(request, branch)) if branch else None,
    )


def _claim_request(request: data_pb2.ClaimRunsRequest) -> ClaimRequest:
    return ClaimRequest(
        owner=request.owner,
        lease_s=seconds("lease", request.lease),
        suspicion_s=seconds("suspicion", request.suspicion),
        max_runs=request.max_runs,
        limits=_limits(request.active_limits),
    )


def _limits(limits: data_pb2.ActiveLimits) -> ActiveLimits:
    return ActiveLimits(limits.per_user, limits.per_conversation, limits.queued_per_user)


def _progress(request: data_pb2.CheckpointRunRequest | data_pb2.ReleaseRunRequest) -> Progress:
    return Progress(
        run_id=request.run_id,
        fence=request.fence,
        parts=tuple(map(part_of, request.parts)),
        last_seq=request.last_seq,
        usage=usage_of(request.usage) if request.HasField("usage") else None,
    )


def _retry_request(request: data_pb2.RetryRunRequest) -> RetryRequest:
    return RetryRequest(
        run_id=request.run_id,
        fence=request.fence,
        error_reason=request.error_reason,
        delay_s=seconds("delay", request.delay),
        parts=tuple(map(part_of, request.parts)),
        usage=usage_of(request.usage) if request.HasField("usage") else None,
        last_seq=request.last_seq,
    )


def _finish_request(request: data_pb2.FinishRunRequest) -> FinishRequest:
    return FinishRequest(
        run_id=request.run_id,
        fence=request.fence,
        status=_STATUS_OF.get(request.status),
        error_reason=request.error_reason,
        parts=tuple(map(part_of, request.parts)),
        usage=usage_of(request.usage) if request.HasField("usage") else None,
        model=request.model,
        last_seq=request.last_seq,
    )


def _claim_pb(claim: Claim) -> data_pb2.Claim:
    return data_pb2.Claim(
        run=_run_pb(claim.run),
        kind=_KINDS[claim.kind],
        user_id=claim.user_id,
        org_id=claim.org_id,
        previous_owner=claim.previous_owner,
        begun_as=claim.begun_as,
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
        response_model=run.response_model,
        cancel_requested=run.cancel_requested,
        tries=run.tries,
        max_tries=run.max_tries,
        takeovers=run.takeovers,
    )
