"""A call that is merely dropped ends, on both sides."""

from __future__ import annotations

import asyncio
import gc
from typing import Any

import pytest

from parley.chat.v1 import chat_pb2 as pb
from tests.unit.runtime.callee import ISSUER, Callee, connected, serving, stub, until, without_direct_connections


@pytest.fixture(autouse=True, params=["stream", "direct"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whether the frames travel on gRPC's stream or on a connection of their own."""
    if request.param == "stream":
        without_direct_connections(monkeypatch)


def watch(opened: Any) -> Any:
    """Makes a call that lasts."""
    metadata = [("authorization", f"Bearer {ISSUER.token('u-1')}")]
    return stub(opened).WatchRun(pb.WatchRunRequest(run_id="wait"), metadata=metadata)


async def test_a_call_that_is_dropped_unread_is_cancelled() -> None:
    callee = Callee()
    async with serving(callee) as served, connected(served) as opened:
        call = watch(opened)
        await callee.begun.wait()
        del call
        await asyncio.wait_for(callee.cancelled.wait(), 10)
        assert opened.mux_calls == 0
        await until(lambda: served.mux_calls == 0)


async def test_a_call_that_is_collected_by_another_thread_is_cancelled(monkeypatch: pytest.MonkeyPatch) -> None:
    """The garbage collector runs in whichever thread allocates, and a loop is spoken to from its own alone."""
    monkeypatch.setattr("runtime.mux.outbox._QUIET_S", 60.0)  # the connection is busy
    callee = Callee()
    async with serving(callee) as served, connected(served) as opened:
        call = watch(opened)
        await callee.begun.wait()
        call.itself = call
        del call
        await asyncio.to_thread(gc.collect)
        await asyncio.wait_for(callee.cancelled.wait(), 10)
        assert opened.mux_calls == 0
        await until(lambda: served.mux_calls == 0)
