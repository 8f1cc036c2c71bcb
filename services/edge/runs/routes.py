"""Runs: watch one, or all of a conversation; look at one, stop it."""

import functools
from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Header, Query, Request, Response

from parley.chat.v1 import chat_pb2
from runtime.channel import stream
from services.edge.calls import SignedInRoute
from services.edge.clients import Services
from services.edge.description import BEARER, responses
from services.edge.problems import NotAcceptable
from services.edge.runs import cursor
from services.edge.runs.conversation_feed import ConversationFeed
from services.edge.runs.event_description import CONVERSATION_STREAM, RUN_STREAM
from services.edge.runs.negotiation import accepts, header
from services.edge.runs.reattach import Batches, RunFeed, Tap
from services.edge.runs.shapes import Run
from services.edge.runs.start import watching
from services.edge.runs.stream import EventStream
from services.edge.streams import Streams

_UUID = "[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}"
After = Annotated[
    str | None,
    Query(
        description="Events after this position: `<seq>`, or `<run_id>:<seq>`.",
        max_length=128,
        json_schema_extra={"pattern": f"^({_UUID}:)?[0-9]{{1,19}}$"},
    ),
]
AfterEvent = Annotated[
    str | None,
    Query(
        description="`<run_id>:<seq>`, the last id seen.",
        max_length=128,
        json_schema_extra={"pattern": f"^{_UUID}:[0-9]{{1,19}}$"},
    ),
]
LastEventId = Annotated[
    str, Header(description="`<run_id>:<seq>`, the last id seen; wins over `after`.", max_length=128)
]


class RunRoutes:
    """The paths of runs, but for those that start one.

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
        one = "/v1/runs/{run_id}"
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
                **RUN_STREAM,
                204: {"description": "The run has ended and there is nothing after the cursor: do not come back."},
                **responses(404, 406, 429),
            },
            openapi_extra=BEARER,
        )
        router.add_api_route(
            "/v1/conversations/{conversation_id}/events",
            self.conversation_events,
            methods=["GET"],
            response_class=Response,
            summary="Stream the events of a conversation's runs",
            responses={**CONVERSATION_STREAM, **responses(404, 406, 429)},
            openapi_extra=BEARER,
        )
        return [router]

    async def get(self, run_id: UUID) -> Response:
        """Returns where a run stands."""
        return _answer(await self._run(str(run_id)))

    async def cancel(self, run_id: UUID) -> Response:
        """Stops a run and keeps what had been written. Stopping an ended run changes nothing."""
        response = await self._services.call(self._chat.CancelRun, chat_pb2.CancelRunRequest(run_id=str(run_id)))
        return _answer(response.run)

    async def events(
        self, run_id: UUID, request: Request, after: After = None, last_event_id: LastEventId = ""
    ) -> Response:
        """Streams every event after a cursor, then live ones to the run's end."""
        _require_event_stream(request)
        position = cursor.in_run(str(run_id), last_event_id, after)
        tap = Tap()
        watch = watching(self._services, tap)
        feed = RunFeed(
            functools.partial(watch, str(run_id), position),
            watch,
            patience_s=self._patience_s,
            repeatable=True,
            run_id=str(run_id),
            after_seq=position,
            tap=tap,
        )
        return EventStream(self._streams, feed, quiet_start=position > 0, tap=tap)

    async def conversation_events(
        self, conversation_id: UUID, request: Request, after: AfterEvent = None, last_event_id: LastEventId = ""
    ) -> Response:
        """Streams every run of a conversation, whoever starts it, for as long as the caller stays."""
        _require_event_stream(request)
        run_id, position = cursor.in_conversation(last_event_id, after)

        def watch(after_run_id: str, after_seq: int) -> Batches:
            message = chat_pb2.WatchConversationRequest(
                conversation_id=str(conversation_id), after_run_id=after_run_id, after_seq=after_seq
            )
            return stream(self._chat.WatchConversation, message)

        feed = ConversationFeed(
            watch,
            watching(self._services),
            self._has_ended,
            patience_s=self._patience_s,
            run_id=run_id,
            after_seq=position,
        )
        return EventStream(self._streams, feed, quiet_start=True, endless=True)

    async def _has_ended(self, run_id: str) -> bool:
        run = await self._run(run_id)
        return run.status not in {chat_pb2.RUN_STATUS_QUEUED, chat_pb2.RUN_STATUS_RUNNING}

    async def _run(self, run_id: str) -> chat_pb2.Run:
        response: chat_pb2.GetRunResponse = await self._services.call(
            self._chat.GetRun, chat_pb2.GetRunRequest(run_id=run_id)
        )
        return response.run


def _require_event_stream(request: Request) -> None:
    if not accepts(header(request.scope, b"accept")):
        raise NotAcceptable("There is only `text/event-stream` here; accept it.")


def _answer(run: chat_pb2.Run) -> Response:
    return Response(Run.of(run).model_dump_json(), media_type="application/json")
