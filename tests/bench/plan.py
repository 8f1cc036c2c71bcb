"""What is measured, how often and for how long."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

TARGETS = ("bare", "floor", "gateway", "shared", "whole")
"""The provider alone; the least gRPC can do; the gateway over gRPC, and over a shared connection; the whole path over HTTP."""
PEERS = ("litellm", "portkey")
"""Gateways of others over HTTP, measured where they are asked for."""
CELLS = {"idle": "idle", "n10": "10 streams", "n50": "50 streams", "n200": "200 streams"}
"""Those whose answers are paced, and what a page calls them."""

RATE = 50
PROBE_SEATS = 20
_PROBE_S = 0.06
_SETTLED_S = 0.5


class UnknownName(Exception):
    """The plan has no such target or cell."""


@dataclass(frozen=True, kw_only=True)
class Cell:
    """One measurement of one target.

    Attributes:
        name: As `--only` knows it.
        do: `paced`, `burst` or `stop`.
        streams: Answers at once.
        order: The rest of the job.
    """

    name: str
    do: str
    streams: int = 0
    order: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Plan:
    """All of it; each round measures every cell at every target, so that what drifts drifts for all."""

    name: str
    rounds: int
    cells: tuple[Cell, ...]
    targets: tuple[str, ...]

    def only(self, cells: set[str], targets: set[str]) -> Plan:
        """Returns the part of the plan with these cells and targets; an empty set keeps all of its kind.

        Raises: UnknownName.
        """
        unknown = (cells - {cell.name for cell in self.cells}) | (targets - {*TARGETS, *PEERS})
        if unknown:
            raise UnknownName(f"neither a target nor a cell of this plan: {', '.join(sorted(unknown))}")
        return Plan(
            name=self.name,
            rounds=self.rounds,
            cells=tuple(cell for cell in self.cells if not cells or cell.name in cells),
            targets=tuple(name for name in (*TARGETS, *PEERS) if name in (targets or self.targets)),
        )

    def beside_peers(self) -> Plan:
        """Returns the plan with the gateways of others as further targets."""
        return replace(self, targets=(*(name for name in self.targets if name not in PEERS), *PEERS))


def full() -> Plan:
    """Returns the default plan, about seven minutes."""
    cells = (
        _paced("idle", 0, window_s=0, probes=40, begin_s=0),
        _paced("n10", 10, window_s=1.5, probes=25, begin_s=0.5),
        _paced("n50", 50, window_s=2, probes=25, begin_s=1),
        _paced("n200", 200, window_s=3, probes=25, begin_s=4),
        Cell(name="burst", do="burst", streams=8, order={"tokens": 10_000}),
        Cell(name="stop", do="stop", streams=1, order={"count": 8}),
    )
    return Plan(name="full", rounds=3, cells=cells, targets=TARGETS)


def quick() -> Plan:
    """Returns a plan of one round and under a minute, for a first impression."""
    cells = (
        _paced("idle", 0, window_s=0, probes=25, begin_s=0),
        _paced("n10", 10, window_s=1, probes=15, begin_s=0.4),
        _paced("n50", 50, window_s=1.5, probes=15, begin_s=0.8),
        Cell(name="burst", do="burst", streams=8, order={"tokens": 5_000}),
        Cell(name="stop", do="stop", streams=1, order={"count": 3}),
    )
    return Plan(name="quick", rounds=1, cells=cells, targets=("bare", "gateway", "whole"))


def _paced(name: str, streams: int, *, window_s: float, probes: int, begin_s: float) -> Cell:
    """Describes a paced cell whose answers last until the last probe, if all of them begin within `begin_s`."""
    length_s = begin_s + _SETTLED_S + window_s + probes * _PROBE_S
    order = {"rate": RATE, "tokens": int(RATE * length_s), "window_s": window_s, "probes": probes, "pause_s": 0.015}
    return Cell(name=name, do="paced", streams=streams, order=order)
