"""`python -m services.gateway` serves; `migrate` brings the schema up to date, `reencrypt` puts stored keys under the newest encryption key."""

from __future__ import annotations

import sys
from pathlib import Path

import uvloop

from runtime.config import ConfigError, load
from runtime.errors import ParleyError
from runtime.migrate import MigrationConfig, MigrationError, migrate


async def _migrate() -> None:
    config = load(MigrationConfig, "PARLEY_GATEWAY_")
    await migrate(config.migration_database_url.reveal(), "gateway", Path(__file__).with_name("migrations"))


async def _serve() -> None:
    from services.gateway.main import main

    await main()


async def _reencrypt() -> None:
    from services.gateway.admin.composition import reencrypt
    from services.gateway.config import SealConfig

    config = load(SealConfig, "PARLEY_GATEWAY_")
    count = await reencrypt(config.database_url.reveal(), config.encryption_keys.reveal())
    sys.stdout.write(f"{count} providers were encrypted anew.\n")


_COMMANDS = {"": _serve, "migrate": _migrate, "reencrypt": _reencrypt}


def _run(command: str) -> int:
    if command not in _COMMANDS:
        return _fail(2, "usage: python -m services.gateway [migrate | reencrypt]")
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
