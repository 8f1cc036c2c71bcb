"""The server's chain: what happens around every call, as a list of links in an order that is checked."""

from __future__ import annotations

import asyncio
import contextvars
import functools
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import grpc
import structlog
from opentelemetry.trace import SpanKind
from prometheus_client import Counter, Gauge, Histogram

from runtime import telemetry
from runtime.context import accepted_request_id, bearer_token, credential, request_id, set_identity
from runtime.errors import DeadlineExceeded, Internal, ParleyError, Unauthenticated
from runtime.status import code_of, to_status

if TYPE_CHECKING:
    from collections.abc import Sequence

    from runtime.context import Identity
    from runtime.identity import Verifier

log = structlog.stdlib.get_logger()

ORDER = ("trace", "request_context", "access_log", "errors", "deadline", "identity")
"""Outermost first. The log sits outside the errors so that it sees the final status; identity is last so that its refusals are logged."""

UNTOUCHED = ("/grpc.health.", "/grpc.reflection.", "/parley.mux.")
"""Services of the platform: neither traced, logged nor authenticated. Calls that share a connection pass the chain one by one."""

_EARLY_S = 0.001  # a loop's clock may be behind its timers by as much
_HANDLED = Counter("parley_rpc_handled_total", "RPCs ended, by method and status.", ["method", "code"])
_SECONDS = Histogram(
    "parley_rpc_duration_seconds", "Length of RPCs.", ["method"], buckets=[0.001 * 4**n for n in range(10)]
)
_ACTIVE = Gauge("parley_rpc_active", "RPCs under way.", ["method"])


@dataclass(slots=True, eq=False)
class Call:
    """One call on its way through the chain.

    Attributes:
        method: `/package.Service/Method`.
        streaming: The response is a stream.
        metadata: What the caller sent, lower-case names; empty once the handler has been called.
        context: The servicer's context.
        behaviour: The handler's: answers a request.
        request: What is asked; None once the handler has it, since a stream may last for long.
        code: Final status, once known.
        reason: Reason of the final error.
    """

    method: str
    streaming: bool
    metadata: dict[str, str]
    context: Any
    behaviour: Callable[[Any, Any], Any]
    request: Any
    code: grpc.StatusCode = grpc.StatusCode.OK
    reason: str = ""


Proceed = Callable[[Call], Awaitable[Any]]
"""The rest of the chain."""


class Link:
    """A named part of the chain.

    `around` does its part before and after `proceed`, which is the rest of the chain and returns what the handler returns.
    """

    name = ""

    def around(self, call: Call, proceed: Proceed) -> Awaitable[Any]:
        """Wraps what lies further in."""
        raise NotImplementedError


class Trace(Link):
    """Opens the call's server span below the caller's."""

    name = "trace"

    async def around(self, call: Call, proceed: Proceed) -> Any:
        name, attributes = telemetry.rpc(call.method)
        with telemetry.span(name, kind=SpanKind.SERVER, attributes=attributes, remote=call.metadata) as span:
            try:
                return await proceed(call)
            finally:
                span.set_attribute("rpc.grpc.status_code", call.code.value[0])
                if call.reason:
                    telemetry.fail(span, call.reason)


class RequestContext(Link):
    """Takes the caller's request id, or makes one."""

    name = "request_context"

    def around(self, call: Call, proceed: Proceed) -> Awaitable[Any]:
        # No coroutine: nothing is left to do once it has proceeded, and a stream would hold the frame for as long as it lasts.
        request_id.set(accepted_request_id(call.metadata.get("x-request-id", "")))
        credential.set("")
        set_identity(None)
        return proceed(call)


class _Meters:
    """The measures of one method, looked up once: that costs more than to write them."""

    def __init__(self, method: str) -> None:
        self.active = 0  # read when somebody asks: a measure that is written takes a lock
        _ACTIVE.labels(method).set_function(lambda: self.active)
        self.seconds = _SECONDS.labels(method)
        self._handled: dict[grpc.StatusCode, Counter] = {}
        self._method = method

    def ended(self, code: grpc.StatusCode, seconds: float) -> None:
        """Counts a call."""
        self.active -= 1
        self.seconds.observe(seconds)
        if (handled := self._handled.get(code)) is None:
            handled = self._handled[code] = _HANDLED.labels(self._method, code.name)
        handled.inc()


