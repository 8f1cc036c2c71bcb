"""`python -m services.data` serves; `python -m services.data migrate` brings the schema up to date."""

import sys
from pathlib import Path

import uvloop

from runtime.config import ConfigError, load
from runtime.migrate import MigrationConfig, MigrationError, migrate
from services.data.main import main


async def _migrate() -> None:
    config = load(MigrationConfig, "PARLEY_DATA_")
    await migrate(config.migration_database_url.reveal(), "data", Path(__file__).parent / "migrations")


commands = {(): main, ("migrate",): _migrate}
command = commands.get(tuple(sys.argv[1:]))
if command is None:
    sys.stderr.write("usage: python -m services.data [migrate]\n")
    sys.exit(2)
try:
    uvloop.run(command())
except (ConfigError, MigrationError) as error:
    sys.stderr.write(f"{error}\n")
    sys.exit(2)
