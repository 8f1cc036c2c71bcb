"""The trace viewer keeps the last traces, bounded, and draws them with true total and self times."""

from __future__ import annotations

import asyncio
import json
import urllib.error
import urllib.request
from collections.abc import AsyncIterator

import pytest
from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor

from deploy.local import http_server
from deploy.local.ports import free_port
from deploy.local.trace_viewer import receiver, waterfall
from deploy.local.trace_viewer.pages import Pages
from deploy.local.trace_viewer.store import Event, Span, Trace, TraceStore

MS = 1_000_000


def span(
    span_id: str, parent_id: str = "", *, at: int = 0, to: int = 10, trace_id: str = "t", turn: bool = False
) -> Span:
    attributes = {"gen_ai.request.model": "demo"} if turn else {}
    return Span(
        trace_id, span_id, parent_id, f"span {span_id}", "chat", "internal", at * MS, to * MS, attributes=attributes
    )


def trace_of(*spans: Span) -> Trace:
    return Trace("t", {item.span_id: item for item in spans})


def test_rows_go_from_parent_to_child_in_the_order_they_began() -> None:
    drawn = waterfall.rows(trace_of(span("c", "a", at=5), span("b", "a", at=1), span("d", "b", at=2), span("a")))
    assert [(row.span.span_id, row.depth) for row in drawn] == [("a", 0), ("b", 1), ("d", 2), ("c", 1)]


def test_self_time_is_what_no_child_covers() -> None:
    """Children that overlap count once; what of a child lies outside its parent does not count."""
    drawn = waterfall.rows(
        trace_of(span("a", to=10), span("b", "a", at=1, to=4), span("c", "a", at=3, to=6), span("d", "a", at=8, to=20))
    )
    assert (drawn[0].total_ms, drawn[0].self_ms) == (10.0, 3.0)


def test_a_span_whose_parent_is_unknown_stands_at_the_top() -> None:
    (row,) = waterfall.rows(trace_of(span("a", "elsewhere")))
    assert (row.depth, row.orphan) == (0, True)


def test_spans_that_are_each_other_s_parents_do_not_hang_it() -> None:
    assert waterfall.rows(trace_of(span("a", "a"))) != []
    assert waterfall.rows(trace_of(span("a", "b"), span("b", "a"))) == []


def test_the_text_marks_milestones() -> None:
    milestone = Span("t", "a", "", "turn", "chat", "server", 0, 10 * MS, events=(Event("first_token", 4 * MS),))
    drawn = waterfall.text(trace_of(milestone), width=100)
    assert "chat: turn" in drawn
    assert "◆ first_token at 4.00 ms" in drawn


def test_turns_are_not_pushed_out_by_other_traces() -> None:
    store = TraceStore(max_turns=2)
    store.add([span("a", trace_id="turn", turn=True)])
    for number in range(5):
        store.add([span("a", trace_id=f"other-{number}", at=number + 1, to=20)])
    assert [trace.trace_id for trace in store.newest_first()] == ["other-4", "other-3", "turn"]
    latest = store.latest()
    assert latest is not None
    assert latest.trace_id == "turn"


def test_the_oldest_turn_goes_first() -> None:
    store = TraceStore(max_turns=2)
    for number in range(4):
        store.add([span("a", trace_id=f"turn-{number}", at=number, turn=True)])
    assert [trace.trace_id for trace in store.newest_first()] == ["turn-3", "turn-2"]


def test_a_trace_has_a_bound_too() -> None:
    store = TraceStore()
    store.add([span(f"{number}") for number in range(2_010)])
    trace = store.get("t")
    assert trace is not None
    assert (len(trace.spans), trace.dropped) == (2_000, 10)


@pytest.fixture
async def viewer() -> AsyncIterator[tuple[str, str]]:
    """Yields the URL of the pages and the address of the receiver."""
    store = TraceStore()
    address = f"127.0.0.1:{free_port()}"
    collector = await receiver.serve(address, store)
    pages = await http_server.serve("127.0.0.1", 0, Pages(store).handle)
    yield f"http://127.0.0.1:{pages.sockets[0].getsockname()[1]}", address
    pages.close()
    await pages.wait_closed()
    await collector.stop(0)


def export(address: str) -> None:
    """Sends one turn and one probe as any process of ours would."""
    provider = TracerProvider(resource=Resource.create({"service.name": "edge"}))
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter(endpoint=f"http://{address}", insecure=True)))
    tracer = provider.get_tracer("test")
    with tracer.start_as_current_span("POST /v1/chat"), tracer.start_as_current_span("chat demo") as call:
        call.set_attribute("gen_ai.request.model", "demo")
        call.add_event("gen_ai.first_chunk", {"n": 1})
    with tracer.start_as_current_span("GET /readyz"):
        pass
    provider.shutdown()


def fetch(url: str) -> str:
    with urllib.request.urlopen(url, timeout=10) as answer:
        return str(answer.read().decode())


async def test_spans_sent_by_an_exporter_become_a_waterfall(viewer: tuple[str, str]) -> None:
    url, address = viewer
    await asyncio.to_thread(export, address)
    (listed,) = json.loads(await asyncio.to_thread(fetch, f"{url}/api/traces"))["traces"]
    shown = json.loads(await asyncio.to_thread(fetch, f"{url}/api/traces/{listed['trace_id']}"))
    assert (listed["is_turn"], listed["model"], listed["services"]) == (True, "demo", ["edge"])
    assert [(row["name"], row["depth"]) for row in shown["rows"]] == [("POST /v1/chat", 0), ("chat demo", 1)]
    assert shown["rows"][1]["attributes"] == {"gen_ai.request.model": "demo"}
    assert shown["rows"][1]["events"][0]["name"] == "gen_ai.first_chunk"


async def test_latest_leads_to_the_page_of_the_newest_turn(viewer: tuple[str, str]) -> None:
    url, address = viewer
    await asyncio.to_thread(export, address)
    assert "<title>Parley traces</title>" in await asyncio.to_thread(fetch, f"{url}/latest")
    assert "edge: POST /v1/chat" in await asyncio.to_thread(fetch, f"{url}/api/latest?format=text")


async def test_the_page_names_no_other_host(viewer: tuple[str, str]) -> None:
    page = await asyncio.to_thread(fetch, f"{viewer[0]}/")
    assert "://" not in page
    assert "src=" not in page


async def test_where_there_is_no_trace_yet_it_says_so(viewer: tuple[str, str]) -> None:
    with pytest.raises(urllib.error.HTTPError, match="404") as error:
        await asyncio.to_thread(fetch, f"{viewer[0]}/api/latest")
    error.value.close()
