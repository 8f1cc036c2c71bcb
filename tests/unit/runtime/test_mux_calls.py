"""A call is the same whether it comes by itself or shares a connection, of its own kind or of gRPC's: one suite, every way."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import grpc
import pytest
import structlog
from opentelemetry import trace

from parley.chat.v1 import chat_pb2 as pb
from runtime import channel, context, errors
from runtime.mux.channel import MuxChannel
from runtime.status import from_rpc_error
from tests.unit.runtime.callee import (
    ISSUER,
    Callee,
    collect,
    connected,
    serving,
    stub,
    until,
    without_direct_connections,
)


@dataclass
class World:
    """A service and a channel to it."""

    callee: Callee
    channel: grpc.aio.Channel
    stub: Any
    token: str

    async def get(self, run_id: str = "", *, timeout_s: float = 10) -> pb.Run:
        request = pb.GetRunRequest(run_id=run_id)
        run: pb.Run = (await channel.unary(self.stub.GetRun, request, timeout_s=timeout_s, token=self.token)).run
        return run

    def watch(self, run_id: str = "", count: int = 0, *, timeout_s: float = 10) -> AsyncIterator[pb.WatchRunResponse]:
        request = pb.WatchRunRequest(run_id=run_id, after_seq=count)
        return channel.stream(self.stub.WatchRun, request, timeout_s=timeout_s, token=self.token)


@pytest.fixture(params=["plain", "stream", "direct"])
async def world(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[World]:
    callee = Callee()
    if request.param == "stream":
        without_direct_connections(monkeypatch)
    async with serving(callee) as server, contextlib.AsyncExitStack() as stack:
        if request.param != "plain":
            opened: grpc.aio.Channel = await stack.enter_async_context(connected(server))
        else:
            opened = await stack.enter_async_context(channel.open_channel(f"127.0.0.1:{server.port}", pb.DESCRIPTOR))
        yield World(callee, opened, stub(opened), ISSUER.token("u-1"))
        if isinstance(opened, MuxChannel):
            await until(lambda: not opened.mux_calls and not server.mux_calls)


async def seen(event: asyncio.Event) -> None:
    async with asyncio.timeout(10):
        await event.wait()


async def test_a_unary_call_is_answered(world: World) -> None:
    assert (await world.get("hello")).id == "hello"


async def test_a_stream_arrives_whole_and_in_order(world: World) -> None:
    got = [response.run_id async for response in world.watch(count=500)]
    assert got == [str(number) for number in range(500)]


async def test_many_calls_at_once_keep_apart(world: World) -> None:
    async def one(number: int) -> list[str]:
        return [response.run_id async for response in world.watch(f"x:{number}", 20)]

    got = await asyncio.gather(*(one(number) for number in range(50)))
    assert got == [[f"{n}{'x' * number}" for n in range(20)] for number in range(50)]


async def test_an_error_keeps_class_reason_text_and_metadata(world: World) -> None:
    with pytest.raises(errors.NotFound) as caught:
        await world.get("fail")
    error = caught.value
    assert (error.code, error.message, error.metadata) == ("GONE", "It is gone: Zürich.", {"thing": "x"})
    assert error.domain == "chat.parley"


async def test_an_error_after_some_messages_comes_after_them(world: World) -> None:
    got: list[str] = []
    with pytest.raises(errors.NotFound) as caught:
        await collect(world.watch("fail", 3), got)
    assert (got, caught.value.code) == (["0", "1", "2"], "GONE")


async def test_an_unforeseen_exception_tells_nothing(world: World) -> None:
    with pytest.raises(errors.Internal) as caught:
        await world.get("crash")
    assert caught.value.message == "internal error"


async def test_a_bad_token_is_refused_and_logged_as_a_call(world: World) -> None:
    world.token = "a.b.c"
    with structlog.testing.capture_logs() as lines, pytest.raises(errors.Unauthenticated):
        await world.get()
    assert world.callee.calls == 0
    assert [(line["rpc.method"], line["rpc.code"]) for line in lines if line["event"] == "rpc"] == [
        ("parley.chat.v1.ChatService/GetRun", "UNAUTHENTICATED")
    ]


async def test_each_call_has_its_own_caller(world: World) -> None:
    users = [f"u-{number}" for number in range(20)]

    async def one(user: str) -> str:
        answer = await channel.unary(world.stub.GetRun, pb.GetRunRequest(), timeout_s=10, token=ISSUER.token(user))
        return str(answer.run.id)

    assert await asyncio.gather(*map(one, users)) == users


async def test_a_deadline_ends_the_call_on_both_sides(world: World) -> None:
    with pytest.raises(errors.DeadlineExceeded):
        await world.get("wait", timeout_s=0.5)
    await seen(world.callee.cancelled)
    assert world.callee.remaining_s is not None
    assert 0 < world.callee.remaining_s < 1


async def test_a_deadline_ends_a_stream_after_what_has_come(world: World) -> None:
    got: list[str] = []
    with pytest.raises(errors.DeadlineExceeded):
        await collect(world.watch("wait", 2, timeout_s=0.5), got)
    assert got == ["0", "1"]
    await seen(world.callee.cancelled)


async def test_a_caller_that_is_cancelled_cancels_the_handler(world: World) -> None:
    task = asyncio.create_task(world.get("wait"))
    await seen(world.callee.begun)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await seen(world.callee.cancelled)


async def test_leaving_a_stream_cancels_the_handler(world: World) -> None:
    responses: Any = world.watch("wait", 1)
    assert (await anext(responses)).run_id == "0"
    await seen(world.callee.begun)
    await responses.aclose()
    await seen(world.callee.cancelled)


async def test_a_cancelled_call_ends_as_cancelled(world: World) -> None:
    call = world.stub.WatchRun(
        pb.WatchRunRequest(run_id="wait"), metadata=[("authorization", f"Bearer {world.token}")], timeout=10
    )
    await seen(world.callee.begun)
    assert call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await anext(aiter(call))
    await seen(world.callee.cancelled)


async def test_a_request_may_be_as_large_as_gRPC_takes(world: World) -> None:
    large = "g" * (3 * 1024 * 1024)
    assert (await world.get(large)).id == large


async def test_a_larger_request_is_refused(world: World) -> None:
    with pytest.raises(errors.ResourceExhausted):
        await world.get("g" * (17 * 1024 * 1024))


async def test_a_large_answer_arrives(world: World) -> None:
    assert len((await world.get("big:9000000")).id) == 9_000_000


async def test_too_large_an_answer_is_refused(world: World) -> None:
    with pytest.raises(errors.ResourceExhausted):
        await world.get(f"big:{17 * 1024 * 1024}")


async def test_messages_larger_than_the_window_arrive(world: World) -> None:
    got = [len(response.run_id) async for response in world.watch(f"x:{600 * 1024}", 5)]
    assert got == [600 * 1024 + 1] * 5


async def test_metadata_goes_both_ways_text_and_bytes(world: World) -> None:
    metadata = [("authorization", f"Bearer {world.token}"), ("x-mine", "a"), ("x-mine-bin", b"\x00\xfe")]
    call = world.stub.GetRun(pb.GetRunRequest(run_id="x"), metadata=metadata, timeout=10)
    await call
    assert {name: world.callee.metadata[name] for name in ("x-mine", "x-mine-bin")} == {
        "x-mine": "a",
        "x-mine-bin": b"\x00\xfe",
    }
    request = pb.WatchRunRequest(run_id="fail")
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await anext(aiter(world.stub.WatchRun(request, metadata=metadata, timeout=10)))
    trailing: Any = caught.value.trailing_metadata()
    assert "grpc-status-details-bin" in dict(trailing)
    assert from_rpc_error(caught.value).code == "GONE"


async def test_an_answer_with_trailing_metadata_arrives(world: World) -> None:
    assert (await world.get("trailing")).id == "trailing"


async def test_the_trace_and_the_request_id_go_on(world: World) -> None:
    context.request_id.set("req-7")
    parent = trace.SpanContext(0xABCDEF, 0x123, is_remote=False, trace_flags=trace.TraceFlags(1))
    with trace.use_span(trace.NonRecordingSpan(parent)):
        await world.get("x")
    context.request_id.set("")
    assert (world.callee.trace_id, world.callee.request_id) == (0xABCDEF, "req-7")


async def test_reads_are_tried_again_while_the_service_is_not_available(world: World) -> None:
    assert (await world.get("away")).id == "away"
    assert world.callee.calls == 3


async def test_what_is_no_read_is_tried_once(world: World) -> None:
    with pytest.raises(errors.Unavailable):
        await channel.unary(world.stub.CancelRun, pb.CancelRunRequest(), timeout_s=10, token=world.token)
    assert world.callee.calls == 1


async def test_a_method_nobody_serves_is_unimplemented(world: World) -> None:
    method: Any = world.channel.unary_unary("/parley.chat.v1.ChatService/Nothing", None, None)
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await method(b"", timeout=10)
    assert caught.value.code() is grpc.StatusCode.UNIMPLEMENTED
