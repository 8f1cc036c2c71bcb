"""Figures to one readable page, and to the files under `results/`."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from tests.bench import goals
from tests.bench.figures import TOTAL, Figures
from tests.bench.peers import ratios
from tests.bench.plan import CELLS, PEERS, TARGETS

RESULTS = Path(__file__).with_name("results")

_PROCESSES = (
    "edge",
    "chat",
    "gateway",
    "data",
    "auth",
    "postgres",
    "redis",
    "floor",
    *PEERS,
    TOTAL,
    "provider",
    "load",
)
_QUIET_PERCENT = 5
_Row = tuple[str, str]


def page(result: dict[str, Any]) -> str:
    """Returns the result as Markdown that also reads well as plain text."""
    figures: Figures = result["figures"]
    targets = [name for name in (*TARGETS, *PEERS) if name in result["answers"]]
    return "\n\n".join(
        [
            _heading(result),
            _answers(result, targets),
            "## Times and throughput\n\n" + _times(figures, targets),
            "## CPU, µs a token\n\n" + _cpu(figures, targets),
            "## CPU, µs a turn of three tokens, idle\n\n" + _by_process(figures, targets, ["cpu_us_turn"]),
            "## Memory a live stream at 200 streams, kB\n\n" + _by_process(figures, targets, ["memory_kb_stream.n200"]),
            "## Goals\n\n" + _goals(figures),
            *_peers(result, targets),
        ]
    )


def write(result: dict[str, Any]) -> Path:
    """Writes `<date>-<commit>.json` and `.md`, and returns the second's path."""
    RESULTS.mkdir(exist_ok=True)
    machine = result["machine"]
    stamp = machine["date"].replace(":", "").replace("+0000", "Z").replace("T", "-")
    name = f"{stamp}-{machine['commit']}" + ("-dirty" if machine["dirty"] else "")
    (RESULTS / f"{name}.json").write_text(json.dumps(result, indent=1, sort_keys=True, ensure_ascii=False) + "\n")
    path = RESULTS / f"{name}.md"
    path.write_text(page(result) + "\n")
    return path


