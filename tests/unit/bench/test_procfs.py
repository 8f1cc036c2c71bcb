"""What the memory and the CPU time of a process count."""

from __future__ import annotations

import asyncio
import os
import sys
import threading
import time
from collections.abc import AsyncIterator

import pytest

from tests.bench import procfs

_KB = 16 * 1024
_CHILD = f"""
import mmap, sys
shared = mmap.mmap(-1, {_KB} * 1024)
own = b""
for line in sys.stdin:
    if line == "shared\\n":
        for at in range(0, len(shared), 4096):
            shared[at] = 1
    if line == "own\\n":
        own = bytearray(b"x") * ({_KB} * 1024)
    print("done", flush=True)
"""


@pytest.fixture
async def child() -> AsyncIterator[asyncio.subprocess.Process]:
    pipe = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", _CHILD, stdin=pipe, stdout=pipe)
    await _tell(process, "begin")
    yield process
    process.kill()
    await process.communicate()


async def test_memory_is_what_a_process_writes_for_itself(child: asyncio.subprocess.Process) -> None:
    before = _memory_kb(child)
    await _tell(child, "own")
    assert _memory_kb(child) - before > _KB / 2


async def test_shared_memory_that_is_touched_for_the_first_time_is_not_counted(
    child: asyncio.subprocess.Process,
) -> None:
    """It was set aside at the start, for everybody: who comes first has not taken it."""
    before = _memory_kb(child)
    await _tell(child, "shared")
    assert _memory_kb(child) - before < _KB / 4


def _memory_kb(process: asyncio.subprocess.Process) -> int:
    return procfs.sample({"it": process.pid}, memory=True)["it"].memory_kb


async def _tell(process: asyncio.subprocess.Process, what: str) -> None:
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write(f"{what}\n".encode())
    await process.stdout.readline()


def test_the_time_of_a_thread_that_has_ended_still_counts() -> None:
    worked_us = 200_000

    def work() -> None:
        while time.thread_time_ns() < worked_us * 1000:
            pass

    before = procfs.sample({"own": os.getpid()})["own"].cpu_us
    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    # Ticks are whole ones, of user's and of system time.
    assert procfs.sample({"own": os.getpid()})["own"].cpu_us - before >= worked_us - 3 * 10_000
