"""Waits until a process says that it is ready; callers set the time limit."""

from __future__ import annotations

import asyncio

_POLL_S = 0.05
_ANSWER_S = 2.0


async def grpc_serving(address: str) -> None:
    """Returns when the server at `host:port` reports SERVING by the standard health protocol."""
    # Imported late: Postgres can start meanwhile.
    import grpc
    from grpc_health.v1 import health_pb2, health_pb2_grpc

    await _accepting(address)
    options = [
        ("grpc.initial_reconnect_backoff_ms", 50),
        ("grpc.min_reconnect_backoff_ms", 50),
        ("grpc.max_reconnect_backoff_ms", 200),
        ("grpc.use_local_subchannel_pool", 1),
        ("grpc.enable_http_proxy", 0),
    ]
    async with grpc.aio.insecure_channel(address, options=options) as channel:
        stub = health_pb2_grpc.HealthStub(channel)
        while True:
            try:
                answer = await stub.Check(health_pb2.HealthCheckRequest(), timeout=_ANSWER_S)
                if answer.status == health_pb2.HealthCheckResponse.SERVING:
                    return
            except grpc.aio.AioRpcError:
                pass  # not yet
            await asyncio.sleep(_POLL_S)


async def edge_ready(address: str) -> None:
    """Returns when `GET /readyz` answers 200."""
    while await http_status(address, "/readyz") != 200:  # noqa: ASYNC110, PLR2004 - another process: nothing to await
        await asyncio.sleep(_POLL_S)


async def http_ok(address: str) -> None:
    """Returns when `GET /healthz` answers 200."""
    while await http_status(address, "/healthz") != 200:  # noqa: ASYNC110, PLR2004 - another process: nothing to await
        await asyncio.sleep(_POLL_S)


async def http_status(address: str, path: str) -> int | None:
    """Returns the status of one GET, or None where nobody answers in time."""
    host, _, port = address.rpartition(":")
    try:
        async with asyncio.timeout(_ANSWER_S):
            reader, writer = await asyncio.open_connection(host, int(port))
            try:
                writer.write(f"GET {path} HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\n\r\n".encode())
                line = await reader.readline()
            finally:
                writer.close()
        return int(line.split()[1])
    except (OSError, TimeoutError, IndexError, ValueError):
        return None


async def _accepting(address: str) -> None:
    host, _, port = address.rpartition(":")
    while True:
        try:
            _, writer = await asyncio.open_connection(host, int(port))
        except OSError:
            await asyncio.sleep(_POLL_S)
        else:
            writer.close()
            return
