"""OpenTelemetry, structlog and Prometheus, set up once per process."""

from __future__ import annotations

import logging
import os
import sys
from typing import TYPE_CHECKING, Any

import structlog
from opentelemetry import context, propagate, trace
from opentelemetry.sdk.resources import SERVICE_NAME, Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from prometheus_client import start_http_server

from runtime.context import request_id

if TYPE_CHECKING:
    from collections.abc import Mapping, MutableMapping

    from opentelemetry.trace import Span, SpanKind

log = structlog.stdlib.get_logger()

_tracer = trace.get_tracer("parley")


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
    _configure_logs(service, log_level, pretty=log_format == "pretty" or (log_format == "auto" and sys.stdout.isatty()))
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
        parent = propagate.extract(remote) if remote is not None else None
        self._arguments = (name, parent, kind, attributes)

    def __enter__(self) -> Span:
        self._span = _tracer.start_span(*self._arguments)
        self._token = context.attach(trace.set_span_in_context(self._span))
        return self._span

    def __exit__(self, _: object, error: BaseException | None, __: object) -> None:
        if error is not None:
            # What the block itself has said of its failure says more than the class that carries it.
            status = getattr(self._span, "status", None)
            if status is None or status.status_code is not trace.StatusCode.ERROR:
                fail(self._span, type(error).__qualname__)
        context.detach(self._token)
        self._span.end()


def fail(current: Span, error_type: str) -> None:
    """Marks a span as failed for the given reason."""
    current.set_attribute("error.type", error_type)
    current.set_status(trace.StatusCode.ERROR)


def outgoing_headers() -> dict[str, str]:
    """Returns the W3C trace headers that a call to another process carries."""
    headers: dict[str, str] = {}
    propagate.inject(headers)
    return headers


def _configure_logs(service: str, level: str, *, pretty: bool) -> None:
    def add_context(_: Any, __: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
        event["service"] = service
        if (rid := request_id.get()) and "request_id" not in event:
            event["request_id"] = rid
        context = trace.get_current_span().get_span_context()
        if context.is_valid:
            event["trace_id"] = format(context.trace_id, "032x")
            event["span_id"] = format(context.span_id, "016x")
        return event

    shared: list[Any] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        add_context,
    ]
    if pretty:
        # Plain tracebacks: the default ones show every frame's variables, and with them passwords and prompts.
        render: list[Any] = [structlog.dev.ConsoleRenderer(exception_formatter=structlog.dev.plain_traceback)]
    else:
        render = [structlog.processors.format_exc_info, structlog.processors.JSONRenderer()]
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        wrapper_class=structlog.make_filtering_bound_logger(getattr(logging, level.upper())),
        logger_factory=structlog.stdlib.LoggerFactory(),
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(sys.stdout)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared, processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *render]
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
    # Libraries speak when something is wrong; their chatter is not ours, and some of it holds URLs and bodies.
    for noisy in (
        "grpc",
        "uvicorn",
        "uvicorn.access",
        "asyncio",
        "LiteLLM",
        "httpx",
        "httpcore",
        "aiohttp",
        "opentelemetry",
    ):
        logging.getLogger(noisy).setLevel(logging.WARNING)
