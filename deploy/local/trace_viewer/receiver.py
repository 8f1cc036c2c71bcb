"""Receives spans by OTLP over gRPC, as every OpenTelemetry exporter sends them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import grpc
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2, trace_service_pb2_grpc

from deploy.local.trace_viewer.store import Event, Span

if TYPE_CHECKING:
    from collections.abc import Iterable

    from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue
    from opentelemetry.proto.trace.v1 import trace_pb2

    from deploy.local.trace_viewer.store import TraceStore

_KINDS = {0: "internal", 1: "internal", 2: "server", 3: "client", 4: "producer", 5: "consumer"}
_ERROR = 2
_MAX_MESSAGE_BYTES = 16 * 1024 * 1024
# A probe's trace is of no interest to anybody and would push the others out.
_PROBES = ("grpc.health.v1.", "/grpc.health.v1.", "GET /readyz", "GET /healthz")


class _Receiver(trace_service_pb2_grpc.TraceServiceServicer):
    def __init__(self, store: TraceStore) -> None:
        self._store = store

    async def Export(  # noqa: N802 - the contract's name
        self, request: trace_service_pb2.ExportTraceServiceRequest, context: Any
    ) -> trace_service_pb2.ExportTraceServiceResponse:
        """Stores what came in."""
        del context
        self._store.add(spans_of(request))
        return trace_service_pb2.ExportTraceServiceResponse()


async def serve(address: str, store: TraceStore) -> grpc.aio.Server:
    """Listens on `host:port`; what arrives goes into the store."""
    server = grpc.aio.server(
        options=[("grpc.max_receive_message_length", _MAX_MESSAGE_BYTES), ("grpc.so_reuseport", 0)]
    )
    trace_service_pb2_grpc.add_TraceServiceServicer_to_server(_Receiver(store), server)  # type: ignore[no-untyped-call]
    server.add_insecure_port(address)
    await server.start()
    return server


def spans_of(request: trace_service_pb2.ExportTraceServiceRequest) -> list[Span]:
    """Returns the spans of an export, those of health probes left out."""
    spans = []
    for of_resource in request.resource_spans:
        resource = _attributes(of_resource.resource.attributes)
        service = str(resource.get("service.name", "unknown"))
        for of_scope in of_resource.scope_spans:
            spans += [_span(span, service) for span in of_scope.spans if not span.name.startswith(_PROBES)]
    return spans


def _span(span: trace_pb2.Span, service: str) -> Span:
    return Span(
        trace_id=span.trace_id.hex(),
        span_id=span.span_id.hex(),
        parent_id=span.parent_span_id.hex(),
        name=span.name,
        service=service,
        kind=_KINDS.get(span.kind, "internal"),
        start_ns=span.start_time_unix_nano,
        end_ns=max(span.end_time_unix_nano, span.start_time_unix_nano),
        failed=span.status.code == _ERROR,
        attributes=_attributes(span.attributes),
        events=tuple(Event(event.name, event.time_unix_nano, _attributes(event.attributes)) for event in span.events),
    )


def _attributes(pairs: Iterable[KeyValue]) -> dict[str, Any]:
    return {pair.key: _value(pair.value) for pair in pairs}


def _value(value: AnyValue) -> Any:
    kind = value.WhichOneof("value")
    if kind == "array_value":
        return [_value(item) for item in value.array_value.values]
    if kind == "kvlist_value":
        return _attributes(value.kvlist_value.values)
    if kind == "bytes_value":
        return value.bytes_value.hex()
    return getattr(value, kind) if kind is not None else None
