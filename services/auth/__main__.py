"""`python -m services.auth` serves; with `migrate` it brings the schema up to date, with `rotate-keys` it rotates the signing keys."""

from __future__ import annotations

import sys
from pathlib import Path

import uvloop

from runtime.config import ConfigError, load
from runtime.errors import ParleyError
from runtime.migrate import MigrationConfig, MigrationError, migrate
from services.auth.main import main, rotate_keys


async def _migrate() -> None:
    config = load(MigrationConfig, "PARLEY_AUTH_")
    await migrate(config.migration_database_url.reveal(), "auth", Path(__file__).with_name("migrations"))


_COMMANDS = {"": main, "migrate": _migrate, "rotate-keys": rotate_keys}


def _run(command: str) -> int:
    if command not in _COMMANDS:
        return _fail(2, "usage: python -m services.auth [migrate | rotate-keys]")
    try:
        uvloop.run(_COMMANDS[command]())
    except ConfigError as fault:
        return _fail(2, str(fault))
    except (MigrationError, ParleyError) as error:
        return _fail(1, str(error))
    return 0


def _fail(status: int, message: str) -> int:
    sys.stderr.write(message + "\n")
    return status


if __name__ == "__main__":
    sys.exit(_run(" ".join(sys.argv[1:])))
