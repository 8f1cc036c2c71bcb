"""The service's side: connections, and the methods that calls on them reach."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import functools
import secrets
from typing import TYPE_CHECKING, Any

import grpc
import structlog

from runtime.errors import InvalidArgument
from runtime.mux.outbox import Writer
from runtime.mux.pipe import Entrance
from runtime.mux.served import ServedCall
from runtime.mux.wire import EOF, KEY_BYTES, MAX_CALLS, MAX_REQUEST_BYTES, SERVICE, pb
from runtime.status import to_status

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Mapping

    from runtime.interceptors import Chain

log = structlog.stdlib.get_logger()

_LAST_WORDS_S = 5.0
_LAST_CALLS_S = 1.0
_NO_CONTEXT = contextvars.Context()  # a copy of what happens to be the current one would be kept with each call


class MuxProtocol(InvalidArgument):
    """The peer does not keep to the protocol of the connection."""

    reason = "MUX_PROTOCOL"


class Recorder:
    """Takes the place of a server in `add_…Servicer_to_server` and notes the handlers.

    Attributes:
        handlers: By path: `/package.Service/Method`.
    """

    def __init__(self) -> None:
        self.handlers: dict[str, Any] = {}

    def add_registered_method_handlers(self, service: str, handlers: Mapping[str, Any]) -> None:
        """Notes the handlers of a service by the bare names of its methods."""
        self.handlers.update({f"/{service}/{name}": handler for name, handler in handlers.items()})

    def add_generic_rpc_handlers(self, handlers: Any) -> None:
        """Passes over what the other method is told as well."""


class Dispatcher:
    """Serves `MuxService`: takes the calls of every connection through the chain to their handlers.

    Args:
        service: Short name of the service, for errors.
        handlers: By path; those that take a stream of requests are not reached.
        chain: What happens around every call.
        at_once: Most calls of a method that are worked on at the same time, by path; the others wait in the order in which they came.
    """

    def __init__(
        self, service: str, handlers: Mapping[str, Any], chain: Chain, *, at_once: Mapping[str, int] | None = None
    ) -> None:
        self._domain = f"{service}.parley"
        self._handlers = {
            path: handler if handler.response_streaming else _Answering(handler)
            for path, handler in handlers.items()
            if not handler.request_streaming
        }
        self._turns = {path: asyncio.Semaphore(most) for path, most in (at_once or {}).items()}
        self._chain = chain
        self._connections: set[_Connection] = set()
        self._draining = False
        self._ready = asyncio.Event()
        self._listener: asyncio.Server | None = None
        self._expected: dict[bytes, _Connection] = {}

    def add_to(self, server: grpc.aio.Server) -> None:
        """Joins a server."""
        connect = grpc.stream_stream_rpc_method_handler(
            self._connect,
            request_deserializer=pb.ConnectRequest.FromString,
            response_serializer=bytes,
        )
        server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, {"Connect": connect}),))

    async def listen(self, host: str, port: int = 0) -> None:
        """Offers direct connections too, on a port of the given interface, 0: a free one; where it cannot be had, it does without."""
        try:
            self._listener = await asyncio.get_running_loop().create_server(
                lambda: Entrance(pb.ConnectRequest.FromString, self._admit), host.strip("[]") or None, port
            )
        except OSError as error:
            log.warning("no_direct_port", port=port, error=type(error).__name__)

    def open(self) -> None:
        """Takes calls from now on. Callers who have come before wait, and send their calls elsewhere: whoever only starts would refuse them."""
        self._ready.set()

    def close(self) -> None:
        """Offers no more direct connections."""
        if self._listener is not None:
            self._listener.close()

    def drain(self) -> None:
        """Sends new calls elsewhere; each connection ends when the calls on it have."""
        self._draining = True
        self._ready.set()  # who still waits is told to go, too: it would hold up the end
        for connection in self._connections:
            connection.drain()

    @property
    def calls(self) -> int:
        """How many calls are under way."""
        return sum(len(connection.calls) for connection in self._connections)

    async def _connect(self, _: Any, context: Any) -> None:
        await self._ready.wait()
        connection = _Connection(context, self._handlers, self._turns, self._chain)
        hello = pb.Hello(max_request_bytes=MAX_REQUEST_BYTES, max_calls=MAX_CALLS)
        key = secrets.token_bytes(KEY_BYTES)
        if self._listener is not None and self._listener.sockets:
            hello.direct_port = self._listener.sockets[0].getsockname()[1]
            hello.direct_key = key
            self._expected[key] = connection
        self._connections.add(connection)
        try:
            await connection.serve(hello, draining=self._draining)
        except MuxProtocol as error:
            await context.abort_with_status(to_status(error, domain=self._domain, request_id=""))
        finally:
            self._connections.discard(connection)
            self._expected.pop(key, None)

    def _admit(self, key: bytes, entrance: Entrance) -> Any:
        connection = self._expected.pop(key, None)
        return connection.go_direct(entrance) if connection is not None else None


class _Answering:
    """A unary handler whose response leaves as soon as it is there: what the chain does after it, nobody waits for."""

    request_streaming = response_streaming = False
    unary_stream = stream_unary = stream_stream = None

    def __init__(self, handler: Any) -> None:
        self._behaviour = handler.unary_unary
        self.request_deserializer = handler.request_deserializer
        self.response_serializer = handler.response_serializer

    async def unary_unary(self, request: Any, call: ServedCall) -> None:
        """Calls the servicer."""
        await call.answer(await self._behaviour(request, call))


class _Connection:
    """One caller's connection.

    Attributes:
        calls: Those under way, by number.
    """

    def __init__(
        self, context: Any, handlers: Mapping[str, Any], turns: Mapping[str, asyncio.Semaphore], chain: Chain
    ) -> None:
        self.calls: dict[int, ServedCall] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._parts: list[asyncio.Task[Any]] = []
        self._context = context
        self._handlers = handlers
        self._turns = turns
        self._chain = chain
        self._writer = Writer(context.write)
        self._outbox = self._writer.outbox
        self._pipe: Entrance | None = None
        self._ended = asyncio.Event()
        self._last = 0
        self._draining = False
        self._idle = asyncio.Event()
        self._last_call_known = asyncio.Event()

    async def serve(self, hello: pb.Hello, *, draining: bool) -> None:
        """Takes calls until the caller goes, or until a drain has come to its end.

        Raises: MuxProtocol.
        """
        self._greet(hello)
        if draining:
            self.drain()
        parts = [self._start(self._read()), self._start(self._writer.run()), self._start(self._drained())]
        try:
            await self._ended.wait()
            if parts[0].done():
                parts[0].result()
            if self._pipe is not None and isinstance(self._pipe.error, MuxProtocol):
                raise self._pipe.error
        finally:
            self._ended.set()
            if self._pipe is not None:
                self._pipe.close()  # before anything is awaited: a call that came now would outlive the connection
            for call in self.calls.values():
                call.drop()
            for part in self._parts:
                part.cancel()
            await asyncio.wait({*self._tasks, *self._parts}, timeout=_LAST_WORDS_S)
            # A write fails when the caller has gone, which is what brought us here.
            for part in self._parts:
                with contextlib.suppress(asyncio.CancelledError, Exception):
                    part.result()

    def go_direct(self, entrance: Entrance) -> Callable[[pb.ConnectRequest], None] | None:
        """Lets the frames travel over a connection of their own; returns what takes those that arrive there, None where all has ended."""
        if self._ended.is_set():
            return None
        self._pipe = entrance
        self._outbox = entrance.outbox
        self._greet(pb.Hello())
        self._start(entrance.closed.wait())
        return self._take_all

    def _start(self, part: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
        """Runs a part of the connection, which ends with it."""
        task = asyncio.create_task(part)
        self._parts.append(task)
        task.add_done_callback(lambda _: self._ended.set())
        return task

    def drain(self) -> None:
        """Takes no new calls, and ends when none is under way."""
        if not self._draining:
            self._draining = True
            self._say_go_away()
            if not self.calls:
                self._idle.set()

    def _greet(self, hello: pb.Hello) -> None:
        batch = pb.ConnectResponse()
        batch.frames.add().hello.CopyFrom(hello)
        self._outbox.send(batch.SerializeToString())

    def _say_go_away(self) -> None:
        batch = pb.ConnectResponse()
        batch.frames.add().go_away.SetInParent()
        self._outbox.send(batch.SerializeToString())

    async def _drained(self) -> None:
        await self._idle.wait()
        # A call that was on its way when the caller was told is still to be refused: left unanswered it could have been begun.
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_LAST_CALLS_S):
                await self._last_call_known.wait()
        await self._outbox.empty()

    async def _read(self) -> None:
        while (batch := await self._context.read()) is not EOF:
            self._take_all(batch)

    def _take_all(self, batch: pb.ConnectRequest) -> None:
        for frame in batch.frames:
            self._take(frame)

    def _take(self, frame: pb.CallerFrame) -> None:
        kind = frame.WhichOneof("kind")
        if kind == "open":
            self._open(frame.call, frame.open)
        elif kind == "credit_bytes":
            if frame.credit_bytes <= 0:
                raise MuxProtocol("Credit must be more than 0 bytes.")
            if (call := self.calls.get(frame.call)) is not None:
                call.grant(frame.credit_bytes)
        elif kind == "cancel" and (call := self.calls.get(frame.call)) is not None:
            call.drop()
        elif kind == "go_away":
            self._last_call_known.set()

    def _open(self, number: int, opened: pb.Open) -> None:
        if number <= self._last:
            raise MuxProtocol("A call's number must be higher than those before.")
        self._last = number
        if self._draining or len(self.calls) >= MAX_CALLS:
            self._refuse(number, grpc.StatusCode.UNAVAILABLE, "The service takes no more calls here.", refused=True)
            return
        handler = self._handlers.get(opened.method)
        if handler is None:
            self._refuse(number, grpc.StatusCode.UNIMPLEMENTED, "Method not found!", refused=False)
            return
        turns = self._turns.get(opened.method)
        call = ServedCall(
            number, opened, handler, chain=self._chain, outbox=self._outbox, connection=self._context, turns=turns
        )
        self.calls[number] = call
        # A context of its own: nothing of the connection or of another call is seen by this one.
        task = contextvars.Context().run(call.start)
        self._tasks.add(task)
        task.add_done_callback(functools.partial(self._over, number), context=_NO_CONTEXT)

    def _refuse(self, number: int, code: grpc.StatusCode, details: str, *, refused: bool) -> None:
        batch = pb.ConnectResponse()
        frame = batch.frames.add()
        frame.call = number
        frame.end.code, frame.end.details, frame.end.refused = code.value[0], details, refused
        self._outbox.send(batch.SerializeToString())

    def _over(self, number: int, task: asyncio.Task[None]) -> None:
        self.calls.pop(number).close()
        self._tasks.discard(task)
        if self._draining and not self.calls:
            self._idle.set()
