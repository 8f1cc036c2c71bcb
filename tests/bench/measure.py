"""Runs the plan and keeps what every round gave."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from tests.bench import machine, procfs
from tests.bench.http_client import HttpClient, request
from tests.bench.peers.peer import Peer
from tests.bench.plan import PEERS, PROBE_SEATS, Cell, Plan
from tests.bench.procfs import Sample
from tests.bench.system import System
from tests.bench.targets import Seat
from tests.bench.worker import Worker

_KINDS = {
    "bare": "provider",
    "floor": "gateway",
    "gateway": "gateway",
    "shared": "shared",
    "whole": "edge",
} | dict.fromkeys(PEERS, "peer")
_WARM_UP = (
    Cell(
        name="warm-up",
        do="paced",
        streams=4,
        order={"rate": 50, "tokens": 25, "window_s": 0, "probes": 10, "pause_s": 0},
    ),
    Cell(name="warm-up", do="burst", streams=2, order={"tokens": 2_000}),
)


@dataclass(slots=True)
class _Moment:
    groups: dict[str, Sample]
    machine_us: int
    at_s: float


@dataclass(frozen=True, slots=True)
class _Bench:
    """What runs while the plan does."""

    provider: Worker
    load: Worker
    floor: Worker | None
    system: System | None
    peers: dict[str, Peer]

    def groups(self, target: str) -> dict[str, int]:
        """Returns whose CPU and memory count while a target is measured, by name: a peer's alone, or all of Parley's."""
        if target in self.peers:
            return {"provider": self.provider.pid, "load": self.load.pid, target: self.peers[target].pid}
        found = {"provider": self.provider.pid, "load": self.load.pid}
        if self.floor is not None:
            found["floor"] = self.floor.pid
        return found | (self.system.pids if self.system is not None else {})

    async def place(self, target: str, cell: Cell) -> tuple[str, list[Seat]]:
        """Returns where the target is, and fresh seats for the streams and the probes of a cell."""
        count = cell.streams + PROBE_SEATS
        if target in self.peers:
            return self.peers[target].address, [self.peers[target].seat] * count
        if target == "bare" or self.system is None:
            worker = self.provider if target == "bare" else self.floor
            assert worker is not None
            return worker.address, [Seat()] * count
        if target == "floor":
            assert self.floor is not None
            return self.floor.address, [Seat()] * count
        if target in {"gateway", "shared"}:
            return self.system.gateway, await self.system.callers(count)
        return self.system.edge, await self.system.seats(count)


async def run(
    plan: Plan, say: Callable[[str], None], *, profile: Sequence[str] = ()
) -> tuple[list[dict[str, Any]], dict[str, str]]:
    """Runs the plan.

    Args:
        plan: What to measure.
        say: Told what is going on, a line at a time.
        profile: Services that run under a sampling profiler, which makes them slower.

    Returns: records and, by service, the profiler's stacks. There is one record a round, target and cell: `round`, `target`,
        `cell`, `streams`, `result` of the job, and by process `cpu_us` (in the window), `probe_cpu_us` (among the probes) and
        `memory_kb` (what the streams added).
    Raises: WorkerError; deploy.local.unit.StartError; SetUpError.
    """
    records = []
    async with contextlib.AsyncExitStack() as stack:
        provider = await stack.enter_async_context(Worker("provider"))
        load = await stack.enter_async_context(Worker("load"))
        floor = await stack.enter_async_context(Worker("floor")) if "floor" in plan.targets else None
        system = None
        if {"gateway", "shared", "whole"} & set(plan.targets):
            say("starting Parley …")
            system = await stack.enter_async_context(System(provider.address, profile=profile))
        peers = {}
        for name in plan.targets:
            if name in PEERS:
                say(f"starting {name} …")
                peers[name] = await stack.enter_async_context(Peer(name, provider.address))
        bench = _Bench(provider, load, floor, system, peers)
        for target in plan.targets:
            await _warm_up(bench, target)
        for number in range(1, plan.rounds + 1):
            for cell in plan.cells:
                for target in plan.targets:
                    if cell.do == "stop" and target == "floor":
                        continue  # there is nothing upstream of it
                    record = {"round": number, **await _measure_one(bench, target, cell)}
                    records.append(record)
                    say(_line(plan, record))
    return records, system.profiles if system is not None else {}


async def _warm_up(bench: _Bench, target: str) -> None:
    for cell in _WARM_UP:
        await _measure(bench, target, cell)


async def _measure_one(bench: _Bench, target: str, cell: Cell) -> dict[str, Any]:
    """Measures a cell; what a peer leaves behind is not the next one's to bear."""
    record = await _measure(bench, target, cell)
    peer = bench.peers.get(target)
    if peer is not None and (trouble := await peer.rest()):
        record["result"]["failures"][trouble] = 1
        if not peer.running:
            record |= {"cpu_us": {}, "probe_cpu_us": {}, "memory_kb": {}}
        await peer.restart()
        await _warm_up(bench, target)
    return record


