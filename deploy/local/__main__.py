"""`python -m deploy.local run` starts Parley on this machine; `trace` shows the last turn as a waterfall."""

from __future__ import annotations

import argparse
import asyncio
import sys

from deploy.local.run import run
from deploy.local.settings import Settings
from deploy.local.trace import trace
from runtime.config import ConfigError


def main() -> int:
    """Returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m deploy.local", description=__doc__)
    parser.add_argument("command", choices=("run", "trace"))
    command = parser.parse_args().command
    try:
        settings = Settings.read()
    except ConfigError as faults:
        sys.stderr.write(f"{faults}\n")
        return 2
    return asyncio.run(run(settings)) if command == "run" else trace(settings)


if __name__ == "__main__":
    sys.exit(main())