@functools.cache  # what comes here is a method there is
def _meters(method: str) -> _Meters:
    return _Meters(method)


class AccessLog(Link):
    """Writes one line and one measurement a call."""

    name = "access_log"

    async def around(self, call: Call, proceed: Proceed) -> Any:
        started = time.perf_counter()
        meters = _meters(call.method)
        meters.active += 1
        try:
            return await proceed(call)
        except asyncio.CancelledError:
            call.code = grpc.StatusCode.CANCELLED
            raise
        finally:
            seconds = time.perf_counter() - started
            meters.ended(call.code, seconds)
            log.info(
                "rpc",
                **{"rpc.method": call.method[1:], "rpc.code": call.code.name, "duration_ms": round(seconds * 1000, 2)},
                **({"reason": call.reason} if call.reason else {}),
            )


class Errors(Link):
    """Ends the call with the status of what was raised; what nobody foresaw is told as "internal error" and logged once, with its stack."""

    name = "errors"

    def __init__(self, domain: str) -> None:
        self._domain = domain

    async def around(self, call: Call, proceed: Proceed) -> Any:
        try:
            return await proceed(call)
        except grpc.aio.AbortError:
            raise
        except ParleyError as error:
            await self._abort(call, error)
        except Exception:
            log.exception("unforeseen_error", **{"rpc.method": call.method[1:]})
            await self._abort(call, Internal("internal error"))

    async def _abort(self, call: Call, error: ParleyError) -> None:
        call.code, call.reason = code_of(error), error.code
        await call.context.abort_with_status(to_status(error, domain=self._domain, request_id=request_id.get()))


class Deadline(Link):
    """Gives a call whose caller set no deadline one of ours, so that nothing waits for ever."""

    name = "deadline"

    def __init__(self, *, unary_s: float = 30, stream_s: float = 3600) -> None:
        self._unary = _Terms(unary_s)
        self._streams = _Terms(stream_s)

    def around(self, call: Call, proceed: Proceed) -> Awaitable[Any]:
        return proceed(call) if call.context.time_remaining() is not None else self._within(call, proceed)

    async def _within(self, call: Call, proceed: Proceed) -> Any:
        # By hand: `asyncio.timeout` costs more than all the rest of the chain's links but two.
        task = asyncio.current_task()
        assert task is not None  # noqa: S101 - this runs in one
        cancelling = task.cancelling()
        terms = self._streams if call.streaming else self._unary
        terms.begin(call, task)
        try:
            return await proceed(call)
        except asyncio.CancelledError:
            if not terms.is_over(call) or task.uncancel() > cancelling:
                raise
            raise _too_long() from None
        except TimeoutError:
            raise _too_long() from None
        finally:
            terms.end(call)
            del task  # one that was cancelled holds where that was, and so this


class _Terms:
    """Cancels calls that take longer than all of their kind may: those that came first are late first, so one timer does for all.

    Args:
        length_s: How long one may take.
    """

    def __init__(self, length_s: float) -> None:
        self._length_s = length_s
        self._due: dict[Call, tuple[float, asyncio.Task[Any]]] = {}
        self._timer: asyncio.TimerHandle | None = None

    def begin(self, call: Call, task: asyncio.Task[Any]) -> None:
        """Has a call's task cancelled in time."""
        loop = asyncio.get_running_loop()
        self._due[call] = (loop.time() + self._length_s, task)
        if self._timer is None:
            self._look_in(loop, self._length_s)

    def is_over(self, call: Call) -> bool:
        """Says whether a call that has not ended has been cancelled."""
        return call not in self._due

    def end(self, call: Call) -> None:
        """Lets go of a call."""
        self._due.pop(call, None)
        if not self._due and self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _look_in(self, loop: asyncio.AbstractEventLoop, seconds: float) -> None:
        # In a context of nobody: that of the call at hand, with its caller, would be kept for as long.
        self._timer = loop.call_later(seconds, self._look, loop, context=contextvars.Context())

    def _look(self, loop: asyncio.AbstractEventLoop) -> None:
        self._timer = None
        while self._due:
            call, (due, task) = next(iter(self._due.items()))
            left_s = due - loop.time()
            if left_s > _EARLY_S:
                self._look_in(loop, left_s)
                return
            del self._due[call]
            task.cancel()


