"""Runs the gateway: `python -m services.gateway`."""

import sys

import uvloop

from runtime.config import ConfigError
from services.gateway.main import main

if __name__ == "__main__":
    try:
        uvloop.run(main())
    except ConfigError as error:
        sys.stderr.write(f"{error}\n")
        sys.exit(2)
