"""A trace as a waterfall: rows in the order of the calls, each with its total and its self time."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from deploy.local.trace_viewer.store import Span

if TYPE_CHECKING:
    from deploy.local.trace_viewer.store import Trace

_NS_PER_MS = 1_000_000


@dataclass(frozen=True)
class Row:
    """One bar.

    Attributes:
        depth: 0 for a span at the top.
        orphan: Its parent is known by id alone: not arrived, not sampled, or a caller outside.
        offset_ms: From the trace's beginning.
        total_ms: From its start to its end.
        self_ms: The part of it in which none of its children ran.
    """

    span: Span
    depth: int
    orphan: bool
    offset_ms: float
    total_ms: float
    self_ms: float


def rows(trace: Trace) -> list[Row]:
    """Returns every span once: parents before children, siblings in the order they began."""
    children: dict[str, list[Span]] = {}
    for span in sorted(trace.spans.values(), key=lambda span: (span.start_ns, -span.end_ns, span.span_id)):
        known = span.parent_id in trace.spans and span.parent_id != span.span_id
        children.setdefault(span.parent_id if known else "", []).append(span)
    begin_ns = trace.start_ns
    ordered: list[Row] = []
    waiting = [(span, 0) for span in reversed(children.get("", []))]
    while waiting:
        span, depth = waiting.pop()
        below = children.get(span.span_id, [])
        ordered.append(
            Row(
                span=span,
                depth=depth,
                orphan=bool(span.parent_id) and depth == 0,
                offset_ms=(span.start_ns - begin_ns) / _NS_PER_MS,
                total_ms=(span.end_ns - span.start_ns) / _NS_PER_MS,
                self_ms=(span.end_ns - span.start_ns - _covered_ns(span, below)) / _NS_PER_MS,
            )
        )
        waiting += [(child, depth + 1) for child in reversed(below)]
    return ordered


def summary(trace: Trace) -> dict[str, Any]:
    """Returns what a list of traces shows of one, as JSON."""
    root = trace.root
    model = next(
        (span.attributes.get("gen_ai.request.model") for span in trace.spans.values() if span.is_model_call), ""
    )
    return {
        "trace_id": trace.trace_id,
        "name": root.name,
        "service": root.service,
        "start_ms": trace.start_ns / _NS_PER_MS,
        "total_ms": (trace.end_ns - trace.start_ns) / _NS_PER_MS,
        "spans": len(trace.spans),
        "services": sorted({span.service for span in trace.spans.values()}),
        "is_turn": trace.is_turn,
        "failed": any(span.failed for span in trace.spans.values()),
        "model": model or "",
    }


def detail(trace: Trace) -> dict[str, Any]:
    """Returns the whole waterfall as JSON; an event's `at_ms` counts from the trace's beginning."""
    begin_ns = trace.start_ns
    described = []
    for row in rows(trace):
        flat = asdict(row) | asdict(row.span)
        del flat["span"]
        flat["events"] = [
            {"name": event.name, "at_ms": (event.time_ns - begin_ns) / _NS_PER_MS, "attributes": event.attributes}
            for event in row.span.events
        ]
        described.append(flat)
    return summary(trace) | {"rows": described, "dropped": trace.dropped}


def text(trace: Trace, width: int = 120) -> str:
    """Draws the waterfall for a terminal of that many columns."""
    ordered = rows(trace)
    total_ms = max((trace.end_ns - trace.start_ns) / _NS_PER_MS, 0.001)
    label_width = min(max((len(_label(row)) for row in ordered), default=0), max(24, width // 2 - 12))
    bar_width = max(10, width - label_width - 24)
    lines = [f"{'':{label_width}}  {'total ms':>9} {'self ms':>9}"]
    for row in ordered:
        label = _label(row)
        if len(label) > label_width:
            label = label[: label_width - 1] + "…"
        begin = min(bar_width - 1, int(row.offset_ms / total_ms * bar_width))
        length = max(1, round(row.total_ms / total_ms * bar_width))
        cells = [" "] * begin + ["█"] * min(length, bar_width - begin)
        cells += [" "] * (bar_width - len(cells))
        for event in row.span.events:
            at = (event.time_ns - trace.start_ns) / _NS_PER_MS / total_ms
            cells[max(0, min(bar_width - 1, int(at * bar_width)))] = "◆"
        failed = " ✗" if row.span.failed else ""
        lines.append(
            f"{label:{label_width}}  {row.total_ms:9.2f} {row.self_ms:9.2f}  {''.join(cells).rstrip()}{failed}"
        )
        lines += [
            f"{'  ' * row.depth}  ◆ {event.name} at {(event.time_ns - trace.start_ns) / _NS_PER_MS:.2f} ms"
            for event in row.span.events
        ]
    if trace.dropped:
        lines.append(f"{trace.dropped} more spans were not kept.")
    return "\n".join(lines)


def _label(row: Row) -> str:
    return f"{'  ' * row.depth}{row.span.service}: {row.span.name}"


def _covered_ns(span: Span, children: list[Span]) -> int:
    """Returns how long at least one child ran, within the span."""
    covered, until = 0, span.start_ns
    for child in children:  # in the order they began
        begin, end = max(child.start_ns, until), min(child.end_ns, span.end_ns)
        if end > begin:
            covered += end - begin
            until = end
    return covered
