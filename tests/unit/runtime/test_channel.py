"""A channel outlives idle times: the pings that keep it are welcome on the server."""

import asyncio

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from parley.chat.v1 import chat_pb2
from runtime import channel, server
from runtime.testing import loopback
from tests.channels import connected
from tests.chaos.proxy import Link


async def test_pings_of_an_idle_channel_do_not_end_it(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """gRPC hangs up on the third ping it finds too many, and says so on the client's standard error."""
    monkeypatch.setattr(channel, "KEEPALIVE_MS", 1000)
    monkeypatch.setattr(server, "MIN_PING_INTERVAL_MS", 500)
    async with loopback("chat") as address, connected(channel.open_channel(address, chat_pb2.DESCRIPTOR)) as opened:
        stub = health_pb2_grpc.HealthStub(opened)
        await stub.Check(health_pb2.HealthCheckRequest())
        await asyncio.sleep(8)  # idleness itself is what is tested
        await stub.Check(health_pb2.HealthCheckRequest())
    assert "too_many_pings" not in capfd.readouterr().err


@pytest.mark.parametrize("shared", [True, False])
async def test_a_peer_that_has_gone_silent_ends_the_calls_that_wait_for_it(
    monkeypatch: pytest.MonkeyPatch, *, shared: bool
) -> None:
    """Its kernel still takes what is sent, and nothing ever comes back: only an unanswered ping tells."""
    for name in ("KEEPALIVE_MS", "SHARED_KEEPALIVE_MS"):
        monkeypatch.setattr(channel, name, 200)
    for name in ("PATIENCE_MS", "SHARED_PATIENCE_MS"):
        monkeypatch.setattr(channel, name, 1000)
    async with loopback("chat") as address, Link(lambda: address) as link:
        opened = (
            channel.open_shared(link.address) if shared else channel.open_channel(link.address, chat_pb2.DESCRIPTOR)
        )
        async with opened:
            call = health_pb2_grpc.HealthStub(opened).Watch(health_pb2.HealthCheckRequest())
            await call.read()
            link.part()
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await call.read()
            assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
