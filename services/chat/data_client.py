"""Data as the domain sees it."""

from __future__ import annotations

import contextlib
import functools
from typing import TYPE_CHECKING

from parley.data.v1 import data_pb2, data_pb2_grpc
from runtime.channel import unary
from runtime.errors import NotFound
from services.chat.asking import Earlier, Role
from services.chat.checkpoints import Checkpoints
from services.chat.conversions import STATUSES, duration, moment, part_pb, parts_of, run_of, text_of, usage_of, usage_pb
from services.chat.domain import Part, Run, RunNotFound, Stored
from services.chat.ports import (
    ActiveLimits,
    Begun,
    BranchKind,
    Claim,
    Claimed,
    ClaimKind,
    DeadLetter,
    OnConflict,
    RequestLimits,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import grpc

    from services.chat.domain import Usage
    from services.chat.ports import Ending, NewRun

_HISTORY_ROLES = {data_pb2.ROLE_USER: Role.USER, data_pb2.ROLE_ASSISTANT: Role.ASSISTANT}
_CONFLICTS = {
    OnConflict.REJECT: data_pb2.ON_CONFLICT_REJECT,
    OnConflict.ENQUEUE: data_pb2.ON_CONFLICT_ENQUEUE,
    OnConflict.INTERRUPT: data_pb2.ON_CONFLICT_INTERRUPT,
}
_CLAIM_KINDS = {
    data_pb2.Claim.KIND_QUEUED: ClaimKind.QUEUED,
    data_pb2.Claim.KIND_RELEASED: ClaimKind.RELEASED,
    data_pb2.Claim.KIND_LAPSED: ClaimKind.LAPSED,
}
_PAGE = 100


class DataClient:
    """`Data` over gRPC.

    Args:
        channel: To the data service.
        timeout_s: Longest wait for an answer.
    """

    def __init__(self, channel: grpc.aio.Channel, *, timeout_s: float) -> None:
        self._stub = data_pb2_grpc.RunServiceStub(channel)
        self._conversations = data_pb2_grpc.ConversationServiceStub(channel)
        self._checkpoints = Checkpoints(self._stub, timeout_s=timeout_s)
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
            background=new.background,
            max_tries=new.max_tries,
            on_conflict=_CONFLICTS[new.on_conflict],
            active_limits=_limits_pb(new.limits),
            request_limits=_request_limits_pb(new.request_limits),
            lease=duration(new.lease_s),
        )
        match new.branch:
            case (BranchKind.EDIT, message_id):
                request.edit_message_id = message_id
            case (BranchKind.REGENERATE, message_id):
                request.regenerate_message_id = message_id
            case (BranchKind.CONTINUE, message_id):
                request.continue_message_id = message_id
        begun = await unary(self._stub.BeginRun, request, timeout_s=self._timeout_s, token=token)
        run = begun.run
        return Begun(
            run=run_of(run),
            fence=run.fence,
            content=text_of(begun.user_message),
            asked_at=moment(begun.user_message.create_time),
            history=tuple(map(_earlier, begun.history)),
            existing=begun.existing,
            answer=parts_of(begun.answer),
            last_seq=run.last_seq,
            max_tries=run.max_tries or 1,
            untitled=begun.untitled,
            interrupted=tuple((other.id, other.owner) for other in begun.interrupted),
        )

    async def claim_runs(
        self, owner: str, *, lease_s: float, suspicion_s: float, max_runs: int, limits: ActiveLimits, token: str
    ) -> Claimed:
        """Takes runs that nobody owns; needs the service's own token."""
        request = data_pb2.ClaimRunsRequest(
            owner=owner,
            max_runs=max_runs,
            active_limits=_limits_pb(limits),
            lease=duration(lease_s),
            suspicion=duration(suspicion_s),
        )
        claimed = await unary(self._stub.ClaimRuns, request, timeout_s=self._timeout_s, token=token)
        claims = (
            Claim(
                run_id=claim.run.id,
                conversation_id=claim.run.conversation_id,
                model=claim.run.model,
                fence=claim.run.fence,
                kind=_CLAIM_KINDS[claim.kind],
                user_id=claim.user_id,
                org_id=claim.org_id,
                previous_owner=claim.previous_owner,
                begun_as=claim.begun_as,
            )
            for claim in claimed.claims
        )
        due = claimed.next_due_time.ToNanoseconds() / 1e9 if claimed.HasField("next_due_time") else None
        return Claimed(tuple(claims), due)

    async def load_run(self, claim: Claim, *, history_max_messages: int, history_max_tokens: int, token: str) -> Begun:
        """Returns a claimed run with what is stored of it and the history that fits."""
        request = data_pb2.LoadRunRequest(
            run_id=claim.run_id,
            fence=claim.fence,
            history_max_messages=history_max_messages,
            history_max_tokens=history_max_tokens,
        )
        with _ours():
            loaded = await unary(self._stub.LoadRun, request, timeout_s=self._timeout_s, token=token)
        run = loaded.run
        return Begun(
            run=run_of(run),
            fence=claim.fence,
            content=text_of(loaded.user_message),
            asked_at=moment(loaded.user_message.create_time),
            history=tuple(map(_earlier, loaded.history)),
            existing=False,
            answer=parts_of(loaded.answer),
            last_seq=run.last_seq,
            claim=claim.kind,
            tries=run.tries,
            max_tries=run.max_tries or 1,
            takeovers=run.takeovers,
            cancel_requested=run.cancel_requested,
            untitled=loaded.untitled,
            usage=usage_of(loaded.answer.usage) if loaded.answer.HasField("usage") else None,
        )

    async def checkpoint_run(
        self,
        run_id: str,
        *,
        fence: int,
        parts: Sequence[Part],
        usage: Usage | None,
        last_seq: int,
        lease_s: float,
        token: str,
    ) -> bool:
        """Stores the answer so far and renews the lease; says whether somebody wants the run stopped."""
        request = data_pb2.CheckpointRunRequest(
            run_id=run_id,
            fence=fence,
            parts=map(part_pb, parts),
            usage=None if usage is None else usage_pb(usage),
            last_seq=last_seq,
            lease=duration(lease_s),
        )
        with _ours():
            return await self._checkpoints.store(request, token=token)

    async def release_run(
        self, run_id: str, *, fence: int, parts: Sequence[Part], usage: Usage | None, last_seq: int, token: str
    ) -> None:
        """Stores the answer so far and gives the run back, to be claimed at once."""
        request = data_pb2.ReleaseRunRequest(
            run_id=run_id,
            fence=fence,
            parts=map(part_pb, parts),
            usage=None if usage is None else usage_pb(usage),
            last_seq=last_seq,
        )
        with _ours():
            await unary(self._stub.ReleaseRun, request, timeout_s=self._timeout_s, token=token)

    async def retry_run(self, failed: Ending, *, delay_s: float, token: str) -> Run:
        """Puts a failed try back into the queue; after the last one the run ends."""
        request = data_pb2.RetryRunRequest(
            run_id=failed.run_id,
            fence=failed.fence,
            error_reason=failed.error_reason,
            parts=map(part_pb, failed.parts),
            usage=usage_pb(failed.usage),
            last_seq=failed.last_seq,
            delay=duration(delay_s),
        )
        with _ours():
            response = await unary(self._stub.RetryRun, request, timeout_s=self._timeout_s, token=token)
        return run_of(response.run)

    async def finish_run(self, ending: Ending, *, token: str) -> Run:
        """Stores the whole answer; a run that has ended stays as it is and is returned."""
        request = data_pb2.FinishRunRequest(
            run_id=ending.run_id,
            fence=ending.fence,
            status=STATUSES[ending.status],
            error_reason=ending.error_reason,
            parts=map(part_pb, ending.parts),
            usage=usage_pb(ending.usage),
            model=ending.model,
            last_seq=ending.last_seq,
        )
        with _ours():
            finished = await unary(self._stub.FinishRun, request, timeout_s=self._timeout_s, token=token)
        return run_of(finished.run)

    async def cancel_run(self, run_id: str, *, token: str) -> tuple[Run, str]:
        """Stores the wish to stop a run; returns it and the name of its owner."""
        request = data_pb2.CancelRunRequest(run_id=run_id)
        with _ours():
            response = await unary(self._stub.CancelRun, request, timeout_s=self._timeout_s, token=token)
        return run_of(response.run), response.run.owner

    async def get_run(self, run_id: str, *, token: str) -> Stored:
        """Returns what is stored of a run."""
        request = data_pb2.GetRunRequest(run_id=run_id)
        with _ours():
            found = await unary(self._stub.GetRun, request, timeout_s=self._timeout_s, token=token)
        run, answer = found.run, found.answer
        return Stored(
            run=run_of(run),
            content=text_of(found.user_message),
            asked_at=moment(found.user_message.create_time),
            parts=parts_of(answer),
            usage=usage_of(answer.usage) if answer.HasField("usage") else None,
            last_seq=run.last_seq,
        )

    async def list_runs(
        self, conversation_id: str, *, after_run_id: str = "", active_only: bool = False, token: str
    ) -> Sequence[Run]:
        """Returns the runs of a conversation in the order in which they began."""
        request = data_pb2.ListRunsRequest(
            conversation_id=conversation_id, after_run_id=after_run_id, active_only=active_only, page_size=_PAGE
        )
        runs: list[Run] = []
        while True:
            response = await unary(self._stub.ListRuns, request, timeout_s=self._timeout_s, token=token)
            runs += map(run_of, response.runs)
            if len(response.runs) < _PAGE:
                return runs
            request.after_run_id = response.runs[-1].id

    async def check_conversation(self, conversation_id: str, *, token: str) -> None:
        """Returns where there is such a conversation and the caller may see it."""
        request = data_pb2.GetConversationRequest(conversation_id=conversation_id)
        await unary(self._conversations.GetConversation, request, timeout_s=self._timeout_s, token=token)

    async def entitle(self, conversation_id: str, title: str, *, token: str) -> None:
        """Gives a title to a conversation that has none."""
        request = data_pb2.UpdateConversationRequest(conversation_id=conversation_id, title=title, if_untitled=True)
        await unary(self._conversations.UpdateConversation, request, timeout_s=self._timeout_s, token=token)

    async def list_dead_letters(
        self, *, page_size: int, page_token: str, token: str
    ) -> tuple[Sequence[DeadLetter], str]:
        """Returns one page of dead letters, the newest first, and the token of the next one."""
        request = data_pb2.ListDeadLettersRequest(page_size=page_size, page_token=page_token)
        page = await unary(self._stub.ListDeadLetters, request, timeout_s=self._timeout_s, token=token)
        letters = [
            DeadLetter(run_of(letter.run), letter.user_id, letter.run.tries, moment(letter.create_time))
            for letter in page.dead_letters
        ]
        return letters, page.next_page_token

    async def retry_dead_letter(self, run_id: str, *, token: str) -> Run:
        """Puts a dead letter back into the queue."""
        request = data_pb2.RetryDeadLetterRequest(run_id=run_id)
        response = await unary(self._stub.RetryDeadLetter, request, timeout_s=self._timeout_s, token=token)
        return run_of(response.run)

    async def drop_dead_letter(self, run_id: str, *, token: str) -> None:
        """Takes a dead letter off the list."""
        request = data_pb2.DropDeadLetterRequest(run_id=run_id)
        await unary(self._stub.DropDeadLetter, request, timeout_s=self._timeout_s, token=token)


@contextlib.contextmanager
def _ours() -> Iterator[None]:
    """Makes data's answer about an unknown run the one this service gives by itself: the two must not be told apart."""
    try:
        yield
    except NotFound:
        raise RunNotFound from None


# What is the same for each run is spelt once; it is copied into each request, and must not be changed.
@functools.lru_cache(maxsize=16)
def _limits_pb(limits: ActiveLimits) -> data_pb2.ActiveLimits:
    return data_pb2.ActiveLimits(
        per_user=limits.per_user,
        per_conversation=limits.per_conversation,
        queued_per_user=limits.queued_per_user,
    )


@functools.lru_cache(maxsize=16)
def _request_limits_pb(limits: RequestLimits) -> data_pb2.RequestLimits:
    return data_pb2.RequestLimits(per_minute=limits.per_minute, per_hour=limits.per_hour, per_day=limits.per_day)


def _earlier(message: data_pb2.Message) -> Earlier:
    return Earlier(_HISTORY_ROLES[message.role], parts_of(message))
