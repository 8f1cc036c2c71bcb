"""Runs: start one and watch it, watch one again, look at it, stop it."""

from typing import Annotated, Any
from uuid import UUID

from fastapi import APIRouter, Header, Query, Request, Response

from parley.chat.v1 import chat_pb2
from runtime.channel import stream
from services.edge.calls import SignedInRoute
from services.edge.clients import Services
from services.edge.description import BEARER, responses
from services.edge.problems import NotAcceptable
from services.edge.runs.shapes import NewRun, NewTurn, Run
from services.edge.runs.sse import accepts, cursor
from services.edge.runs.stream import EventStream, Streams

After = Annotated[int | None, Query(ge=0, le=2**63 - 1, description="Events after this position.")]
LastEventId = Annotated[
    str, Header(description="`<run_id>:<seq>`, the last id seen; wins over `after`.", max_length=128)
]

_EXAMPLE = """\
: ok

id: 0193…:1
event: run
data: {"run_id":"0193…","seq":1,"conversation_id":"…","message_id":"…","user_message_id":"…","model":"fast"}

id: 0193…:4
event: text
data: {"run_id":"0193…","seq":4,"delta":"Because","offset":0}

id: 0193…:9
event: done
data: {"run_id":"0193…","seq":9,"status":"completed","message_id":"…"}

"""
_EVENT = {
    "title": "RunEvent",
    "type": "object",
    "required": ["id", "event", "data"],
    "properties": {
        "id": {"type": "string", "description": "`<run_id>:<seq>`"},
        "event": {
            "type": "string",
            "enum": ["run", "user_message", "thinking", "text", "reasoning", "usage", "done", "error"],
        },
        "data": {"type": "string", "contentMediaType": "application/json"},
    },
}
_STREAM: dict[int | str, dict[str, Any]] = {
    200: {
        "description": (
            "The run's events: `run`, `user_message`, `thinking`, `text`, `reasoning`, `usage`, and at last `done` or `error`. "
            "Ignore names you do not know. A stream that ends without `done` or `error` was cut off: go on from "
            "`GET /v1/runs/{run_id}/events` with the last id you saw."
        ),
        "content": {"text/event-stream": {"itemSchema": _EVENT, "example": _EXAMPLE}},
    }
}


class RunRoutes:
    """The paths of runs.

    Args:
        services: The services behind.
        streams: The event streams that are open.
    """

    def __init__(self, services: Services, streams: Streams) -> None:
        self._services = services
        self._chat = services.chat
        self._streams = streams

    def routers(self) -> list[APIRouter]:
        """Returns the routes."""
        router = APIRouter(route_class=SignedInRoute, tags=["Runs"])
        one = "/v1/runs/{run_id}"
        router.add_api_route(
            "/v1/chat",
            self.chat,
            methods=["POST"],
            response_class=Response,
            summary="Send a message and stream the answer",
            responses={**_STREAM, **responses(404, 406, 409, 429, body=True)},
            openapi_extra=BEARER,
        )
        router.add_api_route(
            "/v1/conversations/{conversation_id}/runs",
            self.start,
            methods=["POST"],
            response_class=Response,
            summary="Send a message in a conversation and stream the answer",
            responses={**_STREAM, **responses(404, 406, 409, 429, body=True)},
            openapi_extra=BEARER,
        )
        router.add_api_route(
            one,
            self.get,
            methods=["GET"],
            response_model=Run,
            summary="Get a run",
            responses=responses(404),
            openapi_extra=BEARER,
        )
        router.add_api_route(
            one + "/cancel",
            self.cancel,
            methods=["POST"],
            response_model=Run,
            summary="Stop a run",
            responses=responses(404),
            openapi_extra=BEARER,
        )
        router.add_api_route(
            one + "/events",
            self.events,
            methods=["GET"],
            response_class=Response,
            summary="Stream a run's events",
            responses={
                **_STREAM,
                204: {"description": "The run has ended and there is nothing after the cursor: do not come back."},
                **responses(404, 406),
            },
            openapi_extra=BEARER,
        )
        return [router]

    async def chat(self, body: NewTurn, request: Request) -> Response:
        """Starts a run, in a new conversation if none is named. It goes on if the caller goes away."""
        return self._start(request, body, str(body.conversation_id) if body.conversation_id else "")

    async def start(self, conversation_id: UUID, body: NewRun, request: Request) -> Response:
        """Starts a run. It goes on if the caller goes away."""
        return self._start(request, body, str(conversation_id))

    async def get(self, run_id: UUID) -> Response:
        """Returns where a run stands."""
        response = await self._services.call(self._chat.GetRun, chat_pb2.GetRunRequest(run_id=str(run_id)))
        return _answer(response.run)

    async def cancel(self, run_id: UUID) -> Response:
        """Stops a run and keeps what had been written. Stopping an ended run changes nothing."""
        response = await self._services.call(self._chat.CancelRun, chat_pb2.CancelRunRequest(run_id=str(run_id)))
        return _answer(response.run)

    async def events(
        self, run_id: UUID, request: Request, after: After = None, last_event_id: LastEventId = ""
    ) -> Response:
        """Streams every event after a cursor, then live ones to the run's end."""
        _require_event_stream(request)
        position = cursor(str(run_id), last_event_id, after)
        message = chat_pb2.WatchRunRequest(run_id=str(run_id), after_seq=position)
        return EventStream(self._streams, stream(self._chat.WatchRun, message), quiet_start=position > 0)

    def _start(self, request: Request, body: NewRun, conversation_id: str) -> Response:
        _require_event_stream(request)
        message = chat_pb2.StartRunRequest(
            conversation_id=conversation_id,
            message=body.message,
            client_message_id=body.client_message_id or "",
            model=body.model or "",
        )
        return EventStream(self._streams, stream(self._chat.StartRun, message), quiet_start=False)


def _require_event_stream(request: Request) -> None:
    if not accepts(request.headers.get("accept", "")):
        raise NotAcceptable("There is only `text/event-stream` here; accept it.")


def _answer(run: chat_pb2.Run) -> Response:
    return Response(Run.of(run).model_dump_json(), media_type="application/json")
