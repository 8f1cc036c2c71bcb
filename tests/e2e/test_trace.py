"""A turn is one trace, from the edge to the provider and the stores."""

import contextlib
import secrets
from collections.abc import Sequence

import httpx
import pytest

from deploy.local.trace_viewer.store import Span
from tests.e2e.person import Person
from tests.e2e.system import System
from tests.fakes.script import Answer

HOPS = (
    ("edge", "chat", "parley.chat.v1.ChatService/StartRun"),
    ("chat", "data", "parley.data.v1.RunService/BeginRun"),
    ("chat", "data", "parley.data.v1.RunService/FinishRun"),
    ("chat", "gateway", "parley.gateway.v1.GatewayService/Chat"),
)
"""Caller, callee and method of the calls of a turn."""


@pytest.fixture(scope="module")
async def turn(stack: System) -> tuple[str, str, Sequence[Span]]:
    """The spans of one turn whose caller sent a trace context; with that caller's span id and the request id.

    It takes more than a second: then the run also stores a checkpoint.
    """
    stack.provider.script(Answer(chunks=["One ", "after ", "the ", "other."], delay_s=0.4), match="Trace me")
    trace_id, span_id = secrets.token_hex(16), secrets.token_hex(8)
    person = await Person.sign_up(stack.edge_url)
    headers = {"traceparent": f"00-{trace_id}-{span_id}-01"}
    body = {"message": "Trace me", "conversation_id": await person.titled()}
    async with person.stream("/v1/chat", body, headers=headers) as stream:
        await stream.whole()
    await person.close()

    def complete() -> bool:
        """Each process exports when it likes: all has come when both sides of every hop and every parent are there."""
        spans = stack.spans.of_trace(trace_id)
        known = {span.span_id for span in spans} | {span_id}
        names = {(span.service, span.name) for span in spans}
        return (
            all({(caller, method), (callee, method)} <= names for caller, callee, method in HOPS)
            and any(span.name == "POST /v1/chat" for span in spans)
            and all(span.parent_id in known for span in spans)
        )

    # Should something be missing, the tests say what.
    with contextlib.suppress(TimeoutError):
        await stack.spans.until(complete)
    return span_id, stream.response.headers["x-request-id"], stack.spans.of_trace(trace_id)


def one(spans: Sequence[Span], service: str, kind: str, name: str) -> Span:
    [found] = [span for span in spans if (span.service, span.kind) == (service, kind) and name in span.name]
    return found


def test_it_hangs_below_its_callers_span(turn: tuple[str, str, Sequence[Span]]) -> None:
    caller, _, spans = turn
    roots = [span for span in spans if span.parent_id == caller]
    assert [(root.service, root.kind, root.name) for root in roots] == [("edge", "server", "POST /v1/chat")]


def test_every_span_has_its_parent_in_the_trace(turn: tuple[str, str, Sequence[Span]]) -> None:
    caller, _, spans = turn
    known = {span.span_id for span in spans} | {caller}
    assert [span.name for span in spans if span.parent_id not in known] == []


def test_each_hop_hangs_below_the_call_that_caused_it(turn: tuple[str, str, Sequence[Span]]) -> None:
    _, _, spans = turn
    by_id = {span.span_id: span for span in spans}
    for caller, callee, method in HOPS:
        server = one(spans, callee, "server", method)
        client = by_id[server.parent_id]
        assert (client.service, client.kind, client.name) == (caller, "client", method)


def test_stores_are_in_it(turn: tuple[str, str, Sequence[Span]]) -> None:
    _, _, spans = turn
    systems = {(span.service, span.attributes.get("db.system.name")) for span in spans}
    assert ("data", "postgresql") in systems


def test_the_log_in_redis_is_in_it(turn: tuple[str, str, Sequence[Span]]) -> None:
    _, _, spans = turn
    assert ("chat", "redis") in {(span.service, span.attributes.get("db.system.name")) for span in spans}


def test_the_model_call_speaks_the_conventions_of_generative_ai(turn: tuple[str, str, Sequence[Span]]) -> None:
    _, _, spans = turn
    [call] = [
        span for span in spans if span.attributes.get("gen_ai.operation.name") == "chat" and span.kind == "client"
    ]
    assert call.service == "gateway"
    assert call.attributes["gen_ai.provider.name"] == "openai"
    assert call.attributes["gen_ai.request.model"]
    assert call.attributes["gen_ai.usage.input_tokens"] == 11
    assert call.attributes["gen_ai.usage.output_tokens"] > 0
    assert any("gen_ai.conversation.id" in span.attributes for span in spans)


def test_the_turns_milestones_are_marked(turn: tuple[str, str, Sequence[Span]]) -> None:
    _, _, spans = turn
    marks = {(span.service, event.name) for span in spans for event in span.events}
    assert ("edge", "first_text_sent") in marks
    assert len([name for service, name in marks if service == "chat"]) >= 3


def test_there_is_no_span_per_token(turn: tuple[str, str, Sequence[Span]]) -> None:
    _, _, spans = turn
    assert len(spans) < 40
    assert len([span for span in spans if span.service == "edge"]) <= 3


async def test_what_the_log_says_of_it_can_be_found_by_its_trace(
    stack: System, turn: tuple[str, str, Sequence[Span]]
) -> None:
    _, request_id, spans = turn
    for service in ("edge", "chat", "gateway", "data"):
        log = (stack.logs_dir / f"{service}.log").read_text()
        lines = [line for line in log.splitlines() if spans[0].trace_id in line]
        assert lines, service
        assert any(request_id in line for line in lines), service


async def test_who_signs_up_is_found_from_the_edge_to_auths_tables(stack: System) -> None:
    trace_id, method = secrets.token_hex(16), "parley.auth.v1.AuthService/SignUp"
    newcomer = Person(stack.edge_url)
    newcomer.http.headers["traceparent"] = f"00-{trace_id}-{secrets.token_hex(8)}-01"
    body = {"email": newcomer.email, "password": newcomer.password}
    assert (await newcomer.http.post("/auth/v1/signup", json=body)).status_code == 200
    await newcomer.close()

    def complete() -> bool:
        spans = stack.spans.of_trace(trace_id)
        found = {(span.service, span.kind, span.name) for span in spans}
        stores = {(span.service, span.attributes.get("db.system.name")) for span in spans}
        return {("edge", "client", method), ("auth", "server", method)} <= found and ("auth", "postgresql") in stores

    await stack.spans.until(complete)


async def test_a_request_without_a_trace_context_begins_one(stack: System, person: Person) -> None:
    before = len(stack.spans())
    request_id = secrets.token_hex(8)
    await person.http.get("/v1/conversations", headers={"x-request-id": request_id})
    await stack.spans.until(
        lambda: any(span.name == "GET /v1/conversations" and not span.parent_id for span in stack.spans()[before:])
    )


async def test_probes_leave_no_trace(stack: System) -> None:
    async with httpx.AsyncClient(base_url=stack.edge_url) as http:
        await http.get("/readyz")
    assert [span.name for span in stack.spans() if "Health" in span.name or "readyz" in span.name] == []
