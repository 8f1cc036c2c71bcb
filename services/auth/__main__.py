"""`python -m services.auth` serves; its other commands care for the schema, the signing keys and the platform's operators.

`migrate` brings the schema up to date, `rotate-keys` rotates the signing keys,
`operator grant EMAIL` and `operator revoke EMAIL` say who operates the platform.
"""

from __future__ import annotations

import functools
import sys
from pathlib import Path

import uvloop

from runtime.config import ConfigError, load
from runtime.errors import ParleyError
from runtime.migrate import MigrationConfig, MigrationError, migrate
from services.auth.main import main, rotate_keys, set_operator


async def _migrate() -> None:
    config = load(MigrationConfig, "PARLEY_AUTH_")
    await migrate(config.migration_database_url.reveal(), "auth", Path(__file__).with_name("migrations"))


_COMMANDS = {"migrate": _migrate, "rotate-keys": rotate_keys}


def _run(arguments: list[str]) -> int:
    match arguments:
        case ["operator", ("grant" | "revoke") as verb, email]:
            command = functools.partial(set_operator, email, operator=verb == "grant")
        case [name] if name in _COMMANDS:
            command = functools.partial(_COMMANDS[name])
        case []:
            command = functools.partial(main)
        case _:
            return _fail(2, "usage: python -m services.auth [migrate | rotate-keys | operator (grant | revoke) EMAIL]")
    try:
        uvloop.run(command())
    except ConfigError as fault:
        return _fail(2, str(fault))
    except (MigrationError, ParleyError) as error:
        return _fail(1, str(error))
    return 0


def _fail(status: int, message: str) -> int:
    sys.stderr.write(message + "\n")
    return status


if __name__ == "__main__":
    sys.exit(_run(sys.argv[1:]))
