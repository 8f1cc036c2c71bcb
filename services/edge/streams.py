"""Answers that are pushed as they come: a place for each, one send per piece, heartbeats, and an end when the client goes or the server drains."""

from __future__ import annotations

import asyncio
import contextlib
from abc import abstractmethod
from typing import TYPE_CHECKING, Any, Literal, Protocol

from prometheus_client import Counter, Gauge
from starlette.responses import Response

from runtime.errors import ParleyError
from services.edge.problems import NotReady, TooManyStreams

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from starlette.types import Receive, Scope, Send

Ending = Literal["cut", "completed", "nothing_new", "client_gone", "stalled", "drained", "broken"]

HEARTBEAT = b": ping\n\n"
"""What keeps an idle stream alive."""
_HEADERS = [
    (b"content-type", b"text/event-stream; charset=utf-8"),
    (b"cache-control", b"no-cache, no-transform"),
    (b"x-accel-buffering", b"no"),
]
_QUIET_START_S = 0.25
_LAST_WORDS_S = 1.0
PUSH = "parley.push"
"""Where a request's scope holds what sends a piece of its answer at once, or says False where it would have to be waited for."""
_COUNT_EVERY = 64  # a metric takes a lock
_OPEN = Gauge("parley_edge_streams_open", "Event streams that are open.")
_EVENTS = Counter("parley_edge_stream_events_total", "Events sent on event streams.")
_ENDED = Counter("parley_edge_streams_ended_total", "Event streams ended, by how.", ["how"])


class Placed(Protocol):
    """An answer under way, which a drain waits for."""

    endless: bool
    """Whether it has no end."""

    def leave(self, why: Ending) -> None:
        """Ends it from outside its own task."""


class Streams:
    """The event streams that are open.

    Args:
        limit: How many may be.
        heartbeat_s: Silence after which one says something.
        stalled_reader_s: Time after which one whose client reads nothing is cut.
    """

    def __init__(self, *, limit: int, heartbeat_s: float, stalled_reader_s: float) -> None:
        self.heartbeat_s = heartbeat_s
        self.stalled_reader_s = stalled_reader_s
        self._limit = limit
        self._draining = False
        self._open: set[Placed] = set()
        self._none_open = asyncio.Event()
        self._none_open.set()

    @contextlib.contextmanager
    def place(self, stream: Placed) -> Iterator[None]:
        """Holds a place for the length of the block.

        Raises: TooManyStreams; NotReady: it would never end, and the drain has begun.
        """
        if self._draining and stream.endless:
            raise being_replaced()
        if len(self._open) >= self._limit:
            raise TooManyStreams("This server holds as many open streams as it may; try again.", retry_after_s=1)
        self._open.add(stream)
        self._none_open.clear()
        _OPEN.inc()
        try:
            yield
        finally:
            self._open.discard(stream)
            _OPEN.dec()
            if not self._open:
                self._none_open.set()

    async def drain(self, grace_s: float) -> None:
        """Waits for the streams to end; tells those still open after `grace_s` to come back elsewhere, and those that never end at once."""
        self._draining = True
        for stream in list(self._open):
            if stream.endless:
                stream.leave("drained")
        if await self._wait_for_none(grace_s):
            return
        for stream in list(self._open):
            stream.leave("drained")
        await self._wait_for_none(_LAST_WORDS_S)

    async def _wait_for_none(self, seconds: float) -> bool:
        try:
            async with asyncio.timeout(seconds):
                await self._none_open.wait()
        except TimeoutError:
            return False
        return True


