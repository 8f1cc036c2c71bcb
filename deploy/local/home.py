"""PARLEY_HOME: where a stack keeps its data, logs, secrets and the description of its run."""

from __future__ import annotations

import fcntl
import json
import os
from pathlib import Path
from typing import Any

from deploy.local import secret_files

_KEPT_LOGS = 3


class HomeTakenError(Exception):
    """Another launcher runs on this home."""


class Home:
    """A home directory, held by one launcher at a time."""

    def __init__(self, path: Path | str) -> None:
        self.path = Path(path).expanduser().absolute()
        self.logs = self.path / "logs"
        self.secrets = self.path / "secrets"
        self.run_file = self.path / "run.json"
        self._lock: int | None = None

    def take(self) -> None:
        """Makes the directories and holds the home until `release` or the end of this process.

        Raises: HomeTakenError.
        """
        # Others may pass, as Postgres's own user has to; what is private is closed one level below.
        self.path.mkdir(mode=0o711, parents=True, exist_ok=True)
        self.logs.mkdir(mode=0o700, exist_ok=True)
        self.secrets.mkdir(mode=0o700, exist_ok=True)
        self._lock = os.open(self.path / "lock", os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.read(self._lock, 32).decode().strip()
            os.close(self._lock)
            self._lock = None
            raise HomeTakenError(
                f"Parley already runs with {self.path} (launcher's pid {holder or 'unknown'}).\n"
                "Stop that one, or set PARLEY_HOME (and PARLEY_PORT) to run another beside it."
            ) from None
        os.ftruncate(self._lock, 0)
        os.write(self._lock, f"{os.getpid()}\n".encode())
        # Of a launcher that could not take it away itself.
        self.run_file.unlink(missing_ok=True)

    def release(self) -> None:
        """Lets go of the home."""
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def log(self, name: str) -> Path:
        """Returns the path of a process's log."""
        return self.logs / f"{name}.log"

    def rotate(self, name: str) -> None:
        """Sets the last run's log aside; a few are kept."""
        log = self.log(name)
        for age in range(_KEPT_LOGS, 0, -1):
            older = log if age == 1 else log.with_suffix(f".log.{age - 1}")
            if older.exists():
                older.replace(log.with_suffix(f".log.{age}"))

    def write_run(self, run: dict[str, Any]) -> None:
        """Describes what runs, for other programs; the file appears whole."""
        secret_files.write(self.run_file, json.dumps(run, indent=2) + "\n")

    def read_run(self) -> dict[str, Any] | None:
        """Returns the description of what runs, or None where nothing is said to."""
        try:
            run: dict[str, Any] = json.loads(self.run_file.read_text(encoding="utf-8"))
        except FileNotFoundError:
            return None
        return run

    def remove_run(self) -> None:
        """Takes the description away."""
        self.run_file.unlink(missing_ok=True)
