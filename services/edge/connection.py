"""One HTTP connection within bounds: how many there are, how long a request's head is, how long it may take to arrive, and an answer to be read."""

from __future__ import annotations

import contextvars
from collections import deque
from typing import TYPE_CHECKING, Any, NoReturn

from prometheus_client import Counter
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from services.edge import problems
from services.edge.wire import WIRE, Signal, Wire, unread_bytes

if TYPE_CHECKING:
    import asyncio

    from runtime.errors import ParleyError

MAX_HEAD_BYTES = 64 * 1024
"""Longest head of a request; trailers and whatever else is no body are held to it too."""
MAX_IN_LINE = 64
"""Requests that wait for those before them to be answered, which hardly any client sends; each takes fifty times the memory of its bytes."""
_STATUS_LINES = {400: b"HTTP/1.1 400 Bad Request", 503: b"HTTP/1.1 503 Service Unavailable"}
_CUT = Counter("parley_edge_connections_cut_total", "Connections cut whose client read nothing of an ordinary answer.")


class HttpConnection(HttpToolsProtocol):
    """uvicorn's HTTP/1.1 with the bounds it lacks; its parser gathers heads without end.

    Args:
        max_connections: Connections that may be open at once; one more is answered 503 and closed.
        head_timeout_s: Longest wait for a request's head, from the connection or from the head's first byte.
        uvicorns: What uvicorn hands to its protocols.
    """

    # What most connections never say otherwise.
    _unread_bytes = 0  # when somebody last looked
    _unread_since = 0.0

    def __init__(self, *, max_connections: int, head_timeout_s: float, **uvicorns: Any) -> None:
        super().__init__(**uvicorns)
        self._max_connections = max_connections
        self._head_timeout_s = head_timeout_s
        self._head_timer: asyncio.TimerHandle | None = None
        self._in_head = True
        self._head_begun = False
        # Since the last byte of a body or the last end or beginning of a request.
        self._bytes_without_body = 0
        self._read_bytes = self._first_read_bytes = 0
        self._fault: ParleyError = problems.NOT_HTTP
        # Of the newest request, and of those before it that are not answered yet, oldest first: hardly ever are there any.
        self._wire: Wire | None = None
        self._earlier: deque[Wire] | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override] # as uvicorn has it
        """Begins to wait for a head, where there is room."""
        super().connection_made(transport)
        if len(self.connections) > self._max_connections:
            self._refuse(problems.TOO_MANY_CONNECTIONS)
            return
        self._await_head()

    def connection_lost(self, exc: Exception | None) -> None:
        """Waits no longer, and tells every request that is not answered."""
        self._head_is_here()
        super().connection_lost(exc)
        for wire in self._earlier or ():
            wire.tell_gone()
        if self._wire is not None:
            self._wire.tell_gone()

    def look(self, now: float, stalled_reader_s: float) -> None:
        """Is asked now and then to cut a client that has read nothing of its answer for so long; `now` is the loop's time.

        Neither uvicorn's flow control nor a close has a bound of its own: both wait until what was written has been taken.
        """
        unread = 0
        if self.transport.get_write_buffer_size():
            answered = self._answered
            if answered is None or answered.on_gone is None:  # a stream sees to it by itself, and tells how it ended
                unread = unread_bytes(self.transport)
        # More than before is no sign of a stall either, and comes to an end: what waits for too much to be read is not begun.
        if unread != self._unread_bytes:
            self._unread_bytes, self._unread_since = unread, now
        elif unread and now - self._unread_since >= stalled_reader_s:
            _CUT.inc()
            self.transport.abort()

    def data_received(self, data: bytes) -> None:
        """Reads on, unless it is too much."""
        # Counted first, since the callbacks below start anew: what came with the read in which a head begins is not counted.
        self._read_bytes = len(data)
        self._bytes_without_body += self._read_bytes
        super().data_received(data)
        if self.transport.is_closing():
            return
        if self._bytes_without_body > MAX_HEAD_BYTES:
            self._refuse(problems.HEAD_TOO_LONG)
        elif self._head_begun or (self._in_head and self._bytes_without_body):
            # Once all that is here has been read: nearly every head is whole by then. Empty lines between requests, too, end uvicorn's own wait.
            self._await_head()

    def send_400_response(self, msg: str) -> None:  # noqa: ARG002 - uvicorn's signature
        """Tells of bytes that are no HTTP the way everything else is told."""
        self._refuse(self._fault)

    def on_message_begin(self) -> None:
        """Begins to count."""
        self._bytes_without_body = 0
        self._first_read_bytes = self._read_bytes
        self._head_begun = True
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        """Lets the request through, unless a single read brought a head that is too long, or too many heads."""
        self._head_is_here()
        self._in_head = self._head_begun = False
        # Summed only where the reads that brought it hold as much.
        if self._first_read_bytes + self._bytes_without_body > MAX_HEAD_BYTES and self._head_bytes() > MAX_HEAD_BYTES:
            self._stop(problems.HEAD_TOO_LONG)
        if len(self.pipeline) >= MAX_IN_LINE:
            self._stop(problems.TOO_MANY_IN_LINE)
        before = self.cycle
        super().on_headers_complete()
        if self.cycle is not before:
            if self._wire is not None and not before.response_complete:
                if self._earlier is None:
                    self._earlier = deque()
                self._earlier.append(self._wire)
            # Before the request's task has run: nobody waits for what is there.
            self.cycle.message_event = Signal()  # type: ignore[assignment] # all that uvicorn uses of it
            self.cycle.scope[WIRE] = self._wire = Wire(self.cycle)  # type: ignore[literal-required] # an extension of ours

    def on_body(self, body: bytes) -> None:
        """Takes a piece of the body, whose length is bounded elsewhere."""
        self._bytes_without_body = 0
        super().on_body(body)

    def on_message_complete(self) -> None:
        """Is ready for the next head."""
        self._bytes_without_body = 0
        self._in_head = True
        super().on_message_complete()

    def on_response_complete(self) -> None:
        """Lets the next request be answered: those of a connection are answered in turn."""
        if self._earlier:
            self._earlier.popleft()
        # In a context of nobody: the timer that now waits for another request would keep this one's, with its credential, for as long.
        contextvars.Context().run(super().on_response_complete)

    def _await_head(self) -> None:
        if self._head_timer is None:
            self._head_timer = self.loop.call_later(self._head_timeout_s, self._head_is_late)

    def _head_is_here(self) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None

    def _head_is_late(self) -> None:
        self._head_timer = None
        if self.cycle is not None and not self.cycle.response_complete:  # type: ignore[redundant-expr] # None before the first
            self._await_head()  # an answer is under way, and what came after its request does not cut it
        else:
            self.transport.close()

    @property
    def _answered(self) -> Wire | None:
        """Of the requests in line the one whose turn it is."""
        return self._earlier[0] if self._earlier else self._wire

    def _head_bytes(self) -> int:
        return len(self.url) + sum(len(name) + len(value) for name, value in self.headers)

    def _stop(self, fault: ParleyError) -> NoReturn:
        self._fault = fault
        raise _RefusedError  # the parser stops, and has `send_400_response` called

    def _refuse(self, error: ParleyError) -> None:
        answered = self._answered
        if answered is None or not answered.writing:  # words in the middle of an answer would be taken for a part of it
            self._tell(error)
        self.transport.close()

    def _tell(self, error: ParleyError) -> None:
        answer = problems.respond(error, path="")
        status = _STATUS_LINES[answer.status_code]
        head = [status, *(name + b": " + value for name, value in answer.raw_headers)]
        self.transport.write(b"\r\n".join([*head, b"connection: close", b"", b""]) + bytes(answer.body))


class _RefusedError(Exception):
    pass
