"""The last traces, in memory and bounded; turns are kept longer than what else is traced."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass, field
from typing import Any

_MAX_SPANS = 2000


@dataclass(frozen=True)
class Event:
    """A moment within a span."""

    name: str
    time_ns: int
    attributes: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Span:
    """A span as received; times are nanoseconds since 1970.

    Attributes:
        parent_id: Empty for a root.
        kind: `internal`, `server`, `client`, `producer`, `consumer`.
    """

    trace_id: str
    span_id: str
    parent_id: str
    name: str
    service: str
    kind: str
    start_ns: int
    end_ns: int
    failed: bool = False
    attributes: dict[str, Any] = field(default_factory=dict)
    events: tuple[Event, ...] = ()

    @property
    def is_model_call(self) -> bool:
        """Says whether a model was called here, which makes its trace a turn."""
        return any(name.startswith("gen_ai.") for name in self.attributes)


@dataclass
class Trace:
    """The spans of one trace that have arrived so far.

    Attributes:
        dropped: Number of spans beyond the bound.
    """

    trace_id: str
    spans: dict[str, Span] = field(default_factory=dict)
    is_turn: bool = False
    dropped: int = 0

    @property
    def start_ns(self) -> int:
        """Returns when its first span began."""
        return min(span.start_ns for span in self.spans.values())

    @property
    def end_ns(self) -> int:
        """Returns when its last span ended."""
        return max(span.end_ns for span in self.spans.values())

    @property
    def root(self) -> Span:
        """Returns the span above all others, as far as they have arrived."""
        tops = [span for span in self.spans.values() if span.parent_id not in self.spans]
        return min(tops or self.spans.values(), key=lambda span: (span.start_ns, -span.end_ns))


class TraceStore:
    """Keeps at most `max_turns` turns and as many other traces; the ones untouched longest go first."""

    def __init__(self, max_turns: int = 200) -> None:
        self._max = max_turns
        self._traces: OrderedDict[str, Trace] = OrderedDict()

    def add(self, spans: list[Span]) -> None:
        """Takes spans in, in any order; a span sent twice counts once."""
        for span in spans:
            trace = self._traces.setdefault(span.trace_id, Trace(span.trace_id))
            self._traces.move_to_end(span.trace_id)
            if span.span_id not in trace.spans and len(trace.spans) >= _MAX_SPANS:
                trace.dropped += 1
                continue
            trace.spans[span.span_id] = span
            trace.is_turn = trace.is_turn or span.is_model_call
        self._evict(turns=True)
        self._evict(turns=False)

    def get(self, trace_id: str) -> Trace | None:
        """Returns a trace, or None."""
        return self._traces.get(trace_id)

    def newest_first(self) -> list[Trace]:
        """Returns all traces by the time they began, the newest first."""
        return sorted(self._traces.values(), key=lambda trace: trace.start_ns, reverse=True)

    def latest(self) -> Trace | None:
        """Returns the newest turn; where there is none yet, the newest trace; or None."""
        traces = self.newest_first()
        return next((trace for trace in traces if trace.is_turn), traces[0] if traces else None)

    def _evict(self, *, turns: bool) -> None:
        of_kind = [trace_id for trace_id, trace in self._traces.items() if trace.is_turn == turns]
        for trace_id in of_kind[: max(0, len(of_kind) - self._max)]:
            del self._traces[trace_id]
