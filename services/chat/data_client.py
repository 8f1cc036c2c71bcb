"""Data as the domain sees it."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

from parley.data.v1 import data_pb2, data_pb2_grpc
from runtime.channel import unary
from runtime.errors import NotFound
from services.chat.conversions import STATUSES, moment, part_pb, parts_of, run_of, text_of, usage_of
from services.chat.domain import Part, Run, RunNotFound, Stored
from services.chat.ports import Begun, PromptMessage, Role

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import grpc

    from services.chat.ports import Ending, NewRun

_HISTORY_ROLES = {data_pb2.ROLE_USER: Role.USER, data_pb2.ROLE_ASSISTANT: Role.ASSISTANT}


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
            run=run_of(begun.run),
            fence=begun.run.fence,
            content=text_of(begun.user_message),
            asked_at=moment(begun.user_message.create_time),
            history=tuple(PromptMessage(_HISTORY_ROLES[earlier.role], text_of(earlier)) for earlier in begun.history),
            existing=begun.existing,
        )

    async def checkpoint_run(
        self, run_id: str, *, fence: int, parts: Sequence[Part], last_seq: int, lease_s: float, token: str
    ) -> None:
        """Stores the answer so far and renews the lease."""
        request = data_pb2.CheckpointRunRequest(
            run_id=run_id, fence=fence, parts=map(part_pb, parts), last_seq=last_seq
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
            status=STATUSES[ending.status],
            error_reason=ending.error_reason,
            parts=map(part_pb, ending.parts),
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
        return run_of(finished.run)

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
            parts=tuple(parts_of(answer)),
            usage=usage_of(answer.usage) if answer.HasField("usage") else None,
            last_seq=run.last_seq,
            fence=run.fence,
            owner=run.owner,
            lease_expires_at=run.lease_expire_time.ToNanoseconds() / 1e9 if run.HasField("lease_expire_time") else None,
        )


@contextlib.contextmanager
def _ours() -> Iterator[None]:
    """Makes data's answer about an unknown run the one this service gives by itself: the two must not be told apart."""
    try:
        yield
    except NotFound:
        raise RunNotFound from None
