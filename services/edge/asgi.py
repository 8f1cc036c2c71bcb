"""What happens around every request: request id, span, log line, metrics, body limit, CORS, security headers. Pure ASGI."""

from __future__ import annotations

import asyncio
import functools
import time
from typing import TYPE_CHECKING, Any

import structlog
from opentelemetry.trace import SpanKind
from prometheus_client import Counter, Gauge, Histogram

from runtime import telemetry
from runtime.context import accepted_request_id, credential, request_id, set_identity
from runtime.errors import Internal, ParleyError
from services.edge import problems
from services.edge.dialects.openai import errors as openai_errors
from services.edge.problems import BodyTimeout, BodyTooLarge
from services.edge.wire import WIRE

if TYPE_CHECKING:
    from collections.abc import Awaitable, Iterable

    from opentelemetry.trace import Span
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

    from services.edge.cors import Cors
    from services.edge.operation.readiness import Readiness
    from services.edge.wire import Wire

log = structlog.stdlib.get_logger()

UNTOUCHED = frozenset({"/healthz", "/readyz"})
"""Paths that machines ask all the time: neither traced nor logged."""

EXCHANGE = "parley.exchange"
"""Where a request's scope holds its `Exchange`."""
_SECURITY_HEADERS = {
    b"cache-control": b"no-store",
    b"content-security-policy": b"default-src 'none'; frame-ancestors 'none'",
    b"referrer-policy": b"no-referrer",
    b"x-content-type-options": b"nosniff",
}
_SERVER_ERROR = 500
_CLIENT_CLOSED = 499  # never sent: nobody is there to read it
_REQUESTS = Counter("parley_http_requests_total", "Requests answered.", ["method", "route", "status"])
_SECONDS = Histogram(
    "parley_http_request_duration_seconds",
    "Length of requests, streams included.",
    ["method", "route"],
    buckets=[0.001 * 4**n for n in range(10)],
)
_FIRST_BYTE = Histogram(
    "parley_http_first_byte_seconds",
    "From the request to the first byte of its answer.",
    ["method", "route"],
    buckets=[0.0005 * 2**n for n in range(16)],
)
_ACTIVE = Gauge("parley_http_requests_active", "Requests under way.")
_REMEMBERED = 512  # paths are few, and methods those that a parser knows


class _ClientGoneError(Exception):
    """The client left while it was sending."""


class Exchange:
    """One request and what is known of its answer.

    Attributes:
        headers: The request's as they came, lower-case names, of several the last; none once the answer has begun.
        status: The answer's, once it has begun.
        first_byte_s: How long the caller waited for it.
        reason: Code of the error it tells of.
        notes: What handlers add to the log line.
    """

    def __init__(self, scope: Scope, send: Send, extra: list[tuple[bytes, bytes]]) -> None:
        self.scope = scope
        self.headers: dict[bytes, bytes] = dict(scope["headers"])
        self.status: int | None = None
        self.first_byte_s = 0.0
        self.reason = ""
        self.notes: dict[str, Any] = {}
        self.extra = extra
        self._send = send
        self._started = time.perf_counter()

    def header(self, name: bytes) -> str:
        """Returns a header of the request; empty: there is none."""
        return self.headers.get(name, b"").decode("latin-1")

    def text_headers(self) -> dict[str, str]:
        """Returns the request's headers as text."""
        return {name.decode("latin-1"): value.decode("latin-1") for name, value in self.headers.items()}

    async def send(self, message: Message) -> None:
        """Sends one part of the answer, completing its headers."""
        if message["type"] == "http.response.start":
            message = {**message, "headers": self.begin(message["status"], message["headers"])}
        await self._send(message)

    def begin(self, status: int, headers: Iterable[tuple[bytes, bytes]]) -> list[tuple[bytes, bytes]]:
        """Notes that the answer begins now, and returns all of its headers."""
        self.status = status
        self.first_byte_s = self.elapsed_s
        given = list(headers)
        names = {name for name, _ in given}
        missing = [(name, value) for name, value in _SECURITY_HEADERS.items() if name not in names]
        whole = [*given, *missing, *self.extra]
        self.headers = {}  # read by now, and an answer may last for long
        self.extra.clear()
        return whole

    def let_go(self) -> None:
        """Ends it: what the scope leads to would otherwise lead back to it, and stay until the garbage collector comes by."""
        self.scope.pop(EXCHANGE, None)
        self.scope.pop(WIRE, None)

    @property
    def elapsed_s(self) -> float:
        """Seconds since the request came in."""
        return time.perf_counter() - self._started

    @property
    def route(self) -> str:
        """The path as the API describes it, such as `/v1/runs/{run_id}`; empty: there is none."""
        return getattr(self.scope.get("route"), "path", "")


