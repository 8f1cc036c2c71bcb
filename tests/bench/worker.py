"""The runner's end of a process of the benchmark's own: started, spoken to in JSON lines, ended by closing its input."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, Self

_ROOT = Path(__file__).resolve().parents[2]
_LINE_BYTES = 64 * 1024 * 1024
_START_TIMEOUT_S = 20.0
_END_TIMEOUT_S = 5.0


class WorkerError(Exception):
    """A process of the benchmark's own ended in the middle."""


class Worker:
    """`python -m tests.bench.<module>`, from entering to leaving the block.

    Attributes:
        hello: The first line it said: its pid, and its port where it listens.
    """

    hello: dict[str, Any]

    def __init__(self, module: str) -> None:
        self._module = f"tests.bench.{module}"
        self._process: asyncio.subprocess.Process

    async def __aenter__(self) -> Self:
        pipe = asyncio.subprocess.PIPE
        self._process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", self._module, stdin=pipe, stdout=pipe, cwd=_ROOT, limit=_LINE_BYTES
        )
        async with asyncio.timeout(_START_TIMEOUT_S):
            self.hello = await self._hear()
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        try:
            async with asyncio.timeout(_END_TIMEOUT_S):
                await self._process.wait()
        except TimeoutError:
            self._process.kill()
            await self._process.wait()

    @property
    def pid(self) -> int:
        """Returns its pid."""
        return int(self.hello["pid"])

    @property
    def address(self) -> str:
        """Returns where it listens."""
        return f"127.0.0.1:{self.hello['port']}"

    async def do(self, job: dict[str, Any], at_mark: Callable[[str], None]) -> dict[str, Any]:
        """Gives it a job and returns the result; it waits at each mark until `at_mark` has returned.

        Raises: WorkerError.
        """
        self._say(job)
        while "result" not in (heard := await self._hear()):
            at_mark(heard["mark"])
            self._say({})
        result: dict[str, Any] = heard["result"]
        return result

    def _say(self, value: dict[str, Any]) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(value).encode() + b"\n")

    async def _hear(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = await self._process.stdout.readline()
        if not line:
            raise WorkerError(f"{self._module} ended: exit status {await self._process.wait()}")
        value: dict[str, Any] = json.loads(line)
        return value
