"""A client of `GatewayService.Chat` over a shared connection, as the chat service calls it; like the other it keeps what it receives and when."""

from __future__ import annotations

import asyncio
import struct
import time
from typing import TYPE_CHECKING

import grpc

from runtime.channel import open_shared
from runtime.mux.spread import Spread
from tests.bench.grpc_client import METHOD
from tests.bench.http_client import Exchange

if TYPE_CHECKING:
    from runtime.mux.exchange import Exchange as Call

_CONNECT_TIMEOUT_S = 10.0


class SharedConnection:
    """One connection, on which any number of calls run side by side."""

    def __init__(self, spread: Spread) -> None:
        self._spread = spread
        self._reading: set[asyncio.Task[None]] = set()

    @classmethod
    async def connect(cls, host: str, port: int) -> SharedConnection:
        """Opens a connection. Raises: TimeoutError: the service does not offer one."""
        spread = Spread(f"ipv4:{host}:{port}", open_shared)
        spread.start()
        async with asyncio.timeout(_CONNECT_TIMEOUT_S):
            await spread.wait_ready()
        return cls(spread)

    def ask(self, request: bytes, bearer: str) -> tuple[Call | None, Exchange]:
        """Begins a call; returns it, and what will hold its responses."""
        exchange = Exchange()
        link = self._spread.pick()
        if link is None:
            exchange.end("connection lost between turns")
            return None, exchange
        exchange.asked_ns = time.monotonic_ns()
        call = link.call(METHOD, request, [("authorization", f"Bearer {bearer}")], None)

        def keep(payload: bytes) -> bool:
            exchange.pieces.append((time.monotonic_ns(), struct.pack(">BI", 0, len(payload)) + payload))
            # The first message tells who answers; it may hold the first text too, which the second then follows.
            if len(exchange.pieces) == 2:
                exchange.begun.set()
            return True

        async def read() -> None:
            try:
                while (payload := await call.next()) is not None:
                    keep(payload)
            except grpc.aio.AioRpcError as error:
                exchange.end(f"gRPC {error.code().name}")
            except asyncio.CancelledError:
                exchange.end("cancelled")
            else:
                exchange.end()

        call.pour(keep)
        reading = asyncio.create_task(read())
        self._reading.add(reading)
        reading.add_done_callback(self._reading.discard)
        return call, exchange

    async def close(self) -> None:
        """Closes the connection."""
        await self._spread.close()
        if self._reading:
            await asyncio.wait(self._reading)


class SharedClient:
    """One caller on the shared connection; one call at a time."""

    def __init__(self, connection: SharedConnection) -> None:
        self._connection = connection
        self._call: Call | None = None

    def ask(self, request: bytes, bearer: str) -> Exchange:
        """Begins a call and returns what will hold its responses."""
        self._call, exchange = self._connection.ask(request, bearer)
        return exchange

    def close(self) -> None:
        """Cancels the call under way."""
        if self._call is not None:
            self._call.cancel()
