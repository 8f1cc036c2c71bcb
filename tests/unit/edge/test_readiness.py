"""This instance is ready when the services behind it are, and not when it drains."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from parley.chat.v1 import chat_pb2
from runtime.channel import open_channel
from runtime.testing import Clock, loopback
from services.edge.operation.readiness import Readiness
from services.edge.problems import NotReady


@contextlib.asynccontextmanager
async def serving(status: health_pb2.HealthCheckResponse.ServingStatus.ValueType | None) -> AsyncIterator[str]:
    """An instance that says how it is, or nothing; yields its address."""

    class Health(health_pb2_grpc.HealthServicer):  # type: ignore[misc] # the stubs lack it
        async def Check(self, request: Any, context: Any) -> health_pb2.HealthCheckResponse:
            if status is None:
                await asyncio.Event().wait()
            return health_pb2.HealthCheckResponse(status=status)

    server = grpc.aio.server()
    health_pb2_grpc.add_HealthServicer_to_server(Health(), server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    yield f"127.0.0.1:{port}"
    await server.stop(0)


async def _heard(channel: grpc.aio.Channel) -> None:
    """Asks once, so that every instance is connected."""
    with contextlib.suppress(grpc.aio.AioRpcError):
        await health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(), timeout=0.5)


async def test_it_is_ready_when_all_are() -> None:
    async with loopback("auth") as address, grpc.aio.insecure_channel(address) as channel:
        await Readiness({"auth": channel}).check()


async def test_it_names_those_that_are_not() -> None:
    async with (
        loopback("auth") as address,
        grpc.aio.insecure_channel(address) as auth,
        grpc.aio.insecure_channel("127.0.0.1:1") as chat,
    ):
        with pytest.raises(NotReady) as refused:
            await Readiness({"auth": auth, "chat": chat}).check()
        assert refused.value.metadata["not_ready"] == "chat"


@pytest.mark.parametrize("unwell", ["starts", "is frozen"])
async def test_one_instance_that_is_not_well_does_not_speak_for_the_others(unwell: str) -> None:
    """Else every edge would turn requests away while one of many instances starts, drains or is frozen."""
    async with contextlib.AsyncExitStack() as stack:
        well = await stack.enter_async_context(serving(health_pb2.HealthCheckResponse.SERVING))
        other = await stack.enter_async_context(
            serving(health_pb2.HealthCheckResponse.NOT_SERVING if unwell == "starts" else None)
        )
        channel = await stack.enter_async_context(open_channel(f"ipv4:{well},{other}", chat_pb2.DESCRIPTOR))
        await asyncio.gather(*(_heard(channel) for _ in range(8)))
        for _ in range(8):
            await Readiness({"chat": channel}).check()


async def test_what_was_heard_is_believed_for_a_second() -> None:
    clock = Clock(0)
    async with contextlib.AsyncExitStack() as server:
        address = await server.enter_async_context(loopback("auth"))
        async with grpc.aio.insecure_channel(address) as channel:
            readiness = Readiness({"auth": channel}, clock)
            await readiness.check()
            await server.aclose()
            await readiness.check()
            clock.advance(1.1)
            with pytest.raises(NotReady):
                await readiness.check()


async def test_it_is_not_ready_once_it_drains() -> None:
    readiness = Readiness({})
    await readiness.check()
    readiness.draining = True
    with pytest.raises(NotReady):
        await readiness.check()
