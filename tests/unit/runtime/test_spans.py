"""Spans are as OpenTelemetry's own, for whoever reads them and on the wire."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from opentelemetry import baggage, context, trace
from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF, ALWAYS_ON, ParentBased, Sampler
from opentelemetry.trace import Span, SpanContext, SpanKind, Status, StatusCode, TraceFlags

from runtime import spans

if TYPE_CHECKING:
    from collections.abc import Iterator

TRACE, SPAN = 0x0AF7651916CD43DD8448EB211C80319C, 0xB7AD6B7169203331
PARENT = SpanContext(TRACE, SPAN, True, TraceFlags(1))
TRACEPARENT = f"00-{TRACE:032x}-{SPAN:016x}-01"


def exporting(sampler: Sampler | None = None) -> tuple[TracerProvider, InMemorySpanExporter]:
    provider = TracerProvider(sampler or ParentBased(ALWAYS_ON), Resource.create({"service.name": "x"}), False)
    exporter = InMemorySpanExporter()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    return provider, exporter


def start(
    provider: trace.TracerProvider, parent: SpanContext | None = PARENT, kind: SpanKind = SpanKind.INTERNAL
) -> Span:
    return spans.Recorder(provider).start("name", parent, kind, {"a": 1})


@pytest.fixture
def clean() -> Iterator[None]:
    """A context of the test's own."""
    token = context.attach(context.Context())
    yield
    context.detach(token)


def tell(span: Span) -> None:
    span.set_attribute("b", ["x", "y"])
    span.set_attribute("a", 2)
    span.set_attributes({"c": True, "d": 0.5, "e": "é"})
    span.add_event("happened", {"n": 1}, timestamp=7)
    span.add_link(SpanContext(1, 2, False), {"l": "m"})
    span.update_name("other")
    span.set_status(StatusCode.ERROR, "why")
    span.end(9)


def wire(span: ReadableSpan) -> bytes:
    """Returns what an exporter sends, without what differs between any two spans and the order of attributes, which says nothing."""
    request = encode_spans([span])
    [sent] = request.resource_spans[0].scope_spans[0].spans
    sent.span_id, sent.start_time_unix_nano = b"", 0
    sent.attributes.sort(key=lambda attribute: attribute.key)
    return request.SerializeToString(deterministic=True)


def test_an_exporter_sends_what_it_sends_of_an_sdks_span() -> None:
    provider, exporter = exporting()
    parent_context = trace.set_span_in_context(trace.NonRecordingSpan(PARENT))
    tell(provider.get_tracer("parley").start_span("name", parent_context, SpanKind.CLIENT, {"a": 1}))
    tell(start(provider, kind=SpanKind.CLIENT))
    theirs, ours = exporter.get_finished_spans()
    assert wire(ours) == wire(theirs)
    assert ours.start_time is not None
    assert ours.to_json().count("\n") == theirs.to_json().count("\n")


def test_it_belongs_to_the_trace_of_its_parent() -> None:
    provider, exporter = exporting()
    start(provider).end()
    [span] = exporter.get_finished_spans()
    assert span.context is not None
    assert (span.context.trace_id, span.parent) == (TRACE, PARENT)
    assert span.context.span_id != SPAN


def test_one_without_a_parent_begins_a_trace() -> None:
    provider, exporter = exporting()
    for _ in range(2):
        start(provider, None).end()
    first, second = exporter.get_finished_spans()
    assert first.parent is None
    assert first.context is not None
    assert second.context is not None
    assert first.context.is_valid
    assert first.context.trace_id != second.context.trace_id


def test_where_a_trace_begins_its_ids_say_what_the_sdks_say() -> None:
    provider, _ = exporting()
    theirs = provider.get_tracer("parley").start_span("name", context.Context()).get_span_context()
    ours = start(provider, None).get_span_context()
    assert ours[2:] == theirs[2:]


def test_a_sampler_that_begins_no_traces_is_asked() -> None:
    provider, _ = exporting(ParentBased(ALWAYS_OFF))
    assert not start(provider, None).is_recording()
    assert start(provider).is_recording()


def test_what_it_is_told_after_its_end_is_lost() -> None:
    provider, exporter = exporting()
    span = start(provider)
    span.end()
    tell(span)
    [read] = exporter.get_finished_spans()
    assert (read.name, dict(read.attributes or {}), read.events, read.links) == ("name", {"a": 1}, (), ())
    assert read.status.is_unset
    assert not span.is_recording()


