"""The figures of other gateways against Parley's own, measured in the same rounds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from tests.bench.figures import TOTAL, Figures
from tests.bench.plan import CELLS, PEERS, RATE

Row = tuple[str, list[float | None]]
"""What, and its value in each column; None where it was not measured."""

_NO_GATEWAYS = {"bare", "floor", *PEERS}
_KEEPS_UP_PERCENT = 95
_LOADED = ("n50", "n200")
_FIGURES = (
    *(
        (f"first token, {label}, {name}, ms", f"first_{name}_ms.{cell}")
        for cell, label in CELLS.items()
        for name in ("p50", "p99")
    ),
    *((f"gap, {label}, p99, ms", f"gap_p99_ms.{cell}") for cell, label in list(CELLS.items())[1:]),
    *((f"tokens delivered of those due, {label}, %", f"delivered_percent.{cell}") for cell, label in CELLS.items()),
    ("tokens/s, unpaced", "burst_tokens_s"),
    ("stop to upstream closed, p50, ms", "stop_p50_ms"),
    ("CPU a turn of three tokens, idle, µs", f"cpu_us_turn/{TOTAL}"),
    *((f"CPU a token, {CELLS[cell]}, µs", f"cpu_us_token.{cell}/{TOTAL}") for cell in _LOADED),
    ("memory a live stream at 200 streams, kB", f"memory_kb_stream.n200/{TOTAL}"),
)


def columns(targets: Sequence[str]) -> list[tuple[str, str]]:
    """Returns the ratios to show: each peer that was measured against each of Parley's own targets."""
    return [(peer, own) for peer in PEERS if peer in targets for own in targets if own not in _NO_GATEWAYS]


def rows(figures: Figures, failures: Mapping[str, Mapping[str, int]], targets: Sequence[str]) -> list[Row]:
    """Returns a row a figure: the value of each of Parley's targets and each peer, then the ratios in the order of `columns`.

    Answers that failed stand last, by cell: a peer's other figures in that cell are those of the answers that arrived.
    """
    shown = compared(targets)
    found: list[Row] = []
    for text, figure in _FIGURES:
        values = {name: _median(figures, figure, name) for name in shown}
        if any(value is not None for value in values.values()):
            found.append((text, _with_ratios(values, targets)))
    for cell in _LOADED:
        values = {name: _streams_a_core(_median(figures, f"cpu_us_token.{cell}/{TOTAL}", name)) for name in shown}
        if any(value is not None for value in values.values()):
            found.append((f"streams a core, from CPU a token at {CELLS[cell]}", _with_ratios(values, targets)))
    for cell, label in {**CELLS, "burst": "unpaced", "stop": "stopped"}.items():
        counts = {name: _failed(failures.get(name, {}), cell) for name in shown}
        if any(counts.values()):
            blanks: list[float | None] = [None] * len(columns(targets))
            found.append((f"answers that failed, {label}", [*(float(count) for count in counts.values()), *blanks]))
    return found


def overloaded(figures: Figures, targets: Sequence[str]) -> list[str]:
    """Returns a sentence for each cell in which a peer did not keep up: its gaps and CPU there are those of an overload."""
    found = []
    for name in (name for name in PEERS if name in targets):
        for cell, label in CELLS.items():
            delivered = _median(figures, f"delivered_percent.{cell}", name)
            if delivered is not None and delivered < _KEEPS_UP_PERCENT:
                found.append(f"{name} delivered {delivered:.0f} % of the tokens due at {label}")
    return found


def compared(targets: Sequence[str]) -> list[str]:
    """Returns Parley's own targets, then the peers."""
    return [name for name in targets if name not in _NO_GATEWAYS] + [name for name in PEERS if name in targets]


def _with_ratios(values: Mapping[str, float | None], targets: Sequence[str]) -> list[float | None]:
    return [*values.values(), *(_ratio(values[peer], values[own]) for peer, own in columns(targets))]


def _ratio(value: float | None, base: float | None) -> float | None:
    return value / base if base and value is not None else None


def _streams_a_core(us_token: float | None) -> float | None:
    return 1e6 / (us_token * RATE) if us_token else None


def _failed(counts: Mapping[str, int], cell: str) -> int:
    return sum(count for what, count in counts.items() if what.startswith(f"{cell}: "))


def _median(figures: Figures, figure: str, target: str) -> float | None:
    found = figures.get(figure, {}).get(target)
    return None if found is None else float(found["median"])
