"""`parley.chat.v1.ChatService`: the contract's messages to the domain's and back."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

from parley.chat.v1 import chat_pb2 as pb
from parley.chat.v1 import chat_pb2_grpc
from runtime import validation
from runtime.context import credential, current_identity, request_id
from runtime.wellknown import timestamp
from services.chat.asks import Ask
from services.chat.caller import Caller
from services.chat.log import Tap
from services.chat.ports import Branch, BranchKind, OnConflict
from services.chat.wire import add_event, add_texts, event_pb, run_pb

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable

    from services.chat.conversations import Conversations
    from services.chat.dead_letters import DeadLetters
    from services.chat.domain import Event
    from services.chat.runs import Runs

_CONFLICTS: dict[int, OnConflict] = {
    pb.ON_CONFLICT_UNSPECIFIED: OnConflict.REJECT,
    pb.ON_CONFLICT_REJECT: OnConflict.REJECT,
    pb.ON_CONFLICT_ENQUEUE: OnConflict.ENQUEUE,
    pb.ON_CONFLICT_INTERRUPT: OnConflict.INTERRUPT,
}


class ChatServicer(chat_pb2_grpc.ChatServiceServicer):
    """Runs, conversations and dead letters over gRPC."""

    def __init__(self, runs: Runs, conversations: Conversations, dead_letters: DeadLetters) -> None:
        self._runs = runs
        self._conversations = conversations
        self._dead_letters = dead_letters

    async def StartRun(self, request: pb.StartRunRequest, context: Any) -> AsyncGenerator[pb.StartRunResponse, None]:
        spout = _Spout(pb.StartRunResponse, context)
        watching = await self._runs.start(_ask(request), _caller(), spout.tap)
        del request  # the message may be long, and the answer take long
        async with watching:
            async for events in watching.batches:
                yield spout.response(watching.run_id, events)

    async def SubmitRun(self, request: pb.SubmitRunRequest, context: Any) -> pb.SubmitRunResponse:
        return pb.SubmitRunResponse(run=run_pb(await self._runs.submit(_ask(request), _caller())))

    async def WatchRun(self, request: pb.WatchRunRequest, context: Any) -> AsyncGenerator[pb.WatchRunResponse, None]:
        spout = _Spout(pb.WatchRunResponse, context)
        watching = await self._runs.watch(request.run_id, request.after_seq, _caller(), spout.tap)
        del request
        async with watching:
            async for events in watching.batches:
                yield spout.response(watching.run_id, events)

    async def WatchConversation(
        self, request: pb.WatchConversationRequest, context: Any
    ) -> AsyncGenerator[pb.WatchConversationResponse, None]:
        watching = self._conversations.watch(
            request.conversation_id, request.after_run_id, request.after_seq, _caller()
        )
        async with contextlib.aclosing(watching) as batches:
            async for run_id, events in batches:
                yield pb.WatchConversationResponse(run_id=run_id, events=map(event_pb, events))

    async def CancelRun(self, request: pb.CancelRunRequest, context: Any) -> pb.CancelRunResponse:
        return pb.CancelRunResponse(run=run_pb(await self._runs.cancel(request.run_id, _caller())))

    async def GetRun(self, request: pb.GetRunRequest, context: Any) -> pb.GetRunResponse:
        return pb.GetRunResponse(run=run_pb(await self._runs.get(request.run_id, _caller())))

    async def ListDeadLetters(self, request: pb.ListDeadLettersRequest, context: Any) -> pb.ListDeadLettersResponse:
        letters, following = await self._dead_letters.list(request.page_size, request.page_token, _caller())
        return pb.ListDeadLettersResponse(
            dead_letters=[
                pb.DeadLetter(
                    run=run_pb(letter.run),
                    user_id=letter.user_id,
                    tries=letter.tries,
                    create_time=timestamp(letter.given_up_at),
                )
                for letter in letters
            ],
            next_page_token=following,
        )

    async def RetryDeadLetter(self, request: pb.RetryDeadLetterRequest, context: Any) -> pb.RetryDeadLetterResponse:
        return pb.RetryDeadLetterResponse(run=run_pb(await self._dead_letters.retry(request.run_id, _caller())))

    async def DropDeadLetter(self, request: pb.DropDeadLetterRequest, context: Any) -> pb.DropDeadLetterResponse:
        await self._dead_letters.drop(request.run_id, _caller())
        return pb.DropDeadLetterResponse()


class _Spout:
    """Sends a run's events: those of the generator, and, over a shared connection, what a tap takes.

    Attributes:
        tap: For the events after those that have been sent; None: the call has a connection of its own, where each message is waited for.
    """

    __slots__ = ("_offer", "_response", "_run_id", "tap")

    def __init__(self, response: type[pb.StartRunResponse | pb.WatchRunResponse], context: Any) -> None:
        self._response = response
        self._run_id = ""
        self._offer: Callable[[Any], bool] | None = getattr(context, "offer", None)
        self.tap = Tap(self._take, self._write) if self._offer is not None else None

    def response(self, run_id: str, events: list[Event]) -> Any:
        """Returns the events as the contract spells them."""
        self._run_id = run_id
        response = self._response(run_id=run_id)
        for event in events:
            add_event(response.events, event)
        return response

    def _take(self, events: list[Event]) -> bool:
        # Without its id nobody could come back for a run: what is first goes the usual way.
        return bool(self._run_id) and self._offer is not None and self._offer(self.response(self._run_id, events))

    def _write(self, seq: int, offset: int, texts: list[str]) -> bool:
        if not self._run_id or self._offer is None:
            return False
        response = self._response(run_id=self._run_id)
        add_texts(response.events, texts, seq=seq, offset=offset)
        return self._offer(response)


def _ask(request: pb.StartRunRequest | pb.SubmitRunRequest) -> Ask:
    conflict = _CONFLICTS.get(request.on_conflict)
    if conflict is None:
        raise validation.invalid("on_conflict", "must be REJECT, ENQUEUE or INTERRUPT.")
    branch: Branch | None = None
    match request.WhichOneof("branch"):
        case "edit_message_id":
            branch = Branch(BranchKind.EDIT, request.edit_message_id)
        case "regenerate_message_id":
            branch = Branch(BranchKind.REGENERATE, request.regenerate_message_id)
        case "continue_message_id":
            branch = Branch(BranchKind.CONTINUE, request.continue_message_id)
    return Ask(request.conversation_id, request.message, request.client_message_id, request.model, conflict, branch)


def _caller() -> Caller:
    return Caller(current_identity(), credential.get(), request_id.get())
