"""`python -m deploy.local.demo_provider --listen 127.0.0.1:11435`: the demo provider as a process."""

from __future__ import annotations

import argparse
import asyncio
import os

from deploy.local import http_server
from deploy.local.demo_provider.wire import DemoProvider


async def _serve(listen: str, tokens_per_s: float) -> None:
    host, _, port = listen.rpartition(":")
    server = await http_server.serve(host, int(port), DemoProvider(tokens_per_s).handle)
    await server.serve_forever()


def main() -> None:
    """Serves until a signal ends the process: it keeps nothing that could be lost."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--listen", default="127.0.0.1:11435", help="host:port")
    default = float(os.environ.get("PARLEY_DEMO_PROVIDER_TOKENS_PER_S", "40"))
    parser.add_argument("--tokens-per-s", type=float, default=default)
    arguments = parser.parse_args()
    asyncio.run(_serve(arguments.listen, arguments.tokens_per_s))


if __name__ == "__main__":
    main()
