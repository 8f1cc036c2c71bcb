"""The parts of a stack: each has a name, waits for others, starts until it is healthy, and stops."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol
from urllib.parse import quote, urlsplit, urlunsplit

import asyncpg

from deploy.local import process, secret_files
from deploy.local.postgres import EmbeddedPostgres, PostgresError
from deploy.local.process import Process
from deploy.local.redis import EmbeddedRedis, RedisError
from deploy.local.settings import ROOT

if TYPE_CHECKING:
    from pathlib import Path

_START_S = 90
_MIGRATE_S = 120


class StartError(Exception):
    """A part cannot become healthy; the message says which and why, and ends with the last lines of its log."""


class Unit(Protocol):
    """One part of a stack.

    Attributes:
        name: `auth`, or `chat-2` for a second instance.
        after: Names of the parts that are healthy before this one starts.
        lives: Whether it is watched and started again when it ends.
    """

    name: str
    after: tuple[str, ...]
    lives: bool

    @property
    def address(self) -> str:
        """Returns `host:port`, empty where it has none."""

    @property
    def process(self) -> Process | None:
        """Returns what runs, or last ran, for it; None where nothing does."""

    async def start(self) -> None:
        """Starts it and returns when it is healthy.

        Raises: StartError.
        """

    async def stop(self, *, hurry: bool = False) -> None:
        """Stops it within a bounded time; `hurry` gives calls under way no grace."""


@dataclass(frozen=True, kw_only=True)
class ProcessSpec:
    """A process as data: one row of the table of what runs.

    Attributes:
        name: Of this instance: `chat`, `chat-2`.
        argv: The command.
        env: Its whole environment.
        address: `host:port` it listens on.
        metrics_address: `host:port` of its metrics, empty where it has none.
        check: Returns when the server at the address is ready.
        after: Names of the parts that must be healthy before.
        drain_s: Seconds it gets between SIGTERM and SIGKILL.
    """

    name: str
    argv: tuple[str, ...]
    env: Mapping[str, str] = field(repr=False)  # holds the user's provider keys
    address: str
    check: Callable[[str], Awaitable[None]]
    metrics_address: str = ""
    after: tuple[str, ...] = ()
    drain_s: float = 15.0


class Service:
    """A process from the table."""

    lives = True

    def __init__(self, spec: ProcessSpec, log: Path) -> None:
        self.spec = spec
        self.name = spec.name
        self.after = spec.after
        self.address = spec.address
        self.process: Process | None = None
        self._log = log

    async def start(self) -> None:
        """Starts the process and returns when its check passes."""
        try:
            self.process = Process.spawn(self.spec.argv, env=self.spec.env, log=self._log, cwd=ROOT)
        except OSError as error:
            raise StartError(f"{self.name} cannot be started: {error}") from None
        healthy = asyncio.ensure_future(self.spec.check(self.address))
        ended = asyncio.ensure_future(self.process.wait())
        try:
            await asyncio.wait({healthy, ended}, timeout=_START_S, return_when=asyncio.FIRST_COMPLETED)
            if healthy.done() and not ended.done():
                healthy.result()
                return
            why = f"ended with status {ended.result()}" if ended.done() else f"was not healthy after {_START_S} s"
            await self.process.stop()
            raise StartError(f"{self.name} {why}. The end of {self._log}:\n{process.last_lines(self._log)}")
        finally:
            healthy.cancel()
            ended.cancel()

    async def stop(self, *, hurry: bool = False) -> None:
        """Asks the process to drain, and ends it when its time is up."""
        if self.process is not None:
            await self.process.stop((signal.SIGTERM, 1.0 if hurry else self.spec.drain_s))


class Store:
    """An embedded server; its URL goes to a file that others are told of."""

    lives = True

    def __init__(self, name: str, server: EmbeddedPostgres | EmbeddedRedis, url_file: Path) -> None:
        self.name = name
        self.after: tuple[str, ...] = ()
        self._server = server
        self._url_file = url_file

    @property
    def address(self) -> str:
        """Returns `host:port`."""
        return urlsplit(self._server.url).netloc.rpartition("@")[2]

    @property
    def process(self) -> Process | None:
        """Returns the server's process."""
        return getattr(self._server, "process", None)

    async def start(self) -> None:
        """Starts the server; it keeps its port from then on."""
        try:
            await self._server.start()
        except (PostgresError, RedisError) as error:
            raise StartError(f"{self.name} cannot start: {error}") from None
        secret_files.write(self._url_file, self._server.url)

    async def stop(self, *, hurry: bool = False) -> None:  # noqa: ARG002 - data is never left in a hurry
        """Stops the server in order."""
        await self._server.stop(keep=True)


class Outside:
    """A server that somebody else runs; only its URL is ours."""

    lives = False
    process = None

    def __init__(self, name: str, url: str, url_file: Path) -> None:
        self.name = name
        self.after: tuple[str, ...] = ()
        self.address = urlsplit(url).netloc.rpartition("@")[2]
        self._url = url
        self._url_file = url_file

    async def start(self) -> None:
        """Stores the URL where others read it."""
        secret_files.write(self._url_file, self._url)

    async def stop(self, *, hurry: bool = False) -> None:
        """Leaves it alone."""


class Migration:
    """Brings a service's schema up to date and lets the service's role log in."""

    lives = False
    address = ""
    process = None

    def __init__(self, spec: ProcessSpec, log: Path, *, role: str, secrets: Path, owner_url_file: Path) -> None:
        """Describes the step.

        Args:
            spec: The command that migrates; its check is not used.
            log: Where it writes.
            role: The login-less role that the migrations make.
            secrets: Where the role's password and URL are kept.
            owner_url_file: Holds the URL of the database's owner.
        """
        self.name = spec.name
        self.after = spec.after
        self._spec = spec
        self._log = log
        self._role = role
        self._secrets = secrets
        self._owner_url_file = owner_url_file

    async def start(self) -> None:
        """Migrates, then sets the role's password and writes `<role>_url`."""
        try:
            status = await process.run(
                self._spec.argv, env=self._spec.env, log=self._log, cwd=ROOT, timeout_s=_MIGRATE_S
            )
        except TimeoutError:
            raise StartError(f"{self.name} did not end in {_MIGRATE_S} s; see {self._log}") from None
        if status != 0:
            raise StartError(
                f"{self.name} failed (status {status}). The end of {self._log}:\n{process.last_lines(self._log)}"
            )
        password = secret_files.read_or_make(self._secrets / f"{self._role}_password")
        owner = urlsplit(self._owner_url_file.read_text())
        try:
            connection = await asyncpg.connect(owner.geturl())
            try:
                await _let_in(connection, self._role, password)
            finally:
                await connection.close()
        except (OSError, asyncpg.PostgresError) as error:
            raise StartError(f"{self.name}: the role {self._role} cannot log in ({type(error).__name__})") from None
        netloc = f"{self._role}:{quote(password, safe='')}@{owner.netloc.rpartition('@')[2]}"
        secret_files.write(self._secrets / f"{self._role}_url", urlunsplit(owner._replace(netloc=netloc)))

    async def stop(self, *, hurry: bool = False) -> None:
        """Does nothing: it has ended."""


async def _let_in(connection: asyncpg.Connection[asyncpg.Record], role: str, password: str) -> None:
    statement = await connection.fetchval(
        "SELECT format('ALTER ROLE %I LOGIN PASSWORD %L', $1::text, $2::text)", role, password
    )
    await connection.execute(statement)
