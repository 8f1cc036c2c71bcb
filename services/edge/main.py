"""The composition root of the edge."""

from __future__ import annotations

from runtime import telemetry
from runtime.config import load
from runtime.identity import Verifier
from services.edge.app import build
from services.edge.clients import connect
from services.edge.config import EdgeConfig
from services.edge.operation.readiness import Readiness
from services.edge.server import HttpServer, serve
from services.edge.streams import Streams


async def main() -> None:
    """Serves until SIGTERM."""
    config = load(EdgeConfig, "PARLEY_EDGE_")
    telemetry.configure(
        "edge", log_level=config.log_level, log_format=config.log_format, metrics_listen=config.metrics_listen
    )
    async with connect(config) as services:
        verifier = Verifier(services.jwks, audience="edge")
        streams = Streams(
            limit=config.max_streams, heartbeat_s=config.heartbeat_s, stalled_reader_s=config.stalled_reader_s
        )
        readiness = Readiness(services.channels)
        app = build(config, services, verifier, streams, readiness)
        server = HttpServer(
            app,
            config.listen,
            max_connections=config.max_connections,
            head_timeout_s=config.head_timeout_s,
            stalled_reader_s=config.stalled_reader_s,
        )
        await serve(server, config, streams=streams, readiness=readiness)