def test_ok_stands_whatever_comes_after() -> None:
    provider, exporter = exporting()
    span = start(provider)
    span.set_status(Status(StatusCode.ERROR))
    span.set_status(StatusCode.UNSET)
    span.set_status(StatusCode.OK)
    span.set_status(StatusCode.ERROR)
    span.end()
    assert exporter.get_finished_spans()[0].status.status_code is StatusCode.OK


def test_an_exception_is_noted_by_its_class_alone() -> None:
    provider, exporter = exporting()
    span = start(provider)
    span.record_exception(ValueError("what a user wrote"))
    span.end()
    [event] = exporter.get_finished_spans()[0].events
    assert (event.name, dict(event.attributes or {})) == ("exception", {"exception.type": "ValueError"})


def test_it_holds_no_more_attributes_than_opentelemetry_allows() -> None:
    provider, exporter = exporting()
    span = start(provider)
    span.set_attributes({str(number): number for number in range(200)})
    span.end()
    [read] = exporter.get_finished_spans()
    assert len(read.attributes or {}) == 128
    assert read.dropped_attributes == 73


@pytest.mark.parametrize("sampler", [ParentBased(ALWAYS_ON), ALWAYS_OFF])
def test_one_that_is_not_sampled_has_ids_of_its_own_and_is_never_exported(sampler: Sampler) -> None:
    provider, exporter = exporting(sampler)
    span = start(provider, SpanContext(TRACE, SPAN, True, TraceFlags(0)))
    assert not span.is_recording()
    ids = span.get_span_context()
    assert (ids.trace_id, ids.trace_flags) == (TRACE, 0)
    assert ids.span_id != SPAN
    tell(span)
    assert exporter.get_finished_spans() == ()


@pytest.mark.parametrize("parent", [None, PARENT])
def test_a_sampler_that_does_not_go_by_the_parent_is_asked(parent: SpanContext | None) -> None:
    provider, _ = exporting(ALWAYS_OFF)
    assert not start(provider, parent).is_recording()


def test_without_an_sdk_a_trace_is_passed_on_and_nothing_is_recorded() -> None:
    span = start(trace.NoOpTracerProvider())
    assert not span.is_recording()
    assert span.get_span_context().trace_id == TRACE


def test_headers_lead_to_the_span_they_were_made_for(clean: None) -> None:
    provider, _ = exporting()
    span = start(provider)
    context.attach(trace.set_span_in_context(span))
    headers = spans.outgoing_headers()
    assert list(headers) == ["traceparent"]
    found = spans.parent_in(headers)
    assert found is not None
    ids = span.get_span_context()
    assert (found.trace_id, found.span_id, found.trace_flags) == (ids.trace_id, ids.span_id, 1)
    assert found.is_remote


@pytest.mark.parametrize(
    "given",
    [
        "",
        "00",
        f"ff-{TRACE:032x}-{SPAN:016x}-01",
        f"00-{0:032x}-{SPAN:016x}-01",
        f"00-{TRACE:032x}-{0:016x}-01",
        f"00-{TRACE:032X}-{SPAN:016x}-01",
        f"{TRACEPARENT}-more",
    ],
)
def test_headers_that_are_not_well_formed_lead_nowhere(given: str) -> None:
    assert spans.parent_in({"traceparent": given}) is None


@pytest.mark.parametrize("given", [TRACEPARENT, f" {TRACEPARENT} ", f"01-{TRACEPARENT[3:]}-what-comes-later"])
def test_headers_of_this_version_and_later_ones_are_read(given: str) -> None:
    assert spans.parent_in({"traceparent": given, "other": "x"}) == PARENT


def test_a_callers_trace_state_and_unknown_flags_go_with_the_trace(clean: None) -> None:
    provider, _ = exporting()
    found = spans.parent_in({"traceparent": f"{TRACEPARENT[:-2]}07", "tracestate": "vendor=value"})
    context.attach(trace.set_span_in_context(start(provider, found)))
    headers = spans.outgoing_headers()
    assert headers["tracestate"] == "vendor=value"
    assert headers["traceparent"][-2:] == "03"


def test_baggage_goes_with_the_trace(clean: None) -> None:
    provider, _ = exporting()
    context.attach(baggage.set_baggage("k", "v"))
    context.attach(trace.set_span_in_context(start(provider)))
    assert spans.outgoing_headers()["baggage"] == "k=v"


def test_without_a_trace_there_are_no_headers(clean: None) -> None:
    assert spans.outgoing_headers() == {}
