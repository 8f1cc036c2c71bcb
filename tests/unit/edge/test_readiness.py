"""This instance is ready when the services behind it are, and not when it drains."""

import contextlib

import grpc
import pytest

from runtime.testing import Clock, loopback
from services.edge.operation.readiness import Readiness
from services.edge.problems import NotReady


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
