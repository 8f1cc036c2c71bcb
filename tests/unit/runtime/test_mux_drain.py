"""A service that stops keeps nobody waiting who has nothing under way there."""

import asyncio

import pytest

from parley.chat.v1 import chat_pb2 as pb
from runtime import channel
from runtime.mux import dispatcher
from tests.unit.runtime.callee import Callee, connected, server, serving, without_direct_connections


@pytest.fixture(autouse=True, params=["stream", "direct"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each rule holds whether the frames travel on gRPC's stream or on a connection of their own."""
    if request.param == "stream":
        without_direct_connections(monkeypatch)


async def test_a_drain_waits_for_its_callers_to_know_and_no_longer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dispatcher, "_LAST_CALLS_S", 60)
    async with serving(Callee()) as served, connected(served):
        async with asyncio.timeout(10):
            await served.stop(30)


async def test_a_service_that_is_stopped_while_it_starts_sends_its_callers_away(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    waiting = asyncio.Event()
    connect = dispatcher.Dispatcher._connect

    async def noticed(self: dispatcher.Dispatcher, requests: object, context: object) -> None:
        waiting.set()
        await connect(self, requests, context)

    monkeypatch.setattr(dispatcher.Dispatcher, "_connect", noticed)
    made = server(Callee())
    await made.start()
    async with channel.open_channel(f"127.0.0.1:{made.port}", pb.DESCRIPTOR, mux=True):
        async with asyncio.timeout(10):
            await waiting.wait()
            await made.stop(30)
