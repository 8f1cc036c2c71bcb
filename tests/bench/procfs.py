"""CPU time and memory of processes and of all below them, from /proc."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

_TICK_US = 1_000_000 // os.sysconf("SC_CLK_TCK")
_PROC = Path("/proc")


@dataclass(frozen=True, slots=True)
class Sample:
    """What a group of processes has used so far.

    Attributes:
        cpu_us: CPU time of all threads since they began, user and system, ended children included (those to 10 ms).
        memory_kb: What the processes have written themselves: heaps, stacks, pages of files they changed; what a fork shares is counted
            in parts. Not mapped files, which the kernel takes back when it likes, nor shared memory, which has its size from the start
            and is Postgres' buffers here: that a page of them is touched for the first time says when, not for whom. 0 where it was not
            asked for.
    """

    cpu_us: int
    memory_kb: int = 0


def sample(groups: Mapping[str, int], *, memory: bool = False) -> dict[str, Sample]:
    """Returns what each group has used: the process of this pid and all below it, except those that are groups themselves.

    A process that is gone counts nothing. Reading memory takes some milliseconds, so it is done only when asked for.
    """
    stats = _stats()
    children: dict[int, list[int]] = {}
    for pid, (parent, _, _) in stats.items():
        children.setdefault(parent, []).append(pid)
    own = set(groups.values())
    found = {}
    for name, root in groups.items():
        members, rest = [], [root]
        while rest:
            pid = rest.pop()
            members.append(pid)
            rest += [child for child in children.get(pid, ()) if child not in own]
        found[name] = Sample(
            cpu_us=sum(_cpu_us(pid, stats[pid]) for pid in members if pid in stats),
            memory_kb=sum(_own_kb(pid) for pid in members) if memory else 0,
        )
    return found


def _stats() -> dict[int, tuple[int, int, int]]:
    """Returns parent, ticks used and ticks of reaped children, by pid."""
    found = {}
    for entry in _PROC.iterdir():
        if entry.name.isdigit():
            try:
                # The command's name stands in parentheses and may hold anything, so count from the last one.
                fields = (entry / "stat").read_text().rpartition(")")[2].split()
            except (FileNotFoundError, ProcessLookupError):
                continue
            found[int(entry.name)] = (
                int(fields[1]),
                int(fields[11]) + int(fields[12]),
                int(fields[13]) + int(fields[14]),
            )
    return found


def _cpu_us(pid: int, stat: tuple[int, int, int]) -> int:
    """Returns a process's CPU time: from the scheduler to the nanosecond, where the kernel keeps it, else in ticks of 10 ms.

    A thread that has ended is in the ticks alone, which are those of the whole process.
    """
    _, used, reaped = stat
    try:
        threads = [int((task / "schedstat").read_text().split()[0]) for task in (_PROC / str(pid) / "task").iterdir()]
    except (OSError, IndexError):
        threads = []
    return max(sum(threads) // 1000, used * _TICK_US) + reaped * _TICK_US


def _own_kb(pid: int) -> int:
    try:
        rollup = (_PROC / str(pid) / "smaps_rollup").read_text()
    except OSError:
        return 0
    return next((int(line.split()[1]) for line in rollup.splitlines() if line.startswith("Pss_Anon:")), 0)
