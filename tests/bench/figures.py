"""Rounds to figures: each is the median of what the rounds gave, with the rounds beside it."""

from __future__ import annotations

import collections
import statistics
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from tests.bench.plan import PEERS, RATE
from tests.bench.spread import percentile
from tests.bench.system import PROCESSES

SERVERS = (*PROCESSES, "floor", *PEERS)
"""What is measured; `provider` and `load` are the tools."""
TOTAL = "all of it"

_MANY = 200

Figures = dict[str, dict[str, dict[str, Any]]]
"""By figure and target: `median` and `rounds`."""


def collect(records: Sequence[dict[str, Any]]) -> Figures:
    """Returns the figures of all rounds. Names: `first_p50_ms.idle`, `cpu_us_token.n200/edge`, …"""
    rounds: dict[str, dict[str, list[float]]] = {}
    for record in records:
        for name, value in _one(record):
            rounds.setdefault(name, {}).setdefault(record["target"], []).append(value)
    return {
        name: {target: {"median": statistics.median(values), "rounds": values} for target, values in targets.items()}
        for name, targets in rounds.items()
    }


def failures(records: Sequence[dict[str, Any]]) -> dict[str, dict[str, int]]:
    """Returns by target and cell how often what went wrong."""
    found: dict[str, collections.Counter[str]] = {}
    for record in records:
        counts = found.setdefault(record["target"], collections.Counter())
        for what, count in record["result"]["failures"].items():
            counts[f"{record['cell']}: {what}"] += count
    return {target: dict(counts) for target, counts in found.items()}


def any_of_ours(failures: Mapping[str, Mapping[str, int]]) -> bool:
    """Says whether anything failed of Parley or of the bench itself; how gateways of others fare is shown and fails nothing."""
    return any(found for target, found in failures.items() if target not in PEERS)


def answers(records: Sequence[dict[str, Any]]) -> dict[str, int]:
    """Returns by target how many answers arrived whole."""
    found: collections.Counter[str] = collections.Counter()
    for record in records:
        found[record["target"]] += record["result"].get("whole", 0)
    return dict(found)


def foreign_percent(records: Sequence[dict[str, Any]]) -> float | None:
    """Returns how much of the machine others used while it was measured, in percent."""
    shares = [record["foreign_us"] for record in records if record["foreign_us"]]
    total = sum(there_was for _, there_was in shares)
    return 100 * sum(used for used, _ in shares) / total if total else None


def _one(record: dict[str, Any]) -> Iterator[tuple[str, float]]:
    if record["do"] == "paced":
        yield from _paced(record)
    elif record["do"] == "burst" and record["result"]["tokens_s"]:
        yield "burst_tokens_s", record["result"]["tokens_s"]
        yield from _by_process("cpu_us_token.burst", record["cpu_us"], record["result"]["window_tokens"])
    elif record["do"] == "stop":
        yield from _percentiles("stop", "", record["result"]["stop_ms"], (50, 100))
        yield from _percentiles("stop_answered", "", record["result"]["answered_ms"], (50, 100))


def _paced(record: dict[str, Any]) -> Iterator[tuple[str, float]]:
    cell, result = record["cell"], record["result"]
    yield from _percentiles("first", f".{cell}", result["probe_first_ms"], (50, 99))
    yield from _percentiles("together_first", f".{cell}", result["burst_first_ms"], (50, 99))
    yield f"probes.{cell}", len(result["probe_first_ms"])
    if not record["streams"]:
        yield from _by_process("cpu_us_turn", record["probe_cpu_us"], len(result["probe_first_ms"]))
    else:
        expected = record["streams"] * RATE * result["window_s"]
        yield f"delivered_percent.{cell}", 100 * result["window_tokens"] / expected
    if not result["window_tokens"]:
        return
    for what in ("gap", "transit"):
        for name in ("p50", "p99", "max"):
            yield f"{what}_{name}_ms.{cell}", result[f"{what}_ms"][name]
    if record["provider_late_p99_ms"] is not None:
        yield f"provider_late_p99_ms.{cell}", record["provider_late_p99_ms"]
    yield from _by_process(f"cpu_us_token.{cell}", record["cpu_us"], result["window_tokens"])
    # Memory once taken is rarely given back, so only the first round shows what streams need; and the pools that the first few
    # streams open are not theirs, so only many streams do.
    if record["round"] == 1 and record["streams"] >= _MANY:
        yield from _by_process(f"memory_kb_stream.{cell}", record["memory_kb"], record["streams"])


def _percentiles(
    name: str, suffix: str, values: Sequence[float], percents: Sequence[int]
) -> Iterator[tuple[str, float]]:
    for percent in percents:
        value = percentile(values, percent)
        if value is not None:
            yield f"{name}_{'max' if percent == 100 else f'p{percent}'}_ms{suffix}", value


def _by_process(name: str, used: dict[str, int], count: int) -> Iterator[tuple[str, float]]:
    if not used or not count:
        return
    for process, amount in used.items():
        yield f"{name}/{process}", amount / count
    yield f"{name}/{TOTAL}", sum(amount for process, amount in used.items() if process in SERVERS) / count
