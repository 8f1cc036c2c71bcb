"""What happens around every request, spoken to in ASGI."""

import asyncio
import gc
import json
import weakref
from collections.abc import Sequence
from typing import Any

import openai
import pytest
import structlog
from prometheus_client import REGISTRY
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from runtime.context import current_identity, request_id
from runtime.errors import ParleyError, Unauthenticated
from services.edge.asgi import Front
from services.edge.cors import Cors
from services.edge.operation.readiness import Readiness
from services.edge.server import HttpServer
from services.edge.streams import PushedStream, Streams


class Answer:
    """What a client got."""

    def __init__(self, messages: list[Any]) -> None:
        self.status: int = messages[0]["status"]
        self.headers = {name.decode(): value.decode() for name, value in messages[0]["headers"]}
        self.body = b"".join(message.get("body", b"") for message in messages[1:])

    @property
    def problem(self) -> dict[str, Any]:
        assert self.headers["content-type"] == "application/problem+json"
        problem: dict[str, Any] = json.loads(self.body)
        return problem


async def echo(scope: Scope, receive: Receive, send: Send) -> None:
    """Answers with the request's body."""
    body = b""
    more = True
    while more:
        message = await receive()
        body += message.get("body", b"")
        more = message.get("more_body", False)
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/plain")]})
    await send({"type": "http.response.body", "body": body, "more_body": False})


def front(
    app: ASGIApp = echo,
    *,
    origins: tuple[str, ...] = (),
    readiness: Readiness | None = None,
    body_timeout_s: float = 60,
) -> Front:
    return Front(
        app,
        cors=Cors(origins),
        readiness=readiness or Readiness({}),
        max_body_bytes=10,
        max_prompt_bytes=20,
        body_timeout_s=body_timeout_s,
    )


async def ask(
    app: Front,
    *,
    method: str = "GET",
    path: str = "/v1/x",
    headers: dict[str, str] | None = None,
    body: Sequence[bytes] = (),
    stalls: bool = False,
) -> Answer:
    """Sends one request; `stalls` leaves its body unfinished."""
    parts = list(body)
    sent: list[Any] = []

    async def receive() -> Any:
        if parts:
            part = parts.pop(0)
            return {"type": "http.request", "body": part, "more_body": bool(parts) or stalls}
        if stalls:
            await asyncio.Event().wait()
        return {"type": "http.disconnect"}

    async def send(message: Any) -> None:
        sent.append(message)

    raw = [(name.encode(), value.encode()) for name, value in (headers or {}).items()]
    scope = {"type": "http", "method": method, "path": path, "scheme": "http", "headers": raw}
    await app(scope, receive, send)
    return Answer(sent)


async def test_a_request_gets_an_id_of_its_own() -> None:
    first, second = await ask(front()), await ask(front())
    assert len(first.headers["x-request-id"]) == 32
    assert first.headers["x-request-id"] != second.headers["x-request-id"]


async def test_the_callers_id_is_kept_and_known_to_the_handler() -> None:
    seen = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        seen.append(request_id.get())
        await echo(scope, receive, send)

    answer = await ask(front(app), headers={"x-request-id": "my-id.1"})
    assert answer.headers["x-request-id"] == "my-id.1"
    assert seen == ["my-id.1"]


async def test_a_request_that_has_been_answered_is_held_by_nobody() -> None:
    """Otherwise it stays, with all it led to, until the garbage collector comes by; the connection keeps its scope for longer."""
    held = list[weakref.ref[Any]]()
    scopes = list[Scope]()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        held.append(weakref.ref(scope["parley.exchange"]))
        scopes.append(scope)
        await echo(scope, receive, send)

    gc.disable()
    try:
        assert (await ask(front(app))).status == 200
        assert held[0]() is None
    finally:
        gc.enable()


