"""OpenAI's responses on top of runs: a response is a run, stored and resumable; it goes on when its client goes away."""

from __future__ import annotations

import contextlib
import functools
from typing import TYPE_CHECKING, Annotated, Any

import msgspec
from fastapi import APIRouter, Query, Request, Response

from parley.chat.v1 import chat_pb2
from runtime.channel import stream
from runtime.errors import ParleyError, ResourceExhausted, Unavailable
from runtime.validation import invalid
from services.edge.clients import Services  # noqa: TC001 - as everywhere in routes
from services.edge.dialects.openai.answers import WholeAnswer
from services.edge.dialects.openai.bodies import Reader
from services.edge.dialects.openai.description import RESPONSE
from services.edge.dialects.openai.errors import envelope
from services.edge.dialects.openai.response_bodies import ResponseBody, message_of
from services.edge.dialects.openai.response_events import Projection, of_run
from services.edge.dialects.openai.response_ids import run_id_of, told_as_response
from services.edge.dialects.openai.routing import Operation, router_of
from services.edge.problems import status_of
from services.edge.runs.reattach import RunFeed
from services.edge.runs.sse import when_again
from services.edge.runs.start import watching
from services.edge.streams import PushedStream, Streams, being_replaced

if TYPE_CHECKING:
    from collections.abc import Callable

_body = Reader(ResponseBody)
_ACTIVE = frozenset({chat_pb2.RUN_STATUS_QUEUED, chat_pb2.RUN_STATUS_RUNNING})
_LONGEST_KEY = 128
StartingAfter = Annotated[int | None, Query(ge=0, description="Number of the last event seen.")]


class ResponseStream(PushedStream):
    """A response's events.

    Args:
        streams: Where it takes its place.
        feed: The run's events, from the first one.
        run: The run, where it is known.
        starting_after: Number of the last event that is not told again.
    """

    def __init__(
        self, streams: Streams, feed: RunFeed, *, run: chat_pb2.Run | None = None, starting_after: int = -1
    ) -> None:
        super().__init__(streams, quiet_start=starting_after >= 0)
        self._feed = feed
        self._run = run
        self._starting_after = starting_after
        self._projection: Projection | None = None

    async def relay(self) -> None:
        """Writes the events."""
        async with contextlib.aclosing(self._feed.batches()) as batches:
            async for batch in batches:
                if self._projection is None:
                    self._projection = _projection(batch.run_id, self._run, self._starting_after)
                if data := self._projection.frames(batch.events):
                    await self.write(data, len(batch.events))

    def commit(self) -> None:
        """Tells the feed."""
        self._feed.commit()

    def farewell(self, error: ParleyError | None) -> bytes:
        """Returns the event that OpenAI's clients raise; whoever comes back goes on after the last number before it."""
        told = error or being_replaced()
        said = envelope(told, status_of(told))["error"]
        number = self._projection.number if self._projection else 0
        data = {name: said[name] for name in ("message", "code", "param")} | {"sequence_number": max(number, 0)}
        return b"event: error\ndata: %b\n\n" % msgspec.json.encode({"type": "error", **data})


