"""A gRPC client of `GatewayService.Chat` that keeps what it receives and when, and decodes it afterwards.

It speaks just enough HTTP/2 for that, because grpc.aio costs the client as much CPU a token as it costs the server: on two cores a load
generator built on it takes away half of one at 200 streams, and what is measured is the lack of it. All callers share one connection,
as the chat service's calls do.
"""

from __future__ import annotations

import asyncio
import struct
import time
from typing import Any

import grpc

from tests.bench.http_client import Exchange

METHOD = "/parley.gateway.v1.GatewayService/Chat"

_DATA, _HEADERS, _RST_STREAM, _SETTINGS, _PING, _GOAWAY, _WINDOW_UPDATE = 0, 1, 3, 4, 6, 7, 8
_END_STREAM, _END_HEADERS, _ACK = 0x1, 0x4, 0x1
_FRAME_HEAD_BYTES = 9
_CANCEL = 8
_WIDEST_WINDOW = 2**31 - 1
# No table of headers to be kept by either side, and windows that a whole job fits in: nothing to be granted on the way.
_SETTING_HEADER_TABLE_SIZE, _SETTING_ENABLE_PUSH, _SETTING_INITIAL_WINDOW_SIZE = 1, 2, 4
_STATUS_NAMES: dict[bytes, str] = {str(code.value[0]).encode(): code.name for code in grpc.StatusCode}


class GrpcConnection(asyncio.Protocol):
    """One HTTP/2 connection, on which any number of calls run side by side."""

    def __init__(self) -> None:
        self._transport: Any = None
        self._authority = b""
        self._last_stream = -1
        self._calls: dict[int, Exchange] = {}
        self._rest = b""

    @classmethod
    async def connect(cls, host: str, port: int) -> GrpcConnection:
        """Opens a connection. Raises: OSError."""
        _, connection = await asyncio.get_running_loop().create_connection(cls, host, port)
        connection._authority = f"{host}:{port}".encode()
        return connection

    def ask(self, request: bytes, bearer: str) -> tuple[int, Exchange]:
        """Begins a call; returns its stream, and what will hold its responses."""
        exchange = Exchange()
        if self._transport is None:
            exchange.end("connection lost between turns")
            return 0, exchange
        self._last_stream += 2
        stream = self._last_stream
        message = struct.pack(">BI", 0, len(request)) + request
        frames = _frame(_HEADERS, _END_HEADERS, stream, _header_block(self._authority, bearer.encode())) + _frame(
            _DATA, _END_STREAM, stream, message
        )
        self._calls[stream] = exchange
        exchange.asked_ns = time.monotonic_ns()
        self._transport.write(frames)
        return stream, exchange

    def cancel(self, stream: int) -> None:
        """Cancels a call, if it is still under way."""
        exchange = self._calls.pop(stream, None)
        if exchange is not None:
            exchange.end("cancelled")
            self._transport.write(_frame(_RST_STREAM, 0, stream, struct.pack(">I", _CANCEL)))

    def close(self) -> None:
        """Drops the connection."""
        if self._transport is not None:
            self._transport.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport
        settings = struct.pack(
            ">HIHIHI",
            *(_SETTING_HEADER_TABLE_SIZE, 0, _SETTING_ENABLE_PUSH, 0, _SETTING_INITIAL_WINDOW_SIZE, _WIDEST_WINDOW),
        )
        self._transport.write(
            b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
            + _frame(_SETTINGS, 0, 0, settings)
            + _frame(_WINDOW_UPDATE, 0, 0, struct.pack(">I", _WIDEST_WINDOW - 65_535))
        )

    def data_received(self, data: bytes) -> None:
        now_ns = time.monotonic_ns()
        if self._rest:
            data = self._rest + data
        at, size = 0, len(data)
        while size - at >= _FRAME_HEAD_BYTES:
            end = at + _FRAME_HEAD_BYTES + int.from_bytes(data[at : at + 3], "big")
            if end > size:
                break
            kind, flags, stream = data[at + 3], data[at + 4], int.from_bytes(data[at + 5 : at + 9], "big")
            payload = data[at + _FRAME_HEAD_BYTES : end]
            at = end
            if kind == _DATA:
                exchange = self._calls.get(stream)
                if exchange is not None:
                    exchange.pieces.append((now_ns, payload))
                    # The first message tells who answers; it may hold the first text too, which the second then follows.
                    if len(exchange.pieces) == 2:
                        exchange.begun.set()
            else:
                self._control(kind, flags, stream, payload)
        self._rest = data[at:]

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        for exchange in self._calls.values():
            exchange.end(f"connection lost: {exc}" if exc else "connection lost")
        self._calls.clear()

    def _control(self, kind: int, flags: int, stream: int, payload: bytes) -> None:
        if kind == _HEADERS and flags & _END_STREAM:
            self._end(stream, _status(payload))
        elif kind == _RST_STREAM:
            self._end(stream, "stream reset")
        elif kind in {_SETTINGS, _PING} and not flags & _ACK:
            self._transport.write(_frame(kind, _ACK, 0, payload if kind == _PING else b""))
        elif kind == _GOAWAY:
            self._transport.abort()

    def _end(self, stream: int, failure: str) -> None:
        exchange = self._calls.pop(stream, None)
        if exchange is not None:
            exchange.end(failure)


class GrpcClient:
    """One caller on the shared connection; one call at a time."""

    def __init__(self, connection: GrpcConnection) -> None:
        self._connection = connection
        self._stream = 0

    def ask(self, request: bytes, bearer: str) -> Exchange:
        """Begins a call and returns what will hold its responses."""
        self._stream, exchange = self._connection.ask(request, bearer)
        return exchange

    def close(self) -> None:
        """Cancels the call under way."""
        self._connection.cancel(self._stream)


def _frame(kind: int, flags: int, stream: int, payload: bytes) -> bytes:
    return len(payload).to_bytes(3, "big") + struct.pack(">BBI", kind, flags, stream) + payload


def _header_block(authority: bytes, bearer: bytes) -> bytes:
    """Spells the request's headers in HPACK: two from the static table, the rest as literals that are not remembered."""
    return (
        b"\x83\x86"  # :method POST, :scheme http
        b"\x01"
        + _text(authority)
        + b"\x04"
        + _text(METHOD.encode())
        + b"".join(
            b"\x00" + _text(name) + _text(value)
            for name, value in (
                (b"te", b"trailers"),
                (b"content-type", b"application/grpc"),
                (b"authorization", b"Bearer " + bearer),
            )
        )
    )


def _text(value: bytes) -> bytes:
    length = len(value)
    if length < 127:
        return bytes([length]) + value
    length -= 127
    digits = bytearray([127])
    while length > 127:
        digits.append(length & 127 | 128)
        length >>= 7
    digits.append(length)
    return bytes(digits) + value


def _status(block: bytes) -> str:
    """Returns what went wrong according to the trailers, empty for nothing; gRPC spells names and numbers without compression."""
    _, found, rest = block.partition(b"grpc-status")
    status = rest[1 : 1 + rest[0]] if found and rest else b""
    return "" if status == b"0" else f"gRPC {_STATUS_NAMES.get(status, 'status unknown')}"
