"""One child process: tied to this one's life, its output in a file, its end awaitable, its stop orderly and bounded."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
from collections import deque
from pathlib import Path
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

Identity = Literal["same", "nobody", "reach", "namespace"]

_TETHER = Path(__file__).with_name("tether.py")
_POLL_S = 0.05


class Process:
    """A running command. Made by `Process.spawn` on the event loop that will also await and stop it.

    The kernel sends the command `parent_death_signal` when the thread that spawned it ends, however that happens:
    spawn from a thread that lives as long as the command should, which is the event loop's.
    """

    def __init__(self, popen: subprocess.Popen[bytes]) -> None:
        self._popen = popen
        self._exit = asyncio.get_running_loop().create_task(self._watch())

    @classmethod
    def spawn(
        cls,
        argv: Sequence[str | Path],
        *,
        log: Path | None = None,
        env: Mapping[str, str] | None = None,
        cwd: Path = Path("/"),
        identity: Identity = "same",
        parent_death_signal: signal.Signals = signal.SIGKILL,
    ) -> Process:
        """Starts the command in a session of its own, so that a terminal's Ctrl-C reaches the parent alone.

        Args:
            argv: The command; its first word is an absolute path.
            log: The file that gets its output, appended; None drops the output.
            env: Its whole environment; this process's by default.
            cwd: Its working directory.
            identity: As whom it runs; see tether.py.
            parent_death_signal: What the kernel sends it when this process dies.

        Raises: OSError: where it cannot be started at all.
        """
        tethered: list[str | Path] = [
            sys.executable,
            "-I",
            "-S",
            _TETHER,
            str(os.getpid()),
            str(int(parent_death_signal)),
            identity,
        ]
        output = subprocess.DEVNULL if log is None else os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        try:
            popen = subprocess.Popen(
                [*tethered, *argv],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                env=env,
                cwd=cwd,
                start_new_session=True,
            )
        finally:
            if output >= 0:
                os.close(output)
        return cls(popen)

    @property
    def pid(self) -> int:
        """Returns the pid, which the command keeps through every change of identity."""
        return self._popen.pid

    @property
    def returncode(self) -> int | None:
        """Returns the exit status, negative for a signal, or None while it runs."""
        return self._popen.returncode

    async def wait(self) -> int:
        """Returns the exit status once the process has ended."""
        return await asyncio.shield(self._exit)

    async def stop(self, *steps: tuple[signal.Signals, float]) -> int:
        """Sends each signal in turn, giving the process its seconds to end, and SIGKILL at last; returns the status."""
        for number, grace_s in steps:
            self.send(number)
            done, _ = await asyncio.wait([self._exit], timeout=grace_s)
            if done:
                return self._exit.result()
        self.send(signal.SIGKILL)
        return await self.wait()

    def send(self, number: signal.Signals) -> None:
        """Sends a signal, if there still is somebody to get it."""
        self._popen.send_signal(number)

    async def _watch(self) -> int:
        with contextlib.suppress(OSError, AttributeError):  # a kernel without pidfd, or a process reaped already
            descriptor = os.pidfd_open(self.pid)
            ended = asyncio.Event()
            loop = asyncio.get_running_loop()
            loop.add_reader(descriptor, ended.set)
            try:
                await ended.wait()
            finally:
                loop.remove_reader(descriptor)
                os.close(descriptor)
        while (status := self._popen.poll()) is None:  # noqa: ASYNC110 - what is left without a pidfd
            await asyncio.sleep(_POLL_S)
        return status


async def run(
    argv: Sequence[str | Path],
    *,
    log: Path | None = None,
    env: Mapping[str, str] | None = None,
    identity: Identity = "same",
    timeout_s: float = 60,
    cwd: Path = Path("/"),
) -> int:
    """Runs a command to its end and returns its exit status; kills it when the time is up or the caller is cancelled.

    Raises: TimeoutError.
    """
    process = Process.spawn(argv, log=log, env=env, identity=identity, cwd=cwd)
    try:
        async with asyncio.timeout(timeout_s):
            return await process.wait()
    finally:
        if process.returncode is None:
            await process.stop()


def last_lines(log: Path, count: int = 20) -> str:
    """Returns the end of a log file, or an empty text where there is none."""
    try:
        with log.open(encoding="utf-8", errors="replace") as lines:
            return "".join(deque(lines, maxlen=count)).rstrip()
    except FileNotFoundError:
        return ""