@pytest.mark.parametrize("given", ["", "x" * 65, "a b", 'quote"', "sëcond", "a\\n"])
async def test_an_id_that_could_disturb_a_log_is_replaced(given: str) -> None:
    answer = await ask(front(), headers={"x-request-id": given})
    assert len(answer.headers["x-request-id"]) == 32


async def test_answers_are_not_kept_sniffed_or_framed() -> None:
    headers = (await ask(front())).headers
    assert headers["cache-control"] == "no-store"
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["referrer-policy"] == "no-referrer"
    assert "frame-ancestors 'none'" in headers["content-security-policy"]


async def test_a_handlers_own_headers_win() -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": [(b"cache-control", b"public")]})
        await send({"type": "http.response.body", "body": b""})

    assert (await ask(front(app))).headers["cache-control"] == "public"


async def test_a_body_within_the_limit_arrives_whole() -> None:
    answer = await ask(front(), method="POST", headers={"content-length": "10"}, body=[b"01234", b"56789"])
    assert answer.body == b"0123456789"


async def test_a_body_said_to_be_too_large_is_refused_before_it_is_read() -> None:
    answer = await ask(front(), method="POST", headers={"content-length": "11"}, body=[b"x"], stalls=True)
    assert (answer.status, answer.problem["code"]) == (413, "body_too_large")


async def test_a_body_that_grows_too_large_is_refused() -> None:
    headers = {"transfer-encoding": "chunked"}
    answer = await ask(front(), method="POST", headers=headers, body=[b"0123456", b"789x"], stalls=True)
    assert (answer.status, answer.problem["code"]) == (413, "body_too_large")


async def test_a_body_that_does_not_come_is_not_waited_for_for_ever() -> None:
    answer = await ask(
        front(body_timeout_s=0.01), method="POST", headers={"content-length": "5"}, body=[b"0"], stalls=True
    )
    assert (answer.status, answer.problem["code"]) == (408, "body_timeout")


async def test_what_nobody_foresaw_is_told_without_its_text() -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        raise RuntimeError("SELECT secret FROM users")

    with structlog.testing.capture_logs() as lines:
        answer = await ask(front(app), headers={"x-request-id": "r1"})
    assert answer.status == 500
    assert answer.problem["detail"] == "internal error"
    assert answer.problem["request_id"] == "r1"
    assert b"secret" not in answer.body
    assert [line["event"] for line in lines] == ["unforeseen_error", "http"]


async def test_a_failure_after_the_answer_has_begun_does_not_begin_another() -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        raise RuntimeError

    with structlog.testing.capture_logs():
        assert (await ask(front(app))).status == 200


async def test_a_request_is_one_line_in_the_log() -> None:
    with structlog.testing.capture_logs() as lines:
        await ask(front(), method="POST", headers={"content-length": "2"}, body=[b"hi"])
    [line] = lines
    assert line["event"] == "http"
    assert line["http.method"] == "POST"
    assert line["http.status"] == 200
    assert {"http.route", "duration_ms", "first_byte_ms"} <= line.keys()


@pytest.mark.parametrize("path", ["/healthz", "/readyz"])
async def test_what_machines_ask_all_the_time_is_not_logged(path: str) -> None:
    with structlog.testing.capture_logs() as lines:
        await ask(front(), path=path)
    assert lines == []


async def test_requests_are_counted_by_route_and_status() -> None:
    labels = {"method": "DELETE", "route": "", "status": "200"}
    before = REGISTRY.get_sample_value("parley_http_requests_total", labels) or 0
    await ask(front(), method="DELETE")
    assert REGISTRY.get_sample_value("parley_http_requests_total", labels) == before + 1


async def test_the_caller_of_one_request_is_not_that_of_the_next() -> None:
    from runtime.context import set_identity
    from runtime.testing import Issuer

    issuer = Issuer()
    set_identity(await issuer.verifier("edge").verify(issuer.token()))

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        with pytest.raises(Unauthenticated):
            current_identity()
        await echo(scope, receive, send)

    assert (await ask(front(app))).status == 200


