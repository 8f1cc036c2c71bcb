"""`parley.chat.v1.ChatService`: the contract's messages to the domain's and back."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

from parley.chat.v1 import chat_pb2, chat_pb2_grpc
from runtime.context import credential, current_identity, request_id
from services.chat.runs import Ask, Caller
from services.chat.wire import event_pb, run_pb

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from services.chat.runs import Runs


class ChatServicer(chat_pb2_grpc.ChatServiceServicer):
    """Runs over gRPC."""

    def __init__(self, runs: Runs) -> None:
        self._runs = runs

    async def StartRun(
        self, request: chat_pb2.StartRunRequest, context: Any
    ) -> AsyncGenerator[chat_pb2.StartRunResponse, None]:
        ask = Ask(request.conversation_id, request.message, request.client_message_id, request.model)
        # Closed here: a generator that is merely dropped ends whenever it is collected, and holds its place as a watcher until then.
        async with contextlib.aclosing(self._runs.start(ask, _caller())) as batches:
            async for run_id, events in batches:
                yield chat_pb2.StartRunResponse(run_id=run_id, events=map(event_pb, events))

    async def WatchRun(
        self, request: chat_pb2.WatchRunRequest, context: Any
    ) -> AsyncGenerator[chat_pb2.WatchRunResponse, None]:
        async with contextlib.aclosing(self._runs.watch(request.run_id, request.after_seq, _caller())) as batches:
            async for run_id, events in batches:
                yield chat_pb2.WatchRunResponse(run_id=run_id, events=map(event_pb, events))

    async def CancelRun(self, request: chat_pb2.CancelRunRequest, context: Any) -> chat_pb2.CancelRunResponse:
        return chat_pb2.CancelRunResponse(run=run_pb(await self._runs.cancel(request.run_id, _caller())))

    async def GetRun(self, request: chat_pb2.GetRunRequest, context: Any) -> chat_pb2.GetRunResponse:
        return chat_pb2.GetRunResponse(run=run_pb(await self._runs.get(request.run_id, _caller())))


def _caller() -> Caller:
    return Caller(current_identity(), credential.get(), request_id.get())
