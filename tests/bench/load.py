"""The load generator's process: does the jobs that come as JSON lines on standard input, one after another.

    runner to generator    {"do": "paced"|"burst"|"stop", "kind", "address", "seats", …}, then {} to go on after a mark
    generator to runner    {"pid"} at first, {"mark": name} at each mark, {"result": {…}} at the end of a job

A process of its own, so that what measuring costs is seen apart from what is measured.
"""

from __future__ import annotations

import asyncio
import gc
import json
import os
import sys
from typing import Any

import uvloop

from tests.bench import targets, turns
from tests.bench.targets import Seat

_JOBS = {"paced": turns.paced, "burst": turns.burst, "stop": turns.stop}
_LINE_BYTES = 16 * 1024 * 1024


def _say(value: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps(value) + "\n")
    sys.stdout.flush()


async def main() -> None:
    """Does jobs until standard input ends."""
    lines = asyncio.StreamReader(limit=_LINE_BYTES)
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(lines), sys.stdin)
    _say({"pid": os.getpid()})

    async def mark(name: str) -> None:
        _say({"mark": name})
        await lines.readline()

    gc.freeze()
    gc.disable()
    while line := await lines.readline():
        job = json.loads(line)
        seats = [Seat(**seat) for seat in job["seats"]]
        async with targets.target(job["kind"], job["address"]) as target:
            result = await _JOBS[job["do"]](target, seats, mark, job)
        _say({"result": result})
        gc.collect()


if __name__ == "__main__":
    uvloop.run(main())
