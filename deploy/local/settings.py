"""What `make run` is told by the environment."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from runtime.config import Secret, at_least, load

if TYPE_CHECKING:
    from collections.abc import Mapping

ROOT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True, kw_only=True)
class Settings:
    """The launcher's settings; each is the variable `PARLEY_<NAME>`."""

    home: str = str(ROOT / ".parley")
    """Directory of everything that lives on: data, logs, secrets, run.json."""
    host: str = "127.0.0.1"
    """Address the edge listens on; everything else listens on loopback."""
    port: int = at_least(0, default=8080)
    """Port of the edge; 0 takes a free one."""
    replicas: int = at_least(1, default=1)
    """How many instances of each service run; the second edge takes the next free port."""
    database_url: Secret | None = None
    """URL of a real Postgres, as the owner of its database, instead of the embedded one."""
    redis_url: Secret | None = None
    """URL of a real Redis instead of the embedded one."""

    @classmethod
    def read(cls, environ: Mapping[str, str] = os.environ) -> Settings:
        """Reads the environment.

        Raises: runtime.config.ConfigError.
        """
        return load(cls, "PARLEY_", environ)
