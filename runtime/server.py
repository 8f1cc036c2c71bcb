"""Builds a gRPC server, serves until a signal, and drains."""

from __future__ import annotations

import asyncio
import gc
import signal
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import grpc
import structlog
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from runtime import interceptors, telemetry
from runtime.config import at_least, one_of
from runtime.mux.dispatcher import Dispatcher, Recorder

if TYPE_CHECKING:
    from collections.abc import Awaitable, Sequence

    from runtime.identity import Verifier

log = structlog.stdlib.get_logger()

MIN_PING_INTERVAL_MS = 2_000
"""Clients may ping an idle connection this often; less than half of what `runtime.channel` does."""


@dataclass(frozen=True, kw_only=True)
class ServerConfig:
    """What every service is told; a service's own config extends it."""

    listen: str
    """`host:port` of the service; port 0 takes a free one."""
    metrics_listen: str = ""
    """`host:port` of the Prometheus endpoint; empty: none."""
    drain_grace_s: float = at_least(0, default=30.0)
    """Seconds that calls under way get to finish after SIGTERM."""
    log_level: str = one_of("debug", "info", "warning", "error", default="info")
    """Least level that is logged."""
    log_format: str = one_of("auto", "json", "pretty", default="auto")
    """`auto` is pretty on a terminal and JSON lines elsewhere."""


@dataclass(frozen=True)
class Servicer:
    """A servicer and how it joins a server.

    Attributes:
        add: The generated `add_…Servicer_to_server`.
        servicer: The implementation.
        name: Full service name, such as `parley.data.v1.RunService`.
        open_methods: Bare names of the methods that need no access token.
        at_once: Most calls of a method that are worked on at the same time, by bare name; further ones on shared connections wait as they
            came, before anything is made of them. For what comes in crowds and waits for the same few things.
    """

    add: Callable[[Any, Any], None]
    servicer: Any
    name: str
    open_methods: tuple[str, ...] = ()
    at_once: Mapping[str, int] = field(default_factory=dict)


class Server:
    """A gRPC server with the chain, health and reflection.

    Args:
        service: Short name, such as `data`; errors carry the domain `<service>.parley`.
        listen: `host:port`.
        servicers: What it serves.
        verifier: Proves callers; None refuses every method that is not open.
        direct_port: Where shared connections come to, on the interface of `listen`; 0: a free port.
    """

    def __init__(
        self,
        service: str,
        listen: str,
        servicers: Sequence[Servicer],
        *,
        verifier: Verifier | None,
        direct_port: int = 0,
    ) -> None:
        open_methods = frozenset(f"/{item.name}/{method}" for item in servicers for method in item.open_methods)
        chain = interceptors.Chain(
            [
                interceptors.Trace(),
                interceptors.RequestContext(),
                interceptors.AccessLog(),
                interceptors.Errors(f"{service}.parley"),
                interceptors.Deadline(),
                interceptors.Authentication(verifier, open_methods),
            ]
        )
        self._server = grpc.aio.server(
            interceptors=[chain],
            options=[
                # Clients ping idle channels every few seconds; the default tolerates one ping in five minutes and hangs up.
                ("grpc.http2.min_ping_interval_without_data_ms", MIN_PING_INTERVAL_MS),
                ("grpc.keepalive_permit_without_calls", 1),
                ("grpc.max_receive_message_length", 16 * 1024 * 1024),  # prompts with pictures
                ("grpc.so_reuseport", 0),
            ],
        )
        recorder = Recorder()
        for item in servicers:
            item.add(item.servicer, self._server)
            item.add(item.servicer, recorder)
        at_once = {f"/{item.name}/{method}": most for item in servicers for method, most in item.at_once.items()}
        self._mux = Dispatcher(service, recorder.handlers, chain, at_once=at_once)
        self._mux.add_to(self._server)
        self._names = [item.name for item in servicers]
        self._health = health.aio.HealthServicer()  # type: ignore[attr-defined]
        health_pb2_grpc.add_HealthServicer_to_server(self._health, self._server)
        reflection.enable_server_reflection(
            [*self._names, "grpc.health.v1.Health", reflection.SERVICE_NAME], self._server
        )
        self.port = self._server.add_insecure_port(listen)
        self._host = listen.rpartition(":")[0]
        self._direct_port = direct_port

    async def start(self) -> None:
        """Listens; health says NOT_SERVING until `set_ready`."""
        await self.set_ready(ready=False)
        await self._mux.listen(self._host, self._direct_port)
        await self._server.start()

    async def set_ready(self, *, ready: bool) -> None:
        """Tells callers whether this instance wants calls."""
        states = health_pb2.HealthCheckResponse
        for name in ("", *self._names):
            await self._health.set(name, states.SERVING if ready else states.NOT_SERVING)
        if ready:
            self._mux.open()

    @property
    def mux_calls(self) -> int:
        """How many calls are under way on shared connections."""
        return self._mux.calls

    async def stop(self, grace_s: float) -> None:
        """Refuses new calls, lets those under way finish for `grace_s` seconds, then cuts them."""
        await self._health.enter_graceful_shutdown()
        self._mux.drain()
        await self._server.stop(grace_s)
        self._mux.close()


async def serve(
    server: Server,
    config: ServerConfig,
    *,
    prepare: Callable[[], Awaitable[None]] | None = None,
    drain: Callable[[], Awaitable[None]] | None = None,
) -> None:
    """Serves until SIGTERM or SIGINT, then drains; returns when nothing runs any more.

    Args:
        server: What to serve.
        config: Where the grace period stands.
        prepare: Awaited after listening and before health says SERVING: loading, warming up, waiting for a store.
        drain: Awaited after new calls are refused and within the grace period, for work that outlives calls.
    """
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    await server.start()
    stopping = asyncio.create_task(stop.wait())
    preparing = asyncio.ensure_future(prepare() if prepare is not None else asyncio.sleep(0))
    await asyncio.wait({stopping, preparing}, return_when=asyncio.FIRST_COMPLETED)
    if preparing.done():
        preparing.result()
        # What is loaded by now stays: the collector need not walk over it again, which takes a tenth of a second where litellm is loaded.
        gc.collect()
        gc.freeze()
        await server.set_ready(ready=True)
        log.info("serving", port=server.port)
        await stopping
    preparing.cancel()
    log.info("draining", grace_s=config.drain_grace_s)
    stopped = asyncio.create_task(server.stop(config.drain_grace_s))
    if drain is not None:
        try:
            async with asyncio.timeout(config.drain_grace_s):
                await drain()
        except TimeoutError:
            log.warning("drain_incomplete")
    await stopped
    log.info("stopped")
    telemetry.shutdown()
