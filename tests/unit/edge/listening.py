"""A real edge's server for the length of a test."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any

from services.edge.server import HttpServer


def connections_of(server: HttpServer) -> set[Any]:
    return server._server.server_state.connections


@contextlib.asynccontextmanager
async def listening(server: HttpServer) -> AsyncIterator[None]:
    """Listens for at most twenty seconds; who is still connected at the end is cut."""
    await server.start()
    try:
        async with asyncio.timeout(20):
            yield
    finally:
        for connection in list(connections_of(server)):
            connection.transport.abort()
        await server.stop()
