"""Checkpoints of many runs on their way to data: those of one moment travel as one call."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING

from parley.data.v1 import data_pb2
from runtime.channel import unary
from runtime.errors import DeadlineExceeded, ParleyError, Unavailable

if TYPE_CHECKING:
    from collections.abc import Sequence

    from parley.data.v1 import data_pb2_grpc

_MOST = 50
_MOST_BYTES = 64 * 1024
"""Of one run; what is larger goes by itself, so that a call never gets too large."""


@dataclass(frozen=True, slots=True)
class _Due:
    request: data_pb2.CheckpointRunRequest
    token: str
    stored: asyncio.Future[bool]

    def succeed(self, cancel_requested: bool) -> None:
        if not self.stored.done():  # whoever waited may have gone
            self.stored.set_result(cancel_requested)

    def fail(self, error: Exception) -> None:
        if not self.stored.done():
            self.stored.set_exception(error)


class Checkpoints:
    """Stores checkpoints; nobody waits for company: what goes together is what was asked for in the same turn of the event loop.

    Args:
        stub: Of data.
        timeout_s: Longest wait for an answer.
    """

    def __init__(self, stub: data_pb2_grpc.RunServiceAsyncStub, *, timeout_s: float) -> None:
        self._stub = stub
        self._timeout_s = timeout_s
        self._due: list[_Due] = []
        self._sending: set[asyncio.Task[None]] = set()

    async def store(self, request: data_pb2.CheckpointRunRequest, *, token: str) -> bool:
        """Stores one run's checkpoint with that run's credential; says whether somebody wants the run stopped.

        Raises: what data refuses it with; Unavailable; DeadlineExceeded.
        """
        if request.ByteSize() > _MOST_BYTES:
            return await self._alone(request, token)
        loop = asyncio.get_running_loop()
        if not self._due:
            loop.call_soon(self._send)
        due = _Due(request, token, loop.create_future())
        self._due.append(due)
        return await due.stored

    def _send(self) -> None:
        due, self._due = self._due, []
        for start in range(0, len(due), _MOST):
            task = asyncio.create_task(self._together(due[start : start + _MOST]))
            self._sending.add(task)
            task.add_done_callback(self._sending.discard)

    async def _together(self, due: Sequence[_Due]) -> None:
        if len(due) == 1:
            await self._by_itself(due[0])
            return
        request = data_pb2.CheckpointRunsRequest(
            items=[data_pb2.CheckpointRunsRequest.Item(access_token=one.token, checkpoint=one.request) for one in due]
        )
        try:
            answer = await unary(self._stub.CheckpointRuns, request, timeout_s=self._timeout_s, token=due[0].token)
            kept = [(its.stored, its.cancel_requested) for _, its in zip(due, answer.items, strict=True)]
        except Exception as error:  # noqa: BLE001 - told to whoever waits
            if isinstance(error, ParleyError) and not isinstance(error, (Unavailable, DeadlineExceeded)):
                # It may be the matter of one of them alone, or of a data service of the last release.
                kept = [(False, False)] * len(due)
            else:
                for one in due:
                    one.fail(error)
                return
        for one, (stored, cancel_requested) in zip(due, kept, strict=True):
            if stored:
                one.succeed(cancel_requested)
        await asyncio.gather(*map(self._by_itself, due))

    async def _by_itself(self, one: _Due) -> None:
        """Stores one that is not stored yet; it learns why where it cannot be."""
        if one.stored.done():
            return
        try:
            cancel_requested = await self._alone(one.request, one.token)
        except Exception as error:  # noqa: BLE001 - told to whoever waits
            one.fail(error)
        else:
            one.succeed(cancel_requested)

    async def _alone(self, request: data_pb2.CheckpointRunRequest, token: str) -> bool:
        kept = await unary(self._stub.CheckpointRun, request, timeout_s=self._timeout_s, token=token)
        return bool(kept.cancel_requested)