class PushedStream(Response):
    """Server-sent events, written as they come. Raw ASGI.

    Status and headers wait for the first bytes, so that an error before them is an ordinary answer; where `quiet_start` is set they wait
    no longer than a quarter of a second, since what is watched may have nothing new to say for a while. Nothing at all is a 204, which
    tells an EventSource that there is nothing to come back for.

    A client that reads slowly slows down only what is read for it: a send waits for the socket, and meanwhile nothing is taken from the
    service.

    Args:
        streams: Where it takes its place.
        quiet_start: Whether there may be nothing to tell for a while.
        endless: Whether there is no end. A drain does not wait for such a stream.
    """

    opening = b""
    """What a stream begins with."""

    def __init__(self, streams: Streams, *, quiet_start: bool = False, endless: bool = False) -> None:
        super().__init__()
        self.endless = endless
        self._streams = streams
        self._quiet_start = quiet_start
        self._send: Send
        self._begun = False
        self._busy_since: float | None = None
        self._last_sent = 0.0
        self._leaving: asyncio.Timeout | None = None
        self._ending: Ending = "cut"  # unless one of the others is reached
        self._error: ParleyError | None = None
        self._events = 0
        self._uncounted = 0
        self._pusher: Callable[[bytes], bool] | None = None

    @abstractmethod
    async def relay(self) -> None:
        """Writes everything there is to tell, in order; is cancelled when the client goes."""

    @abstractmethod
    def farewell(self, error: ParleyError | None) -> bytes:
        """Returns the last bytes of a stream that was cut off, by an error or, without one, by a drain."""

    def commit(self) -> None:
        """Is told that the client is about to be told something."""

    async def write(self, data: bytes, events: int) -> None:
        """Sends a piece that tells of so many events."""
        await self._write(data)
        self._events += events
        _EVENTS.inc(events)

    def push(self, data: bytes, events: int) -> bool:
        """Sends a piece as `write` does, but only where nothing has to be waited for; says False, and sends nothing, elsewhere."""
        if not self._begun or self._busy_since is not None or self._pusher is None or not self._pusher(data):
            return False
        self._last_sent = asyncio.get_running_loop().time()
        self._events += events
        self._uncounted += events
        if self._uncounted >= _COUNT_EVERY:
            self._count()
        return True

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers the request."""
        self._send = send
        self._pusher = scope.pop(PUSH, None)
        try:
            with self._streams.place(self):
                watcher = asyncio.create_task(self._watch(receive))
                try:
                    await self._pump()
                finally:
                    watcher.cancel()
                    # Not awaited itself: its cancellation is not ours.
                    await asyncio.wait([watcher])
            # The place is given back before the client sees the end, for it may ask for the next stream at once.
            await self._end()
        finally:
            self._count()
            _ENDED.labels(self._ending).inc()
            notes = scope.get("parley.notes", {})
            notes.update({"stream.ended": self._ending, "stream.events": self._events})
            if self._error is not None:
                notes["stream.reason"] = self._error.code

    def _count(self) -> None:
        _EVENTS.inc(self._uncounted)
        self._uncounted = 0

    def leave(self, why: Ending) -> None:
        """Ends the stream from outside its own task."""
        if self._leaving is not None:
            self._ending = why
            self._leaving.reschedule(asyncio.get_running_loop().time())

    async def _pump(self) -> None:
        try:
            # A scope that another task can end, without that being taken for a cancellation of the request.
            async with asyncio.timeout(None) as self._leaving:
                await self.relay()
            self._ending = "broken" if self.endless else "completed"
        except TimeoutError:
            if self._ending == "cut":
                raise
        except ParleyError as error:
            if not self._begun:
                raise
            self._ending = "broken"
            self._error = error
        finally:
            self._leaving = None

    async def _end(self) -> None:
        if self._ending in {"client_gone", "stalled"}:
            return
        if not self._begun and self._ending == "completed":
            self._ending = "nothing_new"
            await self._send({"type": "http.response.start", "status": 204, "headers": []})
            await self._send({"type": "http.response.body", "body": b"", "more_body": False})
            return
        if not self._begun:
            raise being_replaced()
        last = b"" if self._ending == "completed" else self.farewell(self._error)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_LAST_WORDS_S):
                await self._send({"type": "http.response.body", "body": last, "more_body": False})

    async def _write(self, data: bytes) -> None:
        loop = asyncio.get_running_loop()
        self._busy_since = loop.time()
        if not self._begun:
            self._begun = True
            self.commit()
            data = self.opening + data
            await self._send({"type": "http.response.start", "status": 200, "headers": _HEADERS})
        await self._send({"type": "http.response.body", "body": data, "more_body": True})
        self._busy_since = None
        self._last_sent = loop.time()

    async def _watch(self, receive: Receive) -> None:
        """Notices that the client has gone, and keeps a silent stream alive."""
        loop = asyncio.get_running_loop()
        self._last_sent = loop.time()
        wait_s = _QUIET_START_S if self._quiet_start else self._streams.heartbeat_s
        while True:
            try:
                async with asyncio.timeout(wait_s):
                    message: Any = await receive()
            except TimeoutError:
                await self._tick(loop.time())
                silence = 0.0 if self._busy_since is not None else loop.time() - self._last_sent
                wait_s = max(self._streams.heartbeat_s - silence, 0.01)
                continue
            if message["type"] == "http.disconnect":
                self.leave("client_gone")
                return

    async def _tick(self, now: float) -> None:
        if self._busy_since is not None:
            if now - self._busy_since >= self._streams.stalled_reader_s:
                self.leave("stalled")
        elif not self._begun:
            if self._quiet_start:
                await self._write(b"")
        elif now - self._last_sent >= self._streams.heartbeat_s:
            await self._write(HEARTBEAT)


def being_replaced() -> NotReady:
    """Returns what is told to whom a drain cuts off."""
    return NotReady("This server is being replaced; try again.", retry_after_s=1)