class Replay:
    """A `receive` that begins with the whole body.

    Attributes:
        body: The same; None once it has been received.
    """

    __slots__ = ("_receive", "body")

    def __init__(self, body: bytes, receive: Receive) -> None:
        self.body: bytes | None = body
        self._receive = receive

    async def __call__(self) -> Message:
        body, self.body = self.body, None
        if body is None:
            return await self._receive()
        return {"type": "http.request", "body": body, "more_body": False}


class Front:
    """The outermost application.

    Args:
        app: What answers; it finds `parley.exchange` and `parley.notes` in the scope.
        cors: Which origins may call.
        readiness: Whether this instance drains; then connections are not kept.
        max_body_bytes: Longest body.
        max_prompt_bytes: The same below `/openai/v1/`.
        body_timeout_s: Longest wait for it.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        cors: Cors,
        readiness: Readiness,
        max_body_bytes: int,
        max_prompt_bytes: int,
        body_timeout_s: float,
    ) -> None:
        self._app = app
        self._cors = cors
        self._readiness = readiness
        self._max_body_bytes = max_body_bytes
        self._max_prompt_bytes = max_prompt_bytes
        self._body_timeout_s = body_timeout_s
        self._active = 0
        _ACTIVE.set_function(lambda: self._active)

    def __call__(self, scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
        """Answers one request; to be called where it is awaited, in a context of its own."""
        if scope["type"] != "http":
            return self._app(scope, receive, send)
        exchange = Exchange(scope, send, [])
        rid = accepted_request_id(exchange.header(b"x-request-id") if b"x-request-id" in exchange.headers else "")
        request_id.set(rid)
        credential.set("")
        set_identity(None)
        exchange.extra += [(b"x-request-id", rid.encode()), *self._cors.headers(exchange.header(b"origin"))]
        if self._readiness.draining:
            exchange.extra.append((b"connection", b"close"))
        scope[EXCHANGE], scope["parley.notes"] = exchange, exchange.notes
        if scope["path"] in UNTOUCHED:
            return self._answer(exchange, receive)
        return self._observe(exchange, receive)

    async def _observe(self, exchange: Exchange, receive: Receive) -> None:
        method = exchange.scope["method"]
        attributes = {
            "http.request.method": method,
            "url.path": exchange.scope["path"],
            "url.scheme": exchange.scope["scheme"],
        }
        remote = exchange.text_headers() if telemetry.may_name_a_trace(exchange.headers) else {}
        self._active += 1
        with telemetry.span(method, kind=SpanKind.SERVER, attributes=attributes, remote=remote) as span:
            del attributes, remote  # a stream may last for long
            try:
                await self._answer(exchange, receive)
            except asyncio.CancelledError:
                exchange.reason = exchange.reason or "CANCELLED"
                raise
            finally:
                self._active -= 1
                self._record(exchange, span)
                exchange.let_go()

    async def _answer(self, exchange: Exchange, receive: Receive) -> None:
        scope = exchange.scope
        try:
            if scope["method"] == "OPTIONS":
                allowed = self._cors.preflight(scope["method"], exchange.text_headers())
                if allowed is not None:
                    await allowed(scope, receive, exchange.send)
                    return
            if longest := self._longest_body(exchange):
                whole = _body_at_hand(scope, longest)
                if whole is None:
                    whole = await self._read_body(receive, longest)
                receive, whole = Replay(whole, receive), None  # held by nobody once it has been read
            await self._app(scope, receive, exchange.send)
        except _ClientGoneError:
            return
        except ParleyError as error:
            await self._refuse(exchange, receive, error)
        except Exception:
            # Told once, here; the framework has already answered where it could.
            log.exception("unforeseen_error", **{"http.route": exchange.route})
            await self._refuse(exchange, receive, Internal("internal error"))

    async def _refuse(self, exchange: Exchange, receive: Receive, error: ParleyError) -> None:
        exchange.reason = error.code
        if exchange.status is None:
            await problems.respond(error, path=exchange.scope["path"])(exchange.scope, receive, exchange.send)

    def _longest_body(self, exchange: Exchange) -> int:
        """Returns how many bytes the body may have; 0: the request is said to have none."""
        headers = exchange.headers
        prompt = exchange.scope["path"].startswith(openai_errors.PREFIX)
        longest = self._max_prompt_bytes if prompt else self._max_body_bytes
        length = headers.get(b"content-length", b"")
        if length.isdigit() and int(length) > longest:
            raise _too_large(longest)
        if length in {b"", b"0"} and b"transfer-encoding" not in headers:
            return 0
        return longest

    async def _read_body(self, receive: Receive, longest: int) -> bytes:
        body = bytearray()
        try:
            async with asyncio.timeout(self._body_timeout_s):
                more = True
                while more:
                    message = await receive()
                    if message["type"] == "http.disconnect":
                        raise _ClientGoneError
                    body += message.get("body", b"")
                    if len(body) > longest:
                        raise _too_large(longest)
                    more = message.get("more_body", False)
        except TimeoutError:
            raise BodyTimeout("The request's body did not arrive in time.") from None
        return bytes(body)

    def _record(self, exchange: Exchange, span: Span) -> None:
        method, route, seconds = exchange.scope["method"], exchange.route, exchange.elapsed_s
        status = exchange.status or _CLIENT_CLOSED
        span.update_name(f"{method} {route}" if route else method)
        span.set_attribute("http.route", route)
        span.set_attribute("http.response.status_code", status)
        if status >= _SERVER_ERROR:
            telemetry.fail(span, exchange.reason or str(status))
        _requests(method, route, status).inc()
        _seconds(method, route).observe(seconds)
        if exchange.status is not None:
            _first_byte(method, route).observe(exchange.first_byte_s)
        log.info(
            "http",
            **{
                "http.method": method,
                "http.route": route,
                "http.status": status,
                "duration_ms": round(seconds * 1000, 2),
                "first_byte_ms": round(exchange.first_byte_s * 1000, 2),
            },
            **({"reason": exchange.reason} if exchange.reason else {}),
            **exchange.notes,
        )


@functools.lru_cache(_REMEMBERED)
def _requests(method: str, route: str, status: int) -> Counter:
    """Looks a measure up once: that costs more than to write it."""
    return _REQUESTS.labels(method, route, str(status))


@functools.lru_cache(_REMEMBERED)
def _seconds(method: str, route: str) -> Histogram:
    return _SECONDS.labels(method, route)


@functools.lru_cache(_REMEMBERED)
def _first_byte(method: str, route: str) -> Histogram:
    return _FIRST_BYTE.labels(method, route)


def _body_at_hand(scope: Scope, longest: int) -> bytes | None:
    """Returns the body where all of it came with the head, as nearly every message's does."""
    wire: Wire | None = scope.get(WIRE)
    body = wire.body() if wire is not None else None
    if body is not None and len(body) > longest:
        raise _too_large(longest)
    return body


def _too_large(max_bytes: int) -> BodyTooLarge:
    return BodyTooLarge(f"The body may have at most {max_bytes} bytes.", max_bytes=str(max_bytes))