def table(rows: Sequence[Sequence[str]]) -> str:
    """Lays out rows as a Markdown table, the first one its head, columns aligned."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]

    def line(row: Sequence[str]) -> str:
        cells = [row[0].ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True))]
        return "| " + " | ".join(cells) + " |"

    rule = "|" + "|".join(["-" * (widths[0] + 2), *("-" * (width + 1) + ":" for width in widths[1:])]) + "|"
    return "\n".join([line(rows[0]), rule, *(line(row) for row in rows[1:])])


def number(value: float | None) -> str:
    """Writes a number with three significant digits."""
    if value is None:
        return "-"
    if abs(value) >= 1000:
        return f"{value:,.0f}".replace(",", " ")
    return f"{value:.3g}" if abs(value) < 100 else f"{value:.0f}"


def _heading(result: dict[str, Any]) -> str:
    machine, foreign = result["machine"], result["foreign_percent"]
    packages = ", ".join(f"{name} {version}" for name, version in machine["packages"].items())
    lines = [
        f"# Benchmark of {machine['commit']}{' with uncommitted changes' if machine['dirty'] else ''}, {machine['date']}",
        "",
        f"{machine['cpu']}, {machine['cores']} cores, kernel {machine['kernel']}, Python {machine['python']}; {packages}.",
        f"Plan `{result['plan']}`, {result['rounds']} rounds; every figure is the median of its rounds.",
        "The tools and what they measure share the cores.",
    ]
    if foreign is not None:
        lines.append(f"Others used {foreign:.0f} % of the machine meanwhile.")
        if foreign > _QUIET_PERCENT:
            lines.append("**The machine was not quiet: compare within this page, not with another.**")
    return "\n".join(lines)


def _answers(result: dict[str, Any], targets: Sequence[str]) -> str:
    rows = [["answers", *targets]]
    rows.append(["whole, as sent", *(str(result["answers"][name]) for name in targets)])
    rows.append(["failed", *(str(sum(result["failures"].get(name, {}).values())) for name in targets)])
    trouble = [
        f"- {name}: {count} x {what}" for name in targets for what, count in result["failures"].get(name, {}).items()
    ]
    return "\n".join([table(rows), *(["", *trouble] if trouble else [])])


def _times(figures: Figures, targets: Sequence[str]) -> str:
    rows: list[_Row] = []
    for what, text in (("first", "first token"), ("together_first", "first token, all asked at once")):
        rows += [
            (f"{text}, {label}, {name}, ms", f"{what}_{name}_ms.{cell}")
            for cell, label in CELLS.items()
            for name in ("p50", "p99")
        ]
    for what, text in (("gap", "gap between tokens (sent every 20 ms)"), ("transit", "a token's way")):
        rows += [
            (f"{text}, {label}, {name}, ms", f"{what}_{name}_ms.{cell}")
            for cell, label in list(CELLS.items())[1:]
            for name in ("p50", "p99")
        ]
    rows += [
        (f"tokens delivered of those due, {label}, %", f"delivered_percent.{cell}") for cell, label in CELLS.items()
    ]
    rows += [
        (f"the provider's own lateness, {label}, p99, ms", f"provider_late_p99_ms.{cell}")
        for cell, label in CELLS.items()
    ]
    rows += [(f"probes, {label}", f"probes.{cell}") for cell, label in CELLS.items()]
    rows += [
        ("tokens/s, unpaced", "burst_tokens_s"),
        ("stop to upstream closed, p50, ms", "stop_p50_ms"),
        ("stop to upstream closed, max, ms", "stop_max_ms"),
        ("stop to its answer, p50, ms", "stop_answered_p50_ms"),
    ]
    return _against_bare(figures, targets, rows)


def _against_bare(figures: Figures, targets: Sequence[str], rows: Sequence[_Row]) -> str:
    compared = [name for name in targets if name != "bare"] if "bare" in targets else []
    head = ["", *targets, *(f"{name} ÷ bare" for name in compared), *(f"{name} - bare" for name in compared)]
    lines = [head]
    for text, figure in rows:
        values = {name: _median(figures, figure, name) for name in targets}
        if any(value is not None for value in values.values()):
            bare = values.get("bare")
            ratios = [_with(bare, values[name], lambda base, value: value / base) for name in compared]
            over = [_with(bare, values[name], lambda base, value: value - base) for name in compared]
            lines.append([text, *(number(value) for value in (*values.values(), *ratios, *over))])
    return table(lines)


def _with(base: float | None, value: float | None, combine: Callable[[float, float], float]) -> float | None:
    return combine(base, value) if base and value is not None else None


def _cpu(figures: Figures, targets: Sequence[str]) -> str:
    parts = []
    for cell, label in {"n50": "50 streams", "n200": "200 streams", "burst": "unpaced"}.items():
        rows = _process_rows(figures, targets, [f"cpu_us_token.{cell}"])
        if not rows:
            continue
        if cell != "burst":
            streams = ["streams a core, without the tools"]
            for name in targets:
                used = _median(figures, f"cpu_us_token.{cell}/{TOTAL}", name)
                streams.append(number(1e6 / (used * 50)) if used else "-")
            rows.append(streams)
        parts.append(table([[label, *targets], *rows]))
    return "\n\n".join(parts) or "Not measured."


def _by_process(figures: Figures, targets: Sequence[str], names: Sequence[str]) -> str:
    rows = _process_rows(figures, targets, names)
    return table([["", *targets], *rows]) if rows else "Not measured."


def _process_rows(figures: Figures, targets: Sequence[str], names: Sequence[str]) -> list[list[str]]:
    rows = []
    for name in names:
        prefix = f"{CELLS[name.partition('.')[2]]}: " if len(names) > 1 else ""
        for process in _PROCESSES:
            values = [_median(figures, f"{name}/{process}", target) for target in targets]
            if any(value is not None for value in values):
                rows.append([prefix + process, *(number(value) for value in values)])
    return rows


def _goals(figures: Figures) -> str:
    rows = [["", "target", "release", "goal", "measured", "met"]]
    for goal in goals.GOALS:
        value = goals.measured(goal, figures)
        if value is not None:
            sign = "≥" if goal.least else "≤"
            yes = "yes" if goals.met(goal, value) else "no"
            rows.append([goal.text, goal.target, goal.release, f"{sign} {number(goal.limit)}", number(value), yes])
    return table(rows) if len(rows) > 1 else "None of them was measured."


def _peers(result: dict[str, Any], targets: Sequence[str]) -> list[str]:
    columns = ratios.columns(targets)
    if not columns:
        return []
    head = ["", *ratios.compared(targets), *(f"{peer} ÷ {own}" for peer, own in columns)]
    rows = ratios.rows(result["figures"], result["failures"], targets)
    notes = "".join(f"\n- {line}" for line in ratios.overloaded(result["figures"], targets))
    versions = ", ".join(f"{name} {version}" for name, version in result["peers"].items())
    return [
        f"## Gateways of others\n\n{versions}; one process each, over HTTP; `gateway` and `whole` with all that Parley does for a turn.\n\n"
        + table([head, *([text, *(number(value) for value in values)] for text, values in rows)])
        + (f"\n\nWhat did not keep up shows the gaps and the CPU of an overload:\n{notes}" if notes else "")
    ]


def _median(figures: Figures, figure: str, target: str) -> float | None:
    found = figures.get(figure, {}).get(target)
    return None if found is None else float(found["median"])
