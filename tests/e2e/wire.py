"""A wire between a browser and the edge that can be cut: a TCP relay on loopback."""

from __future__ import annotations

import asyncio
import contextlib
from typing import Self

from tests import listening


class Wire:
    """Relays connections to an address; an async context manager.

    Args:
        target: `http://host:port` of the edge.
    """

    def __init__(self, target: str) -> None:
        host, _, port = target.removeprefix("http://").rpartition(":")
        self._target = (host, int(port))
        self._server: asyncio.Server | None = None
        self._port = 0
        self._relays: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> Self:
        await self.mend()
        return self

    async def __aexit__(self, *error: object) -> None:
        await self.sever()

    @property
    def url(self) -> str:
        """`http://127.0.0.1:port`, the same after mending."""
        return f"http://127.0.0.1:{self._port}"

    async def mend(self) -> None:
        """Lets connections through (again)."""
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", self._port)
        self._port = self._server.sockets[0].getsockname()[1]

    async def cut(self) -> None:
        """Breaks every connection off; new ones get through."""
        relays = list(self._relays)
        for relay in relays:
            relay.cancel()
        await asyncio.gather(*relays, return_exceptions=True)

    async def sever(self) -> None:
        """Breaks every connection off and refuses new ones until mended."""
        if self._server is not None:
            await listening.stop(self._server)
            self._server = None
        await self.cut()

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        relay = asyncio.ensure_future(self._relay(reader, writer))
        self._relays.add(relay)
        relay.add_done_callback(self._relays.discard)

    async def _relay(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        far_writer: asyncio.StreamWriter | None = None
        try:
            far_reader, far_writer = await asyncio.open_connection(*self._target)
            await asyncio.gather(_copy(reader, far_writer), _copy(far_reader, writer))
        except OSError:
            pass  # one end has gone away: so does the other
        finally:
            for end in (writer, far_writer):
                if end is not None:
                    end.transport.abort()


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(65536):
        writer.write(data)
        await writer.drain()
    with contextlib.suppress(OSError, RuntimeError):
        writer.write_eof()
