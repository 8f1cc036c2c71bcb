"""Answers under way: one streamed, one that comes whole; either is given up, upstream too, when its client goes away."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, Any

import msgspec
from opentelemetry import trace
from starlette.responses import Response

from runtime.channel import stream
from runtime.errors import Unavailable
from services.edge.dialects.openai.chunks import Chunks, new_id
from services.edge.dialects.openai.errors import envelope
from services.edge.dialects.openai.whole import Whole
from services.edge.problems import status_of
from services.edge.streams import PushedStream, being_replaced

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from starlette.types import Receive, Scope, Send

    from parley.gateway.v1 import gateway_pb2 as pb
    from parley.gateway.v1.gateway_pb2_grpc import GatewayServiceAsyncStub
    from runtime.errors import ParleyError
    from services.edge.streams import Ending, Streams


class StreamedAnswer(PushedStream):
    """A completion, chunk by chunk.

    Args:
        streams: Where it takes its place.
        gateway: Who gives it.
        request: What is asked.
        created: Now, seconds since the epoch.
        include_usage: Whether the tokens used are told.
    """

    def __init__(
        self,
        streams: Streams,
        gateway: GatewayServiceAsyncStub,
        request: pb.ChatRequest,
        *,
        created: int,
        include_usage: bool,
    ) -> None:
        super().__init__(streams)
        self._gateway = gateway
        self._request = request
        self._chunks = Chunks(new_id(), created, request.model, include_usage=include_usage)

    async def relay(self) -> None:
        """Writes the chunks of deltas that came together at once."""
        span = trace.get_current_span()
        shown = False
        async with contextlib.aclosing(stream(self._gateway.Chat, self._request)) as batches:
            async for batch in batches:
                if data := self._chunks.spell(batch.deltas):
                    await self.write(data, len(batch.deltas))
                    if not shown:
                        shown = True
                        span.add_event("first_text_sent")
        if not self._chunks.finished:
            raise _cut_short()

    def farewell(self, error: ParleyError | None) -> bytes:
        """Returns the frame that OpenAI's clients raise."""
        told = error or being_replaced()
        return b"data: %b\n\n" % msgspec.json.encode(envelope(told, status_of(told)))


class WholeAnswer(Response):
    """An answer that is sent when it is complete.

    Args:
        streams: Where it takes its place, so that a drain waits for it.
        work: Returns the answer, a JSON document.
    """

    endless = False

    def __init__(self, streams: Streams, work: Callable[[], Coroutine[Any, Any, bytes]]) -> None:
        super().__init__()
        self._streams = streams
        self._work = work
        self._left: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def leave(self, why: Ending) -> None:  # noqa: ARG002 - there is one reason
        """Gives it up, since the server is being replaced."""
        if not self._left.done():
            self._left.set_result(None)

    def look(self, now: float) -> None:
        """Has nothing that could be due."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers the request, unless its client has gone."""
        self._streams.take(self)
        try:
            body = await self._unless_gone(receive)
        finally:
            self._streams.give_back(self)
        if body is not None:
            await Response(body, media_type="application/json")(scope, receive, send)

    async def _unless_gone(self, receive: Receive) -> bytes | None:
        working, gone = asyncio.create_task(self._work()), asyncio.create_task(_gone(receive))
        try:
            waited: set[asyncio.Future[Any]] = {working, gone, self._left}
            await asyncio.wait(waited, return_when=asyncio.FIRST_COMPLETED)
            if working.done():
                return working.result()
            if self._left.done():
                raise being_replaced()
            return None
        finally:
            unfinished = {task for task in (working, gone) if not task.done()}
            for task in unfinished:
                task.cancel()
            if unfinished:
                await asyncio.wait(unfinished)


async def whole(gateway: GatewayServiceAsyncStub, request: pb.ChatRequest, created: int) -> bytes:
    """Returns a completion as a JSON document.

    Raises: what the gateway raised.
    """
    answer = Whole(new_id(), created, request.model)
    async with contextlib.aclosing(stream(gateway.Chat, request)) as batches:
        async for batch in batches:
            answer.take(batch.deltas)
    if answer.finished is None:
        raise _cut_short()
    return answer.body()


async def _gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


def _cut_short() -> Unavailable:
    return Unavailable("The answer was cut short; try again.", retry_after_s=1)
