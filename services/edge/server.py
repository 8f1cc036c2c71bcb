"""Serves HTTP until a signal, then drains: readiness first, then the streams, then the connections."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import gc
import signal
from typing import TYPE_CHECKING

import structlog
import uvicorn

from runtime import telemetry
from services.edge.connection import HttpConnection

if TYPE_CHECKING:
    import socket
    from collections.abc import Iterator
    from typing import Any

    from starlette.types import ASGIApp

    from services.edge.config import EdgeConfig
    from services.edge.operation.readiness import Readiness
    from services.edge.streams import Streams

log = structlog.stdlib.get_logger()

_LAST_REQUESTS_S = 3
_KEEP_ALIVE_S = 75
_LOOKS = 4  # in the time after which a client that reads nothing is cut
_AT_ONCE = 256


class HttpServer:
    """An HTTP/1.1 server on one address.

    Args:
        app: What answers.
        listen: `host:port`; port 0 takes a free one.
        max_connections: Connections that may be open at once.
        head_timeout_s: Longest wait for a request's head.
        stalled_reader_s: Time after which a connection is cut whose client reads nothing of its answer.
    """

    def __init__(
        self, app: ASGIApp, listen: str, *, max_connections: int, head_timeout_s: float, stalled_reader_s: float
    ) -> None:
        host, _, port = listen.rpartition(":")
        connection = functools.partial(HttpConnection, max_connections=max_connections, head_timeout_s=head_timeout_s)
        config = uvicorn.Config(
            app,
            host=host.strip("[]") or "0.0.0.0",
            port=int(port),
            http=connection,  # type: ignore[arg-type] # called, never taken for a class
            interface="asgi3",
            ws="none",
            loop="none",
            lifespan="off",
            log_config=None,
            access_log=False,
            server_header=False,
            proxy_headers=False,
            timeout_keep_alive=_KEEP_ALIVE_S,
            timeout_graceful_shutdown=_LAST_REQUESTS_S,
            # Context variables of one request must not be seen by the next one on the same connection.
            reset_contextvars=True,
            backlog=2048,
        )
        self._server = _Uvicorn(config)
        self._serving: asyncio.Task[None] | None = None
        self._stalled_reader_s = stalled_reader_s
        self._looking: asyncio.Task[None] | None = None

    @property
    def port(self) -> int:
        """The port it listens on."""
        sockets: list[socket.socket] = list(self._server.servers[0].sockets)
        port: int = sockets[0].getsockname()[1]
        return port

    async def start(self) -> None:
        """Listens.

        Raises: SystemExit: the address cannot be had.
        """
        self._serving = asyncio.create_task(self._server.serve())
        listening = asyncio.create_task(self._server.listening.wait())
        await asyncio.wait({self._serving, listening}, return_when=asyncio.FIRST_COMPLETED)
        listening.cancel()
        if self._serving.done():
            self._serving.result()
        self._looking = asyncio.create_task(self._look())

    async def stop(self) -> None:
        """Stops listening and gives requests under way three seconds."""
        self._server.should_exit = True
        if self._serving is not None:
            await self._serving
        if self._looking is not None:
            self._looking.cancel()

    async def _look(self) -> None:
        # For all of them: most answers are taken at once, and none has to pay for those that are not.
        loop = asyncio.get_running_loop()
        while True:
            await asyncio.sleep(self._stalled_reader_s / _LOOKS)
            connections: list[Any] = list(self._server.server_state.connections)  # ours, every one
            for at, connection in enumerate(connections):
                if at % _AT_ONCE == 0:
                    await asyncio.sleep(0)  # as many as there may be would hold up every stream for 20 ms
                connection.look(loop.time(), self._stalled_reader_s)


async def serve(server: HttpServer, config: EdgeConfig, *, streams: Streams, readiness: Readiness) -> None:
    """Serves until SIGTERM or SIGINT.

    From then on `/readyz` says 503 while everything else is still answered, since callers learn of it late. Streams get the drain's
    grace to end by themselves; those still open then are told to come back elsewhere.
    """
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    await server.start()
    # What is loaded by now stays: to walk over all of it holds up every stream for some 50 ms.
    gc.collect()
    gc.freeze()
    log.info("serving", port=server.port)
    await stop.wait()
    log.info("draining", grace_s=config.drain_grace_s)
    readiness.draining = True
    await streams.drain(config.drain_grace_s)
    await server.stop()
    log.info("stopped")
    telemetry.shutdown()


class _Uvicorn(uvicorn.Server):
    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.listening = asyncio.Event()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self.listening.set()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        # Signals are the process's own affair: uvicorn's handlers would stop listening before the drain.
        yield