class ResponseRoutes:
    """The paths below `/openai/v1/responses`.

    Args:
        services: The services behind.
        streams: The answers under way.
        patience_s: How long a stream looks for another instance when its own has gone.
    """

    def __init__(self, services: Services, streams: Streams, *, patience_s: float) -> None:
        self._services = services
        self._chat = services.chat
        self._streams = streams
        self._patience_s = patience_s

    def routers(self) -> list[APIRouter]:
        """Returns the routes."""
        return [
            router_of(
                Operation(
                    "POST",
                    "/responses",
                    self.create,
                    "Answer a message in a conversation",
                    streams=True,
                    extra=RESPONSE,
                ),
                Operation(
                    "GET",
                    "/responses/{response_id}",
                    self.get,
                    "Get a response, or go on with its events",
                    streams=True,
                ),
                Operation("POST", "/responses/{response_id}/cancel", self.cancel, "Stop a response"),
            )
        ]

    async def create(self, request: Request) -> Response:
        """Answers a message as OpenAI's `responses` does. What is answered is kept; it goes on if the client goes away."""
        body: ResponseBody = _body.read(await request.body())
        fields: dict[str, Any] = {
            "message": message_of(body),
            "model": body.model or "",
            "client_message_id": request.headers.get("idempotency-key", "")[:_LONGEST_KEY],
            "conversation_id": await self._conversation(body),
        }
        if body.background:
            fields["on_conflict"] = chat_pb2.ON_CONFLICT_ENQUEUE
            submitted = await self._services.call(self._chat.SubmitRun, chat_pb2.SubmitRunRequest(**fields))
            if not body.stream:
                return _json(of_run(submitted.run))
            return self._answer(self._watch(submitted.run.id), streamed=True, run=submitted.run)
        message = chat_pb2.StartRunRequest(**fields)
        feed = self._feed(lambda: stream(self._chat.StartRun, message), repeatable=bool(message.client_message_id))
        return self._answer(feed, streamed=bool(body.stream))

    async def get(
        self,
        response_id: str,
        stream: bool = False,
        starting_after: StartingAfter = None,
    ) -> Response:
        """Returns a response: one that has ended with its output. With `stream=true` its events, live ones too."""
        run_id = run_id_of(response_id)
        if stream:
            after = -1 if starting_after is None else starting_after
            run = await self._run(run_id)
            return ResponseStream(self._streams, self._watch(run.id), run=run, starting_after=after)
        return await self._told(await self._run(run_id))

    async def cancel(self, response_id: str) -> Response:
        """Stops a response and keeps what had been written. Again it changes nothing."""
        request = chat_pb2.CancelRunRequest(run_id=run_id_of(response_id))
        with told_as_response():
            response = await self._services.call(self._chat.CancelRun, request)
        return await self._told(response.run)

    async def _told(self, run: chat_pb2.Run) -> Response:
        if run.status in _ACTIVE:
            return _json(of_run(run))
        return self._answer(self._watch(run.id), streamed=False, run=run)

    async def _conversation(self, body: ResponseBody) -> str:
        if body.previous_response_id:
            if body.conversation:
                raise invalid("previous_response_id", "cannot go with conversation; leave one of them out.")
            return (await self._run(run_id_of(body.previous_response_id))).conversation_id
        given = body.conversation
        return given if isinstance(given, str) else given.id if given is not None else ""

    async def _run(self, run_id: str) -> chat_pb2.Run:
        with told_as_response():
            response = await self._services.call(self._chat.GetRun, chat_pb2.GetRunRequest(run_id=run_id))
        run: chat_pb2.Run = response.run
        return run

    def _watch(self, run_id: str) -> RunFeed:
        watch = functools.partial(watching(self._services), run_id, 0)
        return self._feed(watch, repeatable=True, run_id=run_id)

    def _feed(self, first: Callable[[], Any], *, repeatable: bool, **place: Any) -> RunFeed:
        return RunFeed(first, watching(self._services), patience_s=self._patience_s, repeatable=repeatable, **place)

    def _answer(self, feed: RunFeed, *, streamed: bool, run: chat_pb2.Run | None = None) -> Response:
        if streamed:
            return ResponseStream(self._streams, feed, run=run)
        return WholeAnswer(self._streams, lambda: _whole(feed, run))


def _projection(run_id: str, run: chat_pb2.Run | None, starting_after: int = -1) -> Projection:
    if run is None:
        return Projection(run_id, starting_after=starting_after)
    model = run.response_model or run.model
    return Projection(run_id, conversation_id=run.conversation_id, model=model, starting_after=starting_after)


async def _whole(feed: RunFeed, run: chat_pb2.Run | None) -> bytes:
    projection: Projection | None = None
    async with contextlib.aclosing(feed.batches()) as batches:
        async for batch in batches:
            projection = projection or _projection(batch.run_id, run)
            projection.frames(batch.events)
            last = batch.events[-1]
    if projection is None or not projection.ended:
        raise Unavailable("The response was cut off; get it by its id.", retry_after_s=1)
    if run is None and last.error.HasField("limit") and not projection.response["output"]:
        # Whoever waits for it is told as by any other limit; whoever gets it later sees that it has failed.
        raise _exhausted(last.error)
    return msgspec.json.encode(projection.response)


def _exhausted(error: chat_pb2.Error) -> ParleyError:
    limits = {name: str(value) for name, value in when_again(error).items() if name != "retry_after"}
    return ResourceExhausted.of(error.reason, error.message, retry_after_s=error.retry_after_s or None, **limits)


def _json(value: Any) -> Response:
    return Response(msgspec.json.encode(value), media_type="application/json")
