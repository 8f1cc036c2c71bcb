"""What this release and the next ones are to reach, on two cores."""

from __future__ import annotations

from dataclasses import dataclass

from tests.bench.figures import TOTAL, Figures


@dataclass(frozen=True, slots=True)
class Goal:
    """An upper limit on a figure.

    Attributes:
        text: What it says, for a person.
        target: Where.
        figure: Which.
        limit: At most this much; with `least`, at least.
        against: `value`, `over bare` (the difference), or `times bare` (the ratio).
        release: `this` or `next`.
    """

    text: str
    target: str
    figure: str
    limit: float
    against: str = "value"
    release: str = "next"
    least: bool = False


GOALS = (
    Goal("first token over bare, idle, ms", "whole", "first_p50_ms.idle", 8, "over bare", "this"),
    Goal("first token over bare, idle, p50, ms", "whole", "first_p50_ms.idle", 3, "over bare"),
    Goal("first token over bare, idle, p99, ms", "whole", "first_p99_ms.idle", 12, "over bare"),
    Goal("first token over bare, idle, p50, ms", "gateway", "first_p50_ms.idle", 1, "over bare"),
    Goal("first token over bare, idle, p99, ms", "gateway", "first_p99_ms.idle", 3, "over bare"),
    Goal("first token at 10 streams, p50, ms", "whole", "first_p50_ms.n10", 5),
    Goal("first token at 10 streams, p50, ms", "gateway", "first_p50_ms.n10", 3),
    Goal("first token at 200 streams, p50, ms", "whole", "first_p50_ms.n200", 6),
    Goal("gap p99 at 200 streams, times bare", "whole", "gap_p99_ms.n200", 1.25, "times bare"),
    Goal("gap p99 at 200 streams, times bare", "gateway", "gap_p99_ms.n200", 1.15, "times bare"),
    Goal("CPU µs a token at 200 streams", "whole", f"cpu_us_token.n200/{TOTAL}", 110),
    Goal("CPU µs a token at 200 streams", "shared", f"cpu_us_token.n200/{TOTAL}", 35),
    Goal("tokens/s, unpaced", "whole", "burst_tokens_s", 100_000, least=True),
    Goal("tokens/s, unpaced", "gateway", "burst_tokens_s", 150_000, least=True),
    Goal("Stop to upstream closed, ms", "whole", "stop_p50_ms", 4),
    Goal("cancel to upstream closed, ms", "gateway", "stop_p50_ms", 2),
    Goal("memory a stream, kB", "whole", f"memory_kb_stream.n200/{TOTAL}", 60),
)


def measured(goal: Goal, figures: Figures) -> float | None:
    """Returns the value that a goal is about, or None where it was not measured."""
    targets = figures.get(goal.figure, {})
    if goal.target not in targets:
        return None
    value = float(targets[goal.target]["median"])
    if goal.against == "value":
        return value
    if "bare" not in targets:
        return None
    bare = float(targets["bare"]["median"])
    return value - bare if goal.against == "over bare" else value / bare


def met(goal: Goal, value: float) -> bool:
    """Says whether a value reaches the goal."""
    return value >= goal.limit if goal.least else value <= goal.limit
