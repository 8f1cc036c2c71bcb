"""The table that `make chaos` prints: what was done, how the runs ended, how long answers stood still, what was broken."""

from __future__ import annotations

from collections import Counter
from itertools import groupby
from statistics import median
from typing import TYPE_CHECKING

from rich.table import Table

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tests.chaos.round import Outcome

_SHOWN = 3
_STATUSES = ("completed", "cancelled", "interrupted", "failed")


def table(outcomes: Sequence[Outcome]) -> Table:
    """Returns a row for each fault and one for all."""
    drawn = Table(box=None, pad_edge=False)
    for name in ("fault", "rounds", "runs", *_STATUSES, "reconnects", "pause p50", "max", "stop p95", "violations"):
        drawn.add_column(name, justify="left" if name == "fault" else "right")
    for fault in dict.fromkeys(outcome.fault for outcome in outcomes):
        drawn.add_row(*_row(fault, [outcome for outcome in outcomes if outcome.fault == fault]))
    drawn.add_row(*_row("all", outcomes), style="bold")
    return drawn


def violations(outcome: Outcome) -> list[str]:
    """Returns what was broken, a few lines for each rule."""
    lines = []
    for rule, details in groupby(outcome.violations, lambda violation: violation.rule):
        found = [violation.detail for violation in details]
        lines += [f"{rule}: {detail}" for detail in found[:_SHOWN]]
        if len(found) > _SHOWN:
            lines.append(f"{rule}: and {len(found) - _SHOWN} more")
    return lines


def _row(name: str, outcomes: Sequence[Outcome]) -> list[str]:
    statuses: Counter[str] = sum((outcome.statuses for outcome in outcomes), Counter())
    pauses = [pause for outcome in outcomes for pause in outcome.pauses_s]
    stops = sorted(stop for outcome in outcomes for stop in outcome.stops_s)
    reconnects = sum(
        exchange.what.startswith("GET") and " after " in exchange.what
        for outcome in outcomes
        for exchange in outcome.history.exchanges
    )
    return [
        name,
        str(len(outcomes)),
        str(statuses.total()),
        *(str(statuses[status]) for status in _STATUSES),
        str(reconnects),
        f"{median(pauses):.2f} s" if pauses else "-",
        f"{max(pauses):.2f} s" if pauses else "-",
        f"{stops[int(len(stops) * 0.95)] * 1000:.0f} ms" if stops else "-",
        str(sum(len(outcome.violations) for outcome in outcomes)),
    ]
