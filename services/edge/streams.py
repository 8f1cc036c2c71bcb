"""Answers that are pushed as they come: a place for each, one send per piece, heartbeats, and an end when the client goes or the server drains."""

from __future__ import annotations

import asyncio
import contextvars
from abc import abstractmethod
from typing import TYPE_CHECKING, Any, Literal, Protocol

import structlog
from prometheus_client import Counter, Gauge
from starlette.responses import Response

from runtime.errors import ParleyError
from services.edge.asgi import EXCHANGE
from services.edge.problems import NotReady, TooManyStreams
from services.edge.wire import WIRE

if TYPE_CHECKING:
    from starlette.types import Receive, Scope, Send

    from services.edge.asgi import Exchange
    from services.edge.wire import Wire

log = structlog.stdlib.get_logger()

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
_LOOKS = 8  # in the length of a heartbeat
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

    def look(self, now: float) -> None:
        """Is asked several times in the length of a heartbeat to see what is due; `now` is the loop's time."""


class Streams:
    """The event streams that are open.

    One timer looks after all of them.

    Args:
        limit: How many may be.
        heartbeat_s: Longest silence of one.
        stalled_reader_s: Time after which one whose client reads nothing is cut.

    Attributes:
        heartbeat_s: As above.
        stalled_reader_s: As above.
        look_every_s: How often each is looked after.
    """

    def __init__(self, *, limit: int, heartbeat_s: float, stalled_reader_s: float) -> None:
        self.heartbeat_s = heartbeat_s
        self.stalled_reader_s = stalled_reader_s
        self.look_every_s = heartbeat_s / _LOOKS
        self._limit = limit
        self._draining = False
        self._open: set[Placed] = set()
        self._none_open = asyncio.Event()
        self._none_open.set()
        self._timer: asyncio.TimerHandle | None = None
        _OPEN.set_function(lambda: len(self._open))

    def take(self, stream: Placed) -> None:
        """Takes a place, to be given back.

        Raises: TooManyStreams; NotReady: it would never end, and the drain has begun.
        """
        if self._draining and stream.endless:
            raise being_replaced()
        if len(self._open) >= self._limit:
            raise TooManyStreams("This server holds as many open streams as it may; try again.", retry_after_s=1)
        self._open.add(stream)
        self._none_open.clear()
        if self._timer is None:
            self._look_later(asyncio.get_running_loop())

    def give_back(self, stream: Placed) -> None:
        """Gives a place back."""
        self._open.discard(stream)
        if not self._open:
            self._none_open.set()

    def _look(self) -> None:
        self._timer = None
        if not self._open:
            return
        loop = asyncio.get_running_loop()
        now = loop.time()
        self._look_later(loop)
        for stream in list(self._open):
            try:
                stream.look(now)
            except Exception:
                # One's trouble is its own end, and not that of all others' heartbeats.
                log.exception("unforeseen_error")
                stream.leave("broken")

    def _look_later(self, loop: asyncio.AbstractEventLoop) -> None:
        # In a context of nobody: in that of the request which came first its caller would stand for all that follow.
        self._timer = loop.call_later(self.look_every_s, self._look, context=contextvars.Context())

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
    # What most streams never say otherwise; what is not set need not be held either.
    background = None  # the base's: neither is there a body or a header to render
    _wire: Wire | None = None
    _exchange: Exchange | None = None
    _begun = False
    _busy_since: float | None = None
    _last_sent = 0.0
    _task: asyncio.Task[Any] | None = None
    _watcher: asyncio.Task[None] | None = None
    _quiet_timer: asyncio.TimerHandle | None = None
    _aside: asyncio.Task[None] | None = None
    _left = False
    _ending: Ending = "cut"  # unless one of the others is reached
    _error: ParleyError | None = None
    _events = 0
    _uncounted = 0
    _unread_bytes = 0  # when somebody last looked, while a send waited

    def __init__(self, streams: Streams, *, quiet_start: bool = False, endless: bool = False) -> None:
        self.endless = endless
        self._streams = streams
        self._quiet_start = quiet_start
        self._send: Send
        self._loop = asyncio.get_running_loop()

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
        if not self.push(data, events):
            await self._write(data)
            self._events += events
            self._uncounted += events

    def push(self, data: bytes, events: int) -> bool:
        """Sends a piece as `write` does, but only where nothing has to be waited for; says False, and sends nothing, elsewhere."""
        if not self._begun or self._busy_since is not None or self._wire is None or not self._wire.push(data):
            return False
        self._last_sent = self._loop.time()
        self._events += events
        self._uncounted += events
        if self._uncounted >= _COUNT_EVERY:
            self._count()
        return True

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers the request."""
        self._send = send
        self._wire = scope.pop(WIRE, None)
        exchange: Exchange | None = scope.get(EXCHANGE)
        # Where something between us looks at what is sent, it must see the head.
        self._exchange = exchange if exchange is not None and send == exchange.send else None
        self._last_sent = self._loop.time()
        try:
            self._streams.take(self)
            try:
                self._be_told(receive)
                await self._pump()
            finally:
                self._be_told_no_more()
                self._streams.give_back(self)
                if self._aside is not None:
                    self._aside.cancel()
                    # Not awaited itself: its cancellation is not ours.
                    await asyncio.wait([self._aside])
            # The place is given back before the client sees the end, for it may ask for the next stream at once.
            await self._end()
        finally:
            self._count()
            _ENDED.labels(self._ending).inc()
            notes = scope.get("parley.notes", {})
            notes.update({"stream.ended": self._ending, "stream.events": self._events})
            if self._error is not None:
                notes["stream.reason"] = self._error.code

    def leave(self, why: Ending) -> None:
        """Ends the stream from outside its own task."""
        if self._task is None:
            return
        self._ending = why
        if not self._left:
            self._left = True
            self._task.cancel()

    def look(self, now: float) -> None:
        """Keeps a silent stream alive, and ends one that is not read."""
        if self._busy_since is not None:
            if self._is_read():
                self._busy_since = now
            elif now - self._busy_since >= self._streams.stalled_reader_s:
                self.leave("stalled")
            return
        would_be_silent_s = now - self._last_sent + self._streams.look_every_s
        if self._begun and would_be_silent_s > self._streams.heartbeat_s and not self.push(HEARTBEAT, 0):
            self._write_aside(HEARTBEAT)

    def _count(self) -> None:
        _EVENTS.inc(self._uncounted)
        self._uncounted = 0

    async def _pump(self) -> None:
        # `leave` cancels this task, which is not to be taken for a cancellation of the request.
        task = self._task = asyncio.current_task(self._loop)
        assert task is not None  # noqa: S101 - this runs in one
        cancelling = task.cancelling()
        try:
            await self.relay()
            self._ending = "broken" if self.endless else "completed"
        except asyncio.CancelledError:
            if not self._left or task.uncancel() > cancelling:
                raise
        except ParleyError as error:
            if not self._begun:
                raise
            self._ending = "broken"
            self._error = error
        finally:
            self._task = None

    async def _end(self) -> None:
        if self._ending == "stalled" and self._wire is not None:
            self._wire.cut()
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
        end = {"type": "http.response.body", "body": last, "more_body": False}
        if self._wire is not None and not self._wire.full:
            await self._send(end)
            return
        # A drain does not wait for long; whoever else reads slowly has as long as in the middle, or the end would be missing.
        drained = self._ending == "drained"
        self._is_read()
        while True:
            try:
                async with asyncio.timeout(_LAST_WORDS_S if drained else self._streams.stalled_reader_s):
                    await self._send(end)
                    return
            except TimeoutError:
                if drained or not self._is_read():
                    break
        if not drained and self._wire is not None:
            self._wire.cut()

    def _is_read(self) -> bool:
        """Whether the client has taken something since this was last asked."""
        before, self._unread_bytes = self._unread_bytes, 0 if self._wire is None else self._wire.unread_bytes
        return self._unread_bytes < before

    async def _write(self, data: bytes) -> None:
        self._busy_since = self._loop.time()
        if not self._begun:
            self._begun = True
            if self._wire is not None:
                self._wire.forget_head()
            self.commit()
            data = self.opening + data
            if data and self._wire is not None and self._exchange is not None and self._wire.may_begin:
                self._wire.begin(self._exchange.begin(200, _HEADERS), data)
                data = b""
            else:
                await self._send({"type": "http.response.start", "status": 200, "headers": _HEADERS})
            self._exchange = None
        if data:
            await self._send({"type": "http.response.body", "body": data, "more_body": True})
        self._busy_since = None
        self._last_sent = self._loop.time()

    def _write_aside(self, data: bytes) -> None:
        """Writes in a task of its own, for whoever cannot wait; nothing is written only to begin."""

        async def write() -> None:
            if data or not self._begun:
                await self._write(data)

        if self._aside is None or self._aside.done():
            self._aside = asyncio.create_task(write())

    def _be_told(self, receive: Receive) -> None:
        """Begins to notice that the client has gone, or that there has been nothing to say for a while."""
        if self._wire is None:
            self._watcher = asyncio.create_task(self._watch(receive))
        else:
            self._wire.on_gone = self._client_has_gone
            if self._wire.gone:
                self._loop.call_soon(self._client_has_gone)
        if self._quiet_start:
            self._quiet_timer = self._loop.call_later(_QUIET_START_S, self._begin_quietly)

    def _be_told_no_more(self) -> None:
        if self._wire is not None:
            self._wire.on_gone = None
        if self._watcher is not None:
            self._watcher.cancel()
        if self._quiet_timer is not None:
            self._quiet_timer.cancel()

    def _client_has_gone(self) -> None:
        self.leave("client_gone")

    def _begin_quietly(self) -> None:
        if not self._begun and self._busy_since is None:
            self._write_aside(b"")

    async def _watch(self, receive: Receive) -> None:
        while (await receive())["type"] != "http.disconnect":
            pass
        self._client_has_gone()


def being_replaced() -> NotReady:
    """Returns what is told to whom a drain cuts off."""
    return NotReady("This server is being replaced; try again.", retry_after_s=1)