async def _measure(bench: _Bench, target: str, cell: Cell) -> dict[str, Any]:
    address, seats = await bench.place(target, cell)
    await _provider_stats(bench.provider)
    moments: dict[str, _Moment] = {}
    groups = bench.groups(target)

    def at_mark(name: str) -> None:
        memory = name in {"before", "window_end"} and cell.do == "paced" and cell.streams > 0
        moments[name] = _Moment(procfs.sample(groups, memory=memory), machine.busy_us(), time.monotonic())

    job = {"do": cell.do, "kind": _KINDS[target], "address": address, "streams": cell.streams, **cell.order}
    result = await bench.load.do(job | {"seats": [dataclasses.asdict(seat) for seat in seats]}, at_mark)
    stats = await _provider_stats(bench.provider)
    if cell.do == "stop":
        result["stop_ms"] = _stop_times(result, stats["closed_early_ns"])
    return {
        "target": target,
        "cell": cell.name,
        "do": cell.do,
        "streams": cell.streams,
        "probes": cell.order.get("probes", 0),
        "result": result,
        "cpu_us": _between(moments, "window", "window_end"),
        "probe_cpu_us": _between(moments, "window_end", "probes_end"),
        "memory_kb": _growth(moments),
        "foreign_us": _foreign(moments),
        "provider_late_p99_ms": stats["late_p99_ms"],
    }


def _stop_times(result: dict[str, Any], closed_ns: list[int]) -> list[float]:
    """Pairs each stop with the connection that the provider saw closed next."""
    found = []
    for stopped in result["stopped_ns"]:
        after = [closed for closed in closed_ns if stopped and closed >= stopped]
        if after:
            found.append((after[0] - stopped) / 1e6)
        elif stopped:
            result["failures"]["upstream not closed"] = result["failures"].get("upstream not closed", 0) + 1
    return found


def _between(moments: dict[str, _Moment], begin: str, end: str) -> dict[str, int]:
    if begin not in moments or end not in moments:
        return {}
    earlier, later = moments[begin].groups, moments[end].groups
    return {name: later[name].cpu_us - earlier[name].cpu_us for name in later}


def _growth(moments: dict[str, _Moment]) -> dict[str, int]:
    if "window" not in moments or not moments["before"].groups["load"].memory_kb:
        return {}
    earlier, later = moments["before"].groups, moments["window_end"].groups
    return {name: later[name].memory_kb - earlier[name].memory_kb for name in later}


def _foreign(moments: dict[str, _Moment]) -> list[int] | None:
    """Returns CPU time of everybody else on the machine while it was measured, of what there was in all: both in µs."""
    begin, end = ("window", "window_end") if "window" in moments else ("window_end", "probes_end")
    if begin not in moments or end not in moments:
        return None
    used = moments[end].machine_us - moments[begin].machine_us
    own = sum(_between(moments, begin, end).values())
    return [max(used - own, 0), int((moments[end].at_s - moments[begin].at_s) * 1e6) * machine.cores()]


async def _provider_stats(provider: Worker) -> dict[str, Any]:
    host, _, port = provider.address.rpartition(":")
    # What was stopped last may still be on its way to the provider.
    await asyncio.sleep(0.05)
    client = await HttpClient.connect(host, int(port))
    exchange = client.ask(request("GET", "/_stats"))
    await exchange.ended.wait()
    client.close()
    value: dict[str, Any] = json.loads(b"".join(data for _, data in exchange.pieces).partition(b"\r\n\r\n")[2])
    return value


def _line(plan: Plan, record: dict[str, Any]) -> str:
    failures = record["result"]["failures"]
    trouble = ", ".join(f"{count} x {what}" for what, count in failures.items())
    return f"round {record['round']}/{plan.rounds}  {record['cell']:<6} {record['target']:<8} {trouble or 'ok'}"
