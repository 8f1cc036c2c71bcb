"""A link between two processes that can be slowed to nothing, cut or taken down: a TCP relay on loopback."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
from typing import TYPE_CHECKING, Self

from tests import listening

if TYPE_CHECKING:
    from collections.abc import Callable

_READ_BYTES = 65_536


class Link:
    """Relays connections to an address. It listens from the moment it is made, and relays once it is entered.

    While it is parted, what either side sends is held back and comes through when it is mended, as packets that are sent again do.

    Args:
        target: Gives `host:port` when a connection comes.
        host: Loopback address on which it listens.
    """

    def __init__(self, target: Callable[[], str], host: str = "127.0.0.1") -> None:
        self._target = target
        self._socket = socket.create_server((host, 0), backlog=256)
        self._host = host
        self._server: asyncio.Server | None = None
        self._relays: set[asyncio.Task[None]] = set()
        self._through = asyncio.Event()
        self._through.set()
        self.port: int = self._socket.getsockname()[1]

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._accept, sock=self._socket)
        return self

    async def __aexit__(self, *error: object) -> None:
        if self._server is not None:
            await listening.stop(self._server)
        self._through.set()
        await self.cut()

    @property
    def address(self) -> str:
        """`host:port`."""
        return f"{self._host}:{self.port}"

    def part(self) -> None:
        """Lets nothing through, in either direction, and tells nobody."""
        self._through.clear()

    def mend(self) -> None:
        """Lets everything through."""
        self._through.set()

    async def cut(self) -> None:
        """Breaks every connection off; new ones get through."""
        relays = list(self._relays)
        for relay in relays:
            relay.cancel()
        await asyncio.gather(*relays, return_exceptions=True)

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        # No coroutine: a connection is known from the moment it is here, or nobody could cut it before it is relayed.
        relay = asyncio.ensure_future(self._relay(reader, writer))
        self._relays.add(relay)
        relay.add_done_callback(self._relays.discard)
        # One that is cut before its first step never comes to close what it was given.
        relay.add_done_callback(lambda _: writer.transport.abort())

    async def _relay(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        far_writer: asyncio.StreamWriter | None = None
        try:
            await self._through.wait()
            host, _, port = self._target().rpartition(":")
            far_reader, far_writer = await asyncio.open_connection(host, int(port))
            await asyncio.gather(self._copy(reader, far_writer), self._copy(far_reader, writer))
        except OSError:
            pass  # one end has gone away: so does the other
        except asyncio.CancelledError:
            _reset_on_close(writer)
            if far_writer is not None:
                _reset_on_close(far_writer)
            raise
        finally:
            for end in (writer, far_writer):
                if end is not None:
                    end.transport.abort()

    async def _copy(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(_READ_BYTES):
            await self._through.wait()
            writer.write(data)
            await writer.drain()
        await self._through.wait()
        with contextlib.suppress(OSError, RuntimeError):
            writer.write_eof()


def _reset_on_close(writer: asyncio.StreamWriter) -> None:
    """Has the kernel tell the peer that the connection is broken, not that it has ended."""
    sock: socket.socket = writer.get_extra_info("socket")
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
