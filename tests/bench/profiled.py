"""Runs a service under a sampling profiler: where its main thread stands at the kernel's ticks, counted in CPU time used.

    PARLEY_BENCH_PROFILE=path python -m tests.bench.profiled services.chat

At the end the file `path` holds one line a stack: frames from the outermost, joined by `;`, and how often it was seen, which is
the form that flame graph tools read. A sample is taken when C code returns to Python, so time in the event loop or in gRPC's core counts
for what Python does next: the loop's `run`, or the innermost coroutine that is woken. For what lies below, ask `perf`.
"""

from __future__ import annotations

import atexit
import collections
import os
import runpy
import signal
import sys
from collections.abc import Mapping
from pathlib import Path
from types import FrameType

_INTERVAL_S = 0.001
_ROOTS = ("site-packages/", "lib/python3", f"{Path(__file__).resolve().parents[2]}/")


def main() -> None:
    """Runs the module named on the command line as `__main__`."""
    module, path = sys.argv[1], Path(os.environ["PARLEY_BENCH_PROFILE"])
    seen: collections.Counter[tuple[tuple[str, str], ...]] = collections.Counter()

    def sample(_: int, frame: FrameType | None) -> None:
        stack = []
        while frame is not None:
            stack.append((frame.f_code.co_filename, frame.f_code.co_qualname))
            frame = frame.f_back
        seen[tuple(reversed(stack))] += 1

    def write() -> None:
        signal.setitimer(signal.ITIMER_PROF, 0)
        path.write_text("".join(f"{';'.join(_name(*frame) for frame in stack)} {n}\n" for stack, n in seen.items()))

    atexit.register(write)
    signal.signal(signal.SIGPROF, sample)
    signal.setitimer(signal.ITIMER_PROF, _INTERVAL_S, _INTERVAL_S)
    sys.argv = sys.argv[1:]
    runpy.run_module(module, run_name="__main__", alter_sys=True)


def summary(stacks: str, top: int = 25) -> str:
    """Returns which functions the samples of such a file stood in, and below which functions they stood, in percent."""
    own: collections.Counter[str] = collections.Counter()
    below: collections.Counter[str] = collections.Counter()
    for line in stacks.splitlines():
        stack, _, count = line.rpartition(" ")
        frames = stack.split(";")
        own[frames[-1]] += int(count)
        for frame in set(frames):
            below[frame] += int(count)
    total = max(own.total(), 1)
    return f"{total} samples\n\nin the function itself\n{_top(own, total, top)}\n\nin it and below\n{_top(below, total, 2 * top)}"


def _top(counts: Mapping[str, int], total: int, top: int) -> str:
    most = sorted(counts.items(), key=lambda item: -item[1])[:top]
    return "\n".join(f"{100 * count / total:5.1f} %  {name}" for name, count in most)


def _name(path: str, function: str) -> str:
    for root in _ROOTS:
        _, found, rest = path.rpartition(root)
        if found:
            path = rest
            break
    return f"{path}:{function}".replace(" ", "_").replace(";", ",")


if __name__ == "__main__":
    main()
