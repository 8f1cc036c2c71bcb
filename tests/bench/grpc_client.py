"""A gRPC client of `GatewayService.Chat` that keeps messages as bytes and when they came; decoding is for afterwards."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import grpc

from tests.bench.http_client import Exchange

METHOD = "/parley.gateway.v1.GatewayService/Chat"


class GrpcClient:
    """One caller on a channel that all callers share, as the chat service's calls do; one exchange at a time."""

    def __init__(self, channel: Any) -> None:
        self._method = channel.unary_stream(METHOD)
        self._call: Any = None
        self._reading: asyncio.Task[None] | None = None

    def ask(self, request: bytes, bearer: str) -> Exchange:
        """Begins a call and returns what will hold its responses."""
        exchange = Exchange(asked_ns=time.monotonic_ns())
        self._call = self._method(request, metadata=(("authorization", f"Bearer {bearer}"),))
        self._reading = asyncio.create_task(self._read(self._call, exchange))
        return exchange

    def close(self) -> None:
        """Cancels the call under way."""
        if self._call is not None:
            self._call.cancel()

    async def _read(self, call: Any, exchange: Exchange) -> None:
        pieces = exchange.pieces
        try:
            async for message in call:
                pieces.append((time.monotonic_ns(), message))
                # The first message tells who answers; it may hold the first text too, which the second then follows.
                if len(pieces) == 2:
                    exchange.begun.set()
        except grpc.aio.AioRpcError as error:
            exchange.end(f"gRPC {error.code().name}")
        except asyncio.CancelledError:
            exchange.end("cancelled")
            if not call.cancelled():
                raise
        else:
            exchange.end()
