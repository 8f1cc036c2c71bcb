"""Runs the gateway: `python -m services.gateway`."""

import sys

import uvloop

from runtime.config import ConfigError
from services.gateway.main import run

if __name__ == "__main__":
    try:
        uvloop.run(run())
    except ConfigError as error:
        sys.exit(str(error))
