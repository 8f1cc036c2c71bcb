"""Logs, traces and metrics, set up once per process; and the spans that everybody opens."""

from __future__ import annotations

import functools
import os
import sys
from typing import TYPE_CHECKING, Any

from opentelemetry import context, trace
from opentelemetry.sdk.resources import SERVICE_NAME, Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from prometheus_client import start_http_server

from runtime import logs, spans

if TYPE_CHECKING:
    from collections.abc import Container, Mapping

    from opentelemetry.trace import Span, SpanKind


def configure(service: str, *, log_level: str, log_format: str, metrics_listen: str) -> None:
    """Sets up logs, traces and metrics for this process.

    Spans go to `OTEL_EXPORTER_OTLP_ENDPOINT` or `OTEL_EXPORTER_OTLP_TRACES_ENDPOINT` (gRPC) when one is set, sampled by
    `OTEL_TRACES_SAMPLER`; without one, and with `OTEL_TRACES_EXPORTER=none`, trace ids still cross every hop.

    Args:
        service: Name in every log line and span.
        log_level: `debug`, `info`, `warning` or `error`.
        log_format: `json`, `pretty`, or `auto`: pretty on a terminal.
        metrics_listen: `host:port` of the Prometheus endpoint; empty: none.
    """
    logs.configure(service, log_level, pretty=log_format == "pretty" or (log_format == "auto" and sys.stdout.isatty()))
    provider = TracerProvider(resource=Resource.create({SERVICE_NAME: service, "service.namespace": "parley"}))
    endpoint = os.environ.get("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT") or os.environ.get("OTEL_EXPORTER_OTLP_ENDPOINT")
    if endpoint and os.environ.get("OTEL_TRACES_EXPORTER") != "none":
        # Imported here: a process that exports nothing need not pay for the exporter (40 MB).
        from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter

        provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter(), schedule_delay_millis=500))
    trace.set_tracer_provider(provider)
    if metrics_listen:
        host, _, port = metrics_listen.rpartition(":")
        start_http_server(int(port), host)


def shutdown() -> None:
    """Sends the spans that are still waiting; called after the drain."""
    provider = trace.get_tracer_provider()
    if isinstance(provider, TracerProvider):
        provider.shutdown()


class span:  # noqa: N801 - used like a function
    """Opens a span as the current one for the length of a `with` block, and gives it.

    Exceptions mark it as failed by class, never by text: a text may hold what a user wrote. What `fail` has said before stands.

    Args:
        name: Low-cardinality name, as OpenTelemetry's conventions spell it.
        kind: Role of this side.
        attributes: Known at the start.
        remote: Incoming headers to take the parent from, lower-case names; None: the current span is the parent.
    """

    __slots__ = ("_arguments", "_span", "_token")

    def __init__(
        self,
        name: str,
        *,
        kind: SpanKind = trace.SpanKind.INTERNAL,
        attributes: Mapping[str, Any] | None = None,
        remote: Mapping[str, str] | None = None,
    ) -> None:
        self._arguments = (name, remote, kind, attributes)

    def __enter__(self) -> Span:
        name, remote, kind, attributes = self._arguments
        del self._arguments  # headers need not be kept for as long as a stream lasts
        within = spans.current_context()
        parent = spans.current(within) if remote is None else spans.parent_in(remote)
        self._span = spans.recorder().start(name, parent, kind, attributes)
        self._token = spans.attach(spans.below(within, self._span))
        return self._span

    def __exit__(self, _: object, error: BaseException | None, __: object) -> None:
        if error is not None:
            # What the block itself has said of its failure says more than the class that carries it.
            status = getattr(self._span, "status", None)
            if status is None or status.status_code is not trace.StatusCode.ERROR:
                fail(self._span, type(error).__qualname__)
        context.detach(self._token)
        self._span.end()


@functools.cache
def rpc(path: str) -> tuple[str, Mapping[str, str]]:
    """Returns the name and the first attributes of the spans of an RPC.

    Args:
        path: `/package.Service/Method`, of a method that is known to be one: whatever is asked for is remembered.
    """
    service, _, method = path[1:].partition("/")
    return path[1:], {"rpc.system": "grpc", "rpc.service": service, "rpc.method": method}


def fail(current: Span, error_type: str) -> None:
    """Marks a span as failed for the given reason."""
    current.set_attribute("error.type", error_type)
    current.set_status(trace.StatusCode.ERROR)


def may_name_a_trace(headers: Container[bytes]) -> bool:
    """Says whether it is worth looking for a caller's span in incoming headers, lower-case names."""
    return spans.may_name_a_trace(headers)


def outgoing_headers() -> dict[str, str]:
    """Returns the W3C trace headers that a call to another process carries."""
    return spans.outgoing_headers()