def _too_long() -> DeadlineExceeded:
    return DeadlineExceeded("The call took longer than it may; set a deadline of your own.")


class Authentication(Link):
    """Verifies the caller's access token, except for methods that are open to anyone."""

    name = "identity"

    def __init__(self, verifier: Verifier | None, open_methods: frozenset[str]) -> None:
        self._verifier = verifier
        self._open = open_methods

    def around(self, call: Call, proceed: Proceed) -> Awaitable[Any]:
        if call.method in self._open:
            return proceed(call)
        # Taken out: nobody reads it again, and a stream would hold it beside the token itself.
        token = bearer_token(call.metadata.pop("authorization", ""))
        if self._verifier is None:
            raise Unauthenticated("This server knows no callers.")
        identity = self._verifier.known(token)
        if identity is None:
            return self._verified(call, proceed, token, self._verifier)
        _let_in(identity, self._verifier.kept(token))
        return proceed(call)

    async def _verified(self, call: Call, proceed: Proceed, token: str, verifier: Verifier) -> Any:
        _let_in(await verifier.verify(token), verifier.kept(token))
        return await proceed(call)


def _let_in(identity: Identity, token: str) -> None:
    set_identity(identity)
    credential.set(token)


class Chain(grpc.aio.ServerInterceptor):  # type: ignore[type-arg] # generic in the stubs only
    """Puts the links around all four kinds of RPC.

    Raises: ValueError: the links are not exactly those of `ORDER`, in that order.
    """

    def __init__(self, links: Sequence[Link]) -> None:
        names = tuple(link.name for link in links)
        if names != ORDER:
            raise ValueError(f"the chain is {names}, but must be {ORDER}")
        # Put together once: made for each call, what leads from link to link took more memory than what the links themselves hold.
        proceed: Proceed = _work
        for link in reversed(links):
            proceed = functools.partial(link.around, proceed=proceed)
        self._enter = proceed

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[Any]],
        details: grpc.HandlerCallDetails,
    ) -> Any:
        """Wraps the handler of one call."""
        handler: Any = await continuation(details)
        method = details.method
        if handler is None or method.startswith(UNTOUCHED):
            return handler
        metadata = {key: value for key, value in details.invocation_metadata or () if isinstance(value, str)}
        kind = ("stream" if handler.request_streaming else "unary") + (
            "_stream" if handler.response_streaming else "_unary"
        )
        make: Any = getattr(grpc, f"{kind}_rpc_method_handler")
        around = self.around(method, handler, metadata)

        async def answer(request: Any, context: Any) -> Any:
            return await around(request, context)  # what is no coroutine function itself, gRPC would call in a thread

        return make(
            answer,
            request_deserializer=handler.request_deserializer,
            response_serializer=handler.response_serializer,
        )

    def around(self, method: str, handler: Any, metadata: dict[str, str]) -> Callable[[Any, Any], Awaitable[Any]]:
        """Puts the links around one call.

        Args:
            method: `/package.Service/Method`.
            handler: Its handler.
            metadata: What the caller sent, lower-case names; the chain's own from now on.

        Returns: what takes the request and the servicer's context; it returns the response, or writes the responses to the context.
        """
        behaviour = handler.unary_unary or handler.unary_stream or handler.stream_unary or handler.stream_stream
        streaming = bool(handler.response_streaming)

        def enter(request: Any, context: Any) -> Awaitable[Any]:
            return self._enter(Call(method, streaming, metadata, context, behaviour, request))

        return enter


def _work(call: Call) -> Awaitable[Any]:
    """Has the handler answer."""
    request, call.request = call.request, None
    call.metadata.clear()  # read by the links, and an answer may take long
    if call.streaming:
        return _stream(call.behaviour, request, call.context)
    answered: Awaitable[Any] = call.behaviour(request, call.context)
    return answered


async def _stream(behaviour: Callable[[Any, Any], Any], request: Any, context: Any) -> None:
    responses = behaviour(request, context)
    del request
    try:
        async for response in responses:
            await context.write(response)
            del response  # the next one may be long in coming
    finally:
        # Closed here, in this task: an abandoned generator would run its `finally` whenever it is collected.
        await responses.aclose()
