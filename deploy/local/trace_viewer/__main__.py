"""`python -m deploy.local.trace_viewer --listen 127.0.0.1:16686 --receive 127.0.0.1:4317`: the viewer as a process."""

from __future__ import annotations

import argparse
import asyncio

from deploy.local import http_server
from deploy.local.trace_viewer import receiver
from deploy.local.trace_viewer.pages import Pages
from deploy.local.trace_viewer.store import TraceStore


async def _serve(listen: str, receive: str, max_turns: int) -> None:
    store = TraceStore(max_turns)
    collector = await receiver.serve(receive, store)
    host, _, port = listen.rpartition(":")
    pages = await http_server.serve(host, int(port), Pages(store).handle)
    try:
        await pages.serve_forever()
    finally:
        await collector.stop(0)


def main() -> None:
    """Serves until a signal ends the process: what it keeps lives in memory alone."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--listen", default="127.0.0.1:16686", help="host:port of the pages")
    parser.add_argument("--receive", default="127.0.0.1:4317", help="host:port of the OTLP receiver (gRPC)")
    parser.add_argument("--max-turns", type=int, default=200, help="turns kept, and as many other traces")
    arguments = parser.parse_args()
    asyncio.run(_serve(arguments.listen, arguments.receive, arguments.max_turns))


if __name__ == "__main__":
    main()
