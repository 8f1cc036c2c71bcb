"""Collects the spans that processes export by OTLP over gRPC."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, Any

import grpc
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2, trace_service_pb2_grpc

from deploy.local.trace_viewer.receiver import spans_of

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Sequence

    from deploy.local.trace_viewer.store import Span


class Spans(trace_service_pb2_grpc.TraceServiceServicer):
    """Every span so far.

    Attributes:
        endpoint: What `OTEL_EXPORTER_OTLP_ENDPOINT` is told.
    """

    def __init__(self) -> None:
        self.endpoint = ""
        self._all: list[Span] = []
        self._changed = asyncio.Event()

    @classmethod
    @contextlib.asynccontextmanager
    async def collect(cls) -> AsyncIterator[Spans]:
        """Listens for the length of the block."""
        spans = cls()
        server = grpc.aio.server(options=[("grpc.max_receive_message_length", 64 * 1024 * 1024)])
        trace_service_pb2_grpc.add_TraceServiceServicer_to_server(spans, server)  # type: ignore[no-untyped-call]
        spans.endpoint = f"http://127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
        await server.start()
        try:
            yield spans
        finally:
            await server.stop(0)

    async def Export(
        self, request: trace_service_pb2.ExportTraceServiceRequest, context: Any
    ) -> trace_service_pb2.ExportTraceServiceResponse:
        self._all += spans_of(request)
        self._changed.set()
        return trace_service_pb2.ExportTraceServiceResponse()

    def __call__(self) -> Sequence[Span]:
        """Returns the spans so far."""
        return list(self._all)

    def of_trace(self, trace_id: str) -> list[Span]:
        """Returns the spans of one trace, in order of their start."""
        return sorted((span for span in self._all if span.trace_id == trace_id), key=lambda span: span.start_ns)

    async def until(self, condition: Callable[[], object], *, timeout_s: float = 15) -> None:
        """Waits until the condition holds; it is looked at whenever spans arrive.

        Raises: TimeoutError.
        """
        async with asyncio.timeout(timeout_s):
            while not condition():
                self._changed.clear()
                await self._changed.wait()