async def test_without_an_allow_list_no_other_origin_may_call() -> None:
    answer = await ask(front(), headers={"origin": "https://evil.example"})
    assert not [name for name in answer.headers if name.startswith("access-control")]


async def test_a_listed_origin_may_call_and_a_cache_is_told_that_it_matters() -> None:
    answer = await ask(front(origins=("https://app.example",)), headers={"origin": "https://app.example"})
    assert answer.headers["access-control-allow-origin"] == "https://app.example"
    assert "x-request-id" in answer.headers["access-control-expose-headers"]
    assert answer.headers["vary"] == "origin"


@pytest.mark.parametrize("origin", ["https://app.example.evil", "https://APP.example:1", "null", "http://app.example"])
async def test_an_origin_that_only_looks_like_a_listed_one_may_not(origin: str) -> None:
    answer = await ask(front(origins=("https://app.example",)), headers={"origin": origin})
    assert "access-control-allow-origin" not in answer.headers
    assert answer.headers["vary"] == "origin"


async def test_a_preflight_of_a_listed_origin_is_answered_here() -> None:
    headers = {"origin": "https://app.example", "access-control-request-method": "POST"}
    answer = await ask(front(origins=("https://app.example",)), method="OPTIONS", headers=headers)
    assert answer.status == 204
    assert "authorization" in answer.headers["access-control-allow-headers"]
    assert "PATCH" in answer.headers["access-control-allow-methods"]
    assert answer.headers["access-control-allow-origin"] == "https://app.example"


async def test_official_clients_may_call_from_a_page() -> None:
    """What they send of their own accord is asked for by the browser first."""
    headers = {"origin": "https://app.example", "access-control-request-method": "POST"}
    answer = await ask(front(origins=("https://app.example",)), method="OPTIONS", headers=headers)
    allowed = set(answer.headers["access-control-allow-headers"].split(", "))
    sent = {name.lower() for name in openai.OpenAI(api_key="k").default_headers}
    assert sent - {"user-agent", "x-stainless-async"} <= allowed
    assert {"idempotency-key", "x-stainless-retry-count", "x-stainless-timeout"} <= allowed


async def test_a_preflight_of_another_origin_is_not_answered_here() -> None:
    headers = {"origin": "https://evil.example", "access-control-request-method": "POST"}
    answer = await ask(front(origins=("https://app.example",)), method="OPTIONS", headers=headers)
    assert "access-control-allow-methods" not in answer.headers


async def test_while_draining_connections_are_not_kept() -> None:
    readiness = Readiness({})
    assert "connection" not in (await ask(front(readiness=readiness))).headers
    readiness.draining = True
    assert (await ask(front(readiness=readiness))).headers["connection"] == "close"


class Brief(PushedStream):
    """Says one thing."""

    async def relay(self) -> None:
        await self.write(b"data: 1\n\n", 1)

    def farewell(self, error: ParleyError | None) -> bytes:
        return b""


async def test_whoever_stands_between_sees_that_a_stream_has_begun() -> None:
    """The framework answers what fails by a 500, and a stream that has begun is not answered again."""
    seen: list[str] = []
    streams = Streams(limit=1, heartbeat_s=60, stalled_reader_s=60)

    async def between(scope: Scope, receive: Receive, send: Send) -> None:
        async def noting(message: Message) -> None:
            seen.append(message["type"])
            await send(message)

        await Brief(streams)(scope, receive, noting)

    server = HttpServer(front(between), "127.0.0.1:0", max_connections=1, head_timeout_s=60, stalled_reader_s=60)
    await server.start()
    try:
        async with asyncio.timeout(20):
            reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
            writer.write(b"GET /v1/x HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")
            answer = await reader.read()
            writer.close()
    finally:
        await server.stop()
    assert b"data: 1" in answer
    assert seen[0] == "http.response.start"
