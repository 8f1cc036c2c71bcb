"""One gateway of others: started, watched, given time to come to rest between cells, and started anew where it does not."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import tempfile
from pathlib import Path
from typing import Self

from deploy.local.ports import free_port
from deploy.local.process import Process, last_lines
from tests.bench import procfs, wire
from tests.bench.http_client import HttpClient, request
from tests.bench.peers.recipes import RECIPES, NotInstalled, Recipe
from tests.bench.targets import Seat

_START_TIMEOUT_S = 90.0
_ASK_AGAIN_S = 0.2
_STOP_S = 3.0
_LOOK_S = 0.25
_REST_SHARE = 0.02
_REST_TIMEOUT_S = 20.0


class PeerError(Exception):
    """It is not installed, or does not start."""


class Peer:
    """A process of a recipe, from entering to leaving the block; its working directory is thrown away.

    Args:
        name: Of the recipe.
        provider: `host:port` of the provider that stands in for OpenAI.

    Raises: PeerError: it is not installed.
    """

    def __init__(self, name: str, provider: str) -> None:
        self.name = name
        self._port = free_port()
        self._recipe = _recipe(name, provider, self._port)
        self._home = Path(tempfile.mkdtemp(prefix=f"parley-bench-{name}-"))
        self._process: Process | None = None

    async def __aenter__(self) -> Self:
        try:
            await self._start()
        except BaseException:
            await self._leave()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._leave()

    @property
    def address(self) -> str:
        """Returns where it listens."""
        return f"127.0.0.1:{self._port}"

    @property
    def pid(self) -> int:
        """Returns its pid."""
        assert self._process is not None
        return self._process.pid

    @property
    def seat(self) -> Seat:
        """Returns whose key and which headers a request bears."""
        return self._recipe.seat

    async def rest(self) -> str:
        """Waits until it is done with what it was asked, so that what comes next finds the machine quiet.

        Returns: an empty text; or, where it has ended or is not done after a while, why it should be started anew.
        """
        for _ in range(int(_REST_TIMEOUT_S / _LOOK_S)):
            before = procfs.sample({self.name: self.pid})[self.name].cpu_us
            await asyncio.sleep(_LOOK_S)
            if not self.running:
                return "the process ended"
            if procfs.sample({self.name: self.pid})[self.name].cpu_us - before < _REST_SHARE * _LOOK_S * 1e6:
                return ""
        return f"still busy {_REST_TIMEOUT_S:.0f} s later"

    async def restart(self) -> None:
        """Starts it anew. Raises: PeerError."""
        await self._stop()
        await self._start()

    @property
    def running(self) -> bool:
        """Says whether its process has not ended."""
        return self._process is not None and self._process.returncode is None

    async def _start(self) -> None:
        """Starts it and waits until it serves. Raises: PeerError."""
        for name, text in self._recipe.files.items():
            (self._home / name).write_text(text)
        kept = {"PATH": os.environ.get("PATH", os.defpath), "HOME": str(self._home)}
        self._process = Process.spawn(
            self._recipe.argv, log=self._home / "log", env=kept | self._recipe.env, cwd=self._home
        )
        try:
            async with asyncio.timeout(_START_TIMEOUT_S):
                while not await self._serves():
                    if not self.running:
                        raise PeerError(f"{self.name} ended at once:\n{last_lines(self._home / 'log')}")
                    await asyncio.sleep(_ASK_AGAIN_S)
        except TimeoutError:
            raise PeerError(
                f"{self.name} does not serve after {_START_TIMEOUT_S:.0f} s:\n{last_lines(self._home / 'log')}"
            ) from None

    async def _serves(self) -> bool:
        try:
            client = await HttpClient.connect("127.0.0.1", self._port)
        except OSError:
            return False
        exchange = client.ask(request("GET", self._recipe.ready))
        await exchange.ended.wait()
        client.close()
        return wire.status(b"".join(data for _, data in exchange.pieces)) == 200

    async def _stop(self) -> None:
        if self._process is not None:
            await self._process.stop((signal.SIGTERM, _STOP_S))

    async def _leave(self) -> None:
        await self._stop()
        shutil.rmtree(self._home, ignore_errors=True)


def version(name: str) -> str:
    """Returns the version of what is installed. Raises: PeerError: nothing is."""
    return _recipe(name, "", 0).version


def _recipe(name: str, provider: str, port: int) -> Recipe:
    try:
        return RECIPES[name](provider, port)
    except NotInstalled:
        raise PeerError(f"{name} is not installed: `make bench-peers` does that") from None
