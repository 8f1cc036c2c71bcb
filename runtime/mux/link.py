"""The caller's connection to one instance: opened, opened again when it breaks, and left when the instance drains."""

from __future__ import annotations

import asyncio
import contextlib
import random
from typing import TYPE_CHECKING, Any

import grpc
import structlog

from runtime.mux import pipe
from runtime.mux.exchange import Exchange
from runtime.mux.outbox import Writer
from runtime.mux.wire import CONNECT, EOF, MAX_CALLS, MAX_REQUEST_BYTES, WINDOW_BYTES, add_headers, pb

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from runtime.mux.outbox import Outbox

log = structlog.stdlib.get_logger()

_FIRST_PAUSE_S = 0.1
_LONGEST_PAUSE_S = 2.0
_UNKNOWN_PAUSE_S = 30.0
_DIRECT_TIMEOUT_S = 1.0
_LAST_FRAMES_S = 1.0


class Link:
    """A connection to one instance. While it cannot be had, `ready` is False and nothing is lost but speed.

    Args:
        address: Of the instance.
        open_channel: Opens a plain channel to it.
        broken: Called when a connection that was open is no more.

    Attributes:
        address: Of the instance.
        ready: Calls may be opened.
        unknown: The instance answers but does not know this way of calling.
        max_request_bytes: Largest request it takes.
    """

    def __init__(
        self, address: str, open_channel: Callable[[str], grpc.aio.Channel], broken: Callable[[], None]
    ) -> None:
        self.address = address
        self.ready = False
        self.unknown = False
        self.max_request_bytes = MAX_REQUEST_BYTES
        self._max_calls = MAX_CALLS
        self._channel = open_channel(address)
        self._broken = broken
        self._connect: Any = self._channel.stream_stream(
            CONNECT,
            request_serializer=bytes,
            response_deserializer=pb.ConnectResponse.FromString,
        )
        self._exchanges: dict[int, Exchange] = {}
        self._dropped = self._forget  # one for all calls
        self._outbox: Outbox
        self._last = 0
        self._leaving = False
        self._greeted = False
        self._going_away = False
        self._idle = asyncio.Event()
        self._became_ready = asyncio.Event()
        self._task = asyncio.create_task(self._run())

    @property
    def calls(self) -> int:
        """How many calls are under way."""
        return len(self._exchanges)

    @property
    def open(self) -> bool:
        """Whether another call may be opened."""
        return self.ready and len(self._exchanges) < self._max_calls

    async def wait_ready(self) -> None:
        """Returns once calls may be opened."""
        await self._became_ready.wait()

    def call(
        self, path: str, request: bytes, metadata: Sequence[tuple[str, str | bytes]], timeout_s: float | None
    ) -> Exchange:
        """Opens a call; the link must be open."""
        self._last += 1
        number = self._last
        exchange = Exchange(number, self._outbox, self._dropped)
        batch = pb.ConnectRequest()
        frame = batch.frames.add()
        frame.call = number
        opened = frame.open
        opened.method, opened.request, opened.window_bytes = path, request, WINDOW_BYTES
        add_headers(opened.metadata, metadata)
        if timeout_s is not None:
            opened.timeout.seconds, opened.timeout.nanos = divmod(int(timeout_s * 1e9), 1_000_000_000)
        self._exchanges[number] = exchange  # it could be spelt
        self._outbox.send(batch.SerializeToString())
        if timeout_s is not None:
            exchange.expire_after(timeout_s)
        return exchange

    def leave(self) -> asyncio.Task[None]:
        """Opens no more calls; the task ends when those under way have and the connection is closed."""
        self._leaving = True
        self._idle.clear()
        self.ready = False
        return asyncio.create_task(self._left())

    async def close(self) -> None:
        """Closes the connection; calls under way end as cancelled."""
        self.ready = False
        for exchange in list(self._exchanges.values()):
            exchange.fail(grpc.StatusCode.CANCELLED, "Channel closed.")
        self._task.cancel()
        await asyncio.wait([self._task])
        await self._channel.close(None)

    async def _left(self) -> None:
        try:
            if self._exchanges:
                await self._idle.wait()
        finally:
            await self.close()

    async def _run(self) -> None:
        pause_s = _FIRST_PAUSE_S
        while not self._leaving:
            self.unknown = False
            code = await self._session()
            if self._became_ready.is_set():
                self._became_ready.clear()
                pause_s = _FIRST_PAUSE_S
                self._broken()
            if code is grpc.StatusCode.UNIMPLEMENTED:
                self.unknown = True
                await asyncio.sleep(_UNKNOWN_PAUSE_S)
                continue
            await asyncio.sleep(pause_s * (1 - random.random() / 2))  # noqa: S311 - no secret
            pause_s = min(pause_s * 2, _LONGEST_PAUSE_S)

    async def _session(self) -> grpc.StatusCode:
        """Opens the connection and reads from it until it ends; returns how it did."""
        connection = self._connect(wait_for_ready=True)
        self._last, self._greeted, self._going_away = 0, False, False
        try:
            await self._read(connection)
        except grpc.aio.AioRpcError as error:
            return error.code()
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if task is None or task.cancelling():
                raise
            return grpc.StatusCode.UNAVAILABLE  # the write failed first
        except Exception:
            # Whatever this was, it is no reason never to connect again.
            log.exception("unforeseen_error", **{"server.address": self.address})
            return grpc.StatusCode.UNKNOWN
        else:
            return grpc.StatusCode.OK
        finally:
            self.ready = False
            connection.cancel()
            for exchange in list(self._exchanges.values()):
                exchange.fail(grpc.StatusCode.UNAVAILABLE, "The connection was lost.")

    async def _read(self, connection: Any) -> None:
        writing: asyncio.Task[None] | None = None
        direct: pipe.Pipe | None = None
        try:
            while (batch := await connection.read()) is not EOF:
                self._take_all(batch)
                if writing is None:
                    direct, write = await self._open_outbox(batch, connection)
                    writing = asyncio.create_task(_write(connection, write))
            if direct is not None:
                # What was said last on it may arrive after the end of the stream beside it.
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(_LAST_FRAMES_S):
                        await direct.closed.wait()
        finally:
            if writing is not None:
                writing.cancel()
            if direct is not None:
                direct.close()

    async def _open_outbox(
        self, batch: pb.ConnectResponse, connection: Any
    ) -> tuple[pipe.Pipe | None, Callable[[], Awaitable[Any]]]:
        """Finds out which way the frames go, and lets calls begin; returns a direct connection, and what lasts for as long as frames can go out."""
        hello = batch.frames[0].hello if batch.frames else pb.Hello()
        self.max_request_bytes = min(hello.max_request_bytes, MAX_REQUEST_BYTES)
        self._max_calls = hello.max_calls
        host = _host(self.address)
        direct = None
        if hello.direct_port and host:
            direct = await pipe.connect(
                host,
                hello.direct_port,
                hello.direct_key,
                read=pb.ConnectResponse.FromString,
                take=self._take_all,
                timeout_s=_DIRECT_TIMEOUT_S,
            )
        writer = Writer(connection.write)
        self._outbox = direct.outbox if direct is not None else writer.outbox
        self._greeted = True
        if self._going_away:
            self._say_go_away()
        elif not self._leaving:
            self.ready = True
            self._became_ready.set()
        return direct, direct.closed.wait if direct is not None else writer.run

    def _take_all(self, batch: pb.ConnectResponse) -> None:
        exchanges = self._exchanges
        for frame in batch.frames:
            if frame.WhichOneof("kind") != "message":
                self._take(frame)
            elif (exchange := exchanges.get(frame.call)) is not None:  # else it was cancelled meanwhile
                exchange.message(frame.message)

    def _take(self, frame: pb.ServiceFrame) -> None:
        kind = frame.WhichOneof("kind")
        if kind == "go_away":
            self.ready = False
            self._going_away = True
            if self._greeted:
                self._say_go_away()
        elif (exchange := self._exchanges.get(frame.call)) is None:
            return  # it was cancelled meanwhile
        elif kind == "answer":
            exchange.answer(frame.answer)
        elif kind == "end":
            exchange.end(frame.end)

    def _say_go_away(self) -> None:
        """Tells the instance that no call comes after those it has been sent."""
        batch = pb.ConnectRequest()
        batch.frames.add().go_away.SetInParent()
        self._outbox.send(batch.SerializeToString())

    def _forget(self, number: int) -> None:
        self._exchanges.pop(number, None)
        if not self._exchanges:
            self._idle.set()


async def _write(connection: Any, write: Callable[[], Awaitable[Any]]) -> None:
    """Writes what there is; a write that fails, or a direct connection that closes, ends the connection."""
    try:
        with contextlib.suppress(Exception):  # what failed is told by the reader, which knows the status
            await write()
    finally:
        connection.cancel()


def _host(address: str) -> str:
    """Returns the host of an instance's address; empty: it is no host's."""
    scheme, _, where = address.partition(":")
    return where.rpartition(":")[0].strip("[]") if scheme in {"ipv4", "ipv6"} else ""
