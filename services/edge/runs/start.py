"""Starting runs: the two paths that take a message, and the two ways to answer it."""

import functools
from collections.abc import Callable
from typing import Any
from uuid import UUID

from fastapi import APIRouter, Request, Response
from starlette.types import Scope

from parley.chat.v1 import chat_pb2
from runtime.channel import stream
from services.edge.calls import SignedInRoute
from services.edge.clients import Services
from services.edge.description import BEARER, responses
from services.edge.problems import NotAcceptable
from services.edge.runs.event_description import RUN_STREAM
from services.edge.runs.negotiation import accepts, header, prefers_async
from services.edge.runs.reattach import LOST, Attempts, Batches, RunFeed, Tap
from services.edge.runs.shapes import NewRun, NewTurn, Submitted, request_of
from services.edge.runs.stream import EventStream
from services.edge.streams import Streams

_APPLIED = {"preference-applied": "respond-async"}
_SUBMITTED: dict[int | str, dict[str, Any]] = {
    202: {
        "model": Submitted,
        "description": (
            "The run is stored and will be answered in the background, for the request's header said `prefer: respond-async`. "
            "Watch it at `/v1/runs/{run_id}/events`."
        ),
        "headers": {
            "location": {"description": "Path of the run.", "schema": {"type": "string"}},
            "preference-applied": {"description": "`respond-async`.", "schema": {"type": "string"}},
        },
    }
}
_ANSWERS = {**RUN_STREAM, **_SUBMITTED, **responses(404, 406, 409, 429, body=True)}


class StartRoutes:
    """The paths that start a run.

    Args:
        services: The services behind.
        streams: The event streams that are open.
        patience_s: How long a stream looks for another instance when its own has gone.
    """

    def __init__(self, services: Services, streams: Streams, *, patience_s: float) -> None:
        self._services = services
        self._chat = services.chat
        self._streams = streams
        self._patience_s = patience_s

    def routers(self) -> list[APIRouter]:
        """Returns the routes."""
        router = APIRouter(route_class=SignedInRoute, tags=["Runs"])
        router.add_api_route(
            "/v1/chat",
            self.chat,
            methods=["POST"],
            response_class=Response,
            summary="Send a message and stream the answer",
            responses=_ANSWERS,
            openapi_extra=BEARER,
        )
        router.add_api_route(
            "/v1/conversations/{conversation_id}/runs",
            self.start,
            methods=["POST"],
            response_class=Response,
            summary="Send a message in a conversation and stream the answer; edit, regenerate, continue",
            responses=_ANSWERS,
            openapi_extra=BEARER,
        )
        return [router]

    async def chat(self, body: NewTurn, request: Request) -> Response:
        """Starts a run, in a new conversation if none is named. It goes on if the caller goes away.

        With the header `prefer: respond-async` it is stored, answered in the background, and this request is answered at once.
        """
        return await self.answer(request.scope, request_of(body))

    async def start(self, conversation_id: UUID, body: NewRun, request: Request) -> Response:
        """Starts a run: a message, new or edited, is answered, or an answer is given anew or gone on with.

        It goes on if the caller goes away. With the header `prefer: respond-async` it is stored, answered in the background, and this
        request is answered at once.
        """
        return await self.answer(request.scope, request_of(body, str(conversation_id)))

    async def answer(self, scope: Scope, fields: dict[str, Any]) -> Response:
        """Returns the answer that a request's headers ask for.

        Args:
            scope: The request's.
            fields: What `request_of` makes of its body.

        Raises: NotAcceptable; for `prefer: respond-async` also whatever chat raises.
        """
        if prefers_async(header(scope, b"prefer")):
            return await self._submit(chat_pb2.SubmitRunRequest(**fields))
        if not accepts(header(scope, b"accept")):
            raise NotAcceptable(
                "A run is answered as `text/event-stream`: accept it, or ask for `Prefer: respond-async`."
            )
        message = chat_pb2.StartRunRequest(**fields)
        tap = Tap()
        feed = RunFeed(
            lambda: stream(self._chat.StartRun, message, tap=tap),
            watching(self._services, tap),
            patience_s=self._patience_s,
            repeatable=bool(message.client_message_id),
            tap=tap,
        )
        return EventStream(self._streams, feed, quiet_start=False, tap=tap)

    async def _submit(self, message: chat_pb2.SubmitRunRequest) -> Response:
        attempts = Attempts(self._patience_s, repeatable=bool(message.client_message_id))
        while True:
            attempts.calling()
            try:
                response = await self._services.call(self._chat.SubmitRun, message)
            except LOST as error:
                await attempts.pause(error)
            else:
                break
        headers = {"location": f"/v1/runs/{response.run.id}", **_APPLIED}
        body = Submitted.of(response.run).model_dump_json()
        return Response(body, 202, headers, media_type="application/json")


def watching(services: Services, tap: Tap | None = None) -> Callable[[str, int], Batches]:
    """Returns what calls for a run's events after a position."""
    return functools.partial(_watch, services, tap)  # takes less than a function of its own, for each live stream


def _watch(services: Services, tap: Tap | None, run_id: str, after_seq: int) -> Batches:
    return stream(services.chat.WatchRun, chat_pb2.WatchRunRequest(run_id=run_id, after_seq=after_seq), tap=tap)
