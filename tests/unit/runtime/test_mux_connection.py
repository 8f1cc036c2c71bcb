"""A shared connection: what one call does to the others, how it breaks, drains and comes back, and when there is none."""

import asyncio
import contextlib
import socket
from typing import Any, Self

import grpc
import pytest

from parley.chat.v1 import chat_pb2 as pb
from parley.chat.v1 import chat_pb2_grpc
from parley.mux.v1 import mux_pb2
from runtime import channel, errors
from runtime.mux import wire
from runtime.mux.channel import MuxChannel
from runtime.server import Server
from tests.unit.runtime.callee import (
    ISSUER,
    Callee,
    connected,
    server,
    serving,
    stub,
    until,
    without_direct_connections,
)

CONNECT = "/parley.mux.v1.MuxService/Connect"
_BIG = 64 * 1024


@pytest.fixture(autouse=True, params=["stream", "direct"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Each rule holds whether the frames travel on gRPC's stream or on a connection of their own."""
    if request.param == "stream":
        without_direct_connections(monkeypatch)
    return str(request.param)


def token() -> str:
    return ISSUER.token("u-1")


async def get(caller: Any, run_id: str = "x", *, timeout_s: float = 10) -> pb.Run:
    request = pb.GetRunRequest(run_id=run_id)
    run: pb.Run = (await channel.unary(caller.GetRun, request, timeout_s=timeout_s, token=token())).run
    return run


def watch(caller: Any, run_id: str = "", count: int = 0) -> Any:
    request = pb.WatchRunRequest(run_id=run_id, after_seq=count)
    return channel.stream(caller.WatchRun, request, timeout_s=30, token=token())


async def test_calls_share_one_connection_and_leave_nothing() -> None:
    callee = Callee()
    async with serving(callee) as served, connected(served) as opened:
        streams = [watch(stub(opened), "wait", 1) for _ in range(20)]
        for responses in streams:
            await anext(responses)
        assert (opened.mux_calls, served.mux_calls) == (20, 20)
        callee.go_on.set()
        for responses in streams:
            assert [response.run_id async for response in responses] == ["last"]
        assert opened.mux_calls == 0
        await until(lambda: served.mux_calls == 0)


async def test_a_reader_that_stalls_holds_back_its_own_call_alone() -> None:
    stalled = Callee()
    async with serving(stalled) as served, connected(served) as opened:
        responses = watch(stub(opened), f"x:{_BIG}", 100)
        await anext(responses)
        held = wire.WINDOW_BYTES // _BIG + 1
        await until(lambda: stalled.written >= held - 1)
        for _ in range(20):
            assert (await get(stub(opened), "other")).id == "other"
        assert stalled.written <= held + 1, "the handler waits for its reader, so that nothing piles up"
        rest = [response async for response in responses]
        assert (len(rest), stalled.written) == (99, 100)


async def test_a_break_ends_calls_as_unavailable_and_the_next_ones_go_on() -> None:
    callee = Callee()
    async with contextlib.AsyncExitStack() as stack:
        first = await stack.enter_async_context(serving(callee))
        opened = await stack.enter_async_context(connected(first))
        responses = watch(stub(opened), "wait", 1)
        await anext(responses)
        await first.stop(0)
        with pytest.raises(errors.Unavailable):
            await anext(responses)
        assert opened.mux_calls == 0
        await asyncio.wait_for(callee.cancelled.wait(), 10)
        async with serving(Callee("second"), f"127.0.0.1:{first.port}"):
            assert (await get(stub(opened))).model == "second"
            await until(lambda: opened.connections == 1)
            assert (await get(stub(opened))).model == "second"


async def test_a_read_under_way_at_a_break_is_made_again() -> None:
    first, second = Callee("first"), Callee("second")
    async with serving(first) as one, serving(second) as two, connected(one, two) as opened:
        reads = [asyncio.create_task(get(stub(opened), "wait")) for _ in range(2)]
        await asyncio.gather(first.begun.wait(), second.begun.wait())
        second.go_on.set()
        await one.stop(0)
        assert {run.model for run in await asyncio.gather(*reads)} == {"second"}


async def test_calls_take_turns_over_all_instances() -> None:
    callees = [Callee(str(number)) for number in range(3)]
    async with contextlib.AsyncExitStack() as stack:
        servers = [await stack.enter_async_context(serving(callee)) for callee in callees]
        opened = await stack.enter_async_context(connected(*servers))
        for _ in range(9):
            await get(stub(opened))
        assert [callee.calls for callee in callees] == [3, 3, 3]


async def test_an_instance_that_only_starts_gets_nothing_until_it_is_ready() -> None:
    """It would refuse what it cannot do yet, and what is not to be repeated would be lost."""
    starting, serving_already = Callee("starting"), Callee("serving")
    made = server(starting)
    await made.start()
    async with serving(serving_already) as one:
        address = f"ipv4:127.0.0.1:{made.port},127.0.0.1:{one.port}"
        async with channel.open_channel(address, pb.DESCRIPTOR, mux=True) as opened:
            assert isinstance(opened, MuxChannel)
            await until(lambda: opened.connections == 1)
            assert {(await get(stub(opened))).model for _ in range(4)} == {"serving"}
            await made.set_ready(ready=True)
            await until(lambda: opened.connections == 2)
            assert {(await get(stub(opened))).model for _ in range(4)} == {"serving", "starting"}
    await made.stop(0)


async def test_an_instance_that_drains_ends_what_it_has_and_gets_nothing_new() -> None:
    leaving, staying = Callee("leaving"), Callee("staying")
    async with serving(leaving) as one, serving(staying) as two, connected(one, two) as opened:
        streams = [watch(stub(opened), "wait", 1) for _ in range(2)]
        for responses in streams:
            await anext(responses)
        stopping = asyncio.create_task(one.stop(20))
        await until(lambda: opened.connections == 1)
        assert {(await get(stub(opened))).model for _ in range(6)} == {"staying"}
        assert not stopping.done()
        leaving.go_on.set()
        staying.go_on.set()
        for responses in streams:
            assert [response.run_id async for response in responses] == ["last"]
        async with asyncio.timeout(10):
            await stopping


async def test_a_call_that_meets_a_drain_is_made_elsewhere_even_if_it_may_not_be_repeated() -> None:
    """The instance that drains says that it never began the call."""
    leaving, staying = Callee(), Callee()
    async with serving(leaving) as one, serving(staying) as two, connected(one, two) as opened:
        held = watch(stub(opened), "wait", 1), watch(stub(opened), "wait", 1)
        for responses in held:
            await anext(responses)
        one._mux.drain()
        # Both sides have yet to write: the caller does not know of the drain when it calls.
        metadata = [("authorization", f"Bearer {token()}")]
        calls = [stub(opened).CancelRun(pb.CancelRunRequest(), metadata=metadata) for _ in range(2)]
        for call in calls:
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await call
            assert caught.value.details() == "Not now."
        assert (leaving.calls, staying.calls) == (1, 3)
        for responses in held:
            await responses.aclose()


async def test_a_service_that_does_not_know_shared_connections_is_called_directly() -> None:
    plain = grpc.aio.server()

    class Open(chat_pb2_grpc.ChatServiceServicer):
        async def GetRun(self, request: pb.GetRunRequest, call: Any) -> pb.GetRunResponse:
            return pb.GetRunResponse(run=pb.Run(model="old"))

    chat_pb2_grpc.add_ChatServiceServicer_to_server(Open(), plain)
    port = plain.add_insecure_port("127.0.0.1:0")
    await plain.start()
    async with channel.open_channel(f"127.0.0.1:{port}", pb.DESCRIPTOR, mux=True) as opened:
        assert isinstance(opened, MuxChannel)
        await until(lambda: opened._spread._links and opened._spread._links[0].unknown)
        assert (await get(stub(opened))).model == "old"
    await plain.stop(0)


async def test_a_service_that_is_away_is_unavailable() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        async with channel.open_channel(address, pb.DESCRIPTOR, mux=True) as opened:
            with pytest.raises(errors.Unavailable):
                await get(stub(opened))


async def test_closing_the_channel_ends_calls_and_leaves_no_task() -> None:
    callee = Callee()
    before = asyncio.all_tasks()
    async with serving(callee) as served:
        async with connected(served) as opened:
            call = stub(opened).WatchRun(
                pb.WatchRunRequest(run_id="wait"), metadata=[("authorization", f"Bearer {token()}")]
            )
            await callee.begun.wait()
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await anext(aiter(call))
        assert caught.value.code() is grpc.StatusCode.CANCELLED
        await asyncio.wait_for(callee.cancelled.wait(), 10)
        await until(lambda: served.mux_calls == 0)
    await until(lambda: asyncio.all_tasks() <= before)


async def test_much_metadata_of_many_calls_at_once_breaks_nothing() -> None:
    metadata = [("authorization", f"Bearer {token()}"), ("x-much", "x" * 12_000)]
    async with serving(Callee()) as served, connected(served) as opened:
        calls = [stub(opened).CancelRun(pb.CancelRunRequest(), metadata=metadata, timeout=60) for _ in range(600)]
        answers = await asyncio.gather(*calls, return_exceptions=True)
        assert {answer.details() for answer in answers if isinstance(answer, grpc.aio.AioRpcError)} == {"Not now."}


async def test_more_calls_than_a_connection_carries_go_directly() -> None:
    callee = Callee()
    async with serving(callee) as served, connected(served) as opened:
        opened._spread._links[0]._max_calls = 2
        streams = [watch(stub(opened), "wait", 1) for _ in range(3)]
        for responses in streams:
            await anext(responses)
        assert (served.mux_calls, callee.calls) == (2, 3)
        callee.go_on.set()
        for responses in streams:
            assert [response.run_id async for response in responses] == ["last"]


def opening(number: int, run_id: str = "x") -> mux_pb2.CallerFrame:
    request = pb.GetRunRequest(run_id=run_id).SerializeToString()
    opened = mux_pb2.Open(method="/parley.chat.v1.ChatService/GetRun", request=request)
    opened.metadata.add(name="authorization", value=f"Bearer {token()}".encode())
    return mux_pb2.CallerFrame(call=number, open=opened)


class Raw:
    """A connection whose frames the test writes itself."""

    def __init__(self, served: Server) -> None:
        self.channel = grpc.aio.insecure_channel(f"127.0.0.1:{served.port}")
        self.call: Any = self.channel.stream_stream(CONNECT)(wait_for_ready=True)  # type: ignore[call-arg]

    async def send(self, *frames: mux_pb2.CallerFrame) -> None:
        await self.call.write(mux_pb2.ConnectRequest(frames=frames).SerializeToString())

    async def read(self) -> list[mux_pb2.ServiceFrame]:
        return list(mux_pb2.ConnectResponse.FromString(await self.call.read()).frames)

    async def ended(self) -> grpc.StatusCode:
        """Reads to the end, and returns how it came."""
        try:
            while (await self.call.read()) is not wire.EOF:
                pass
        except grpc.aio.AioRpcError as error:
            return error.code()
        return grpc.StatusCode.OK

    async def __aenter__(self) -> Self:
        assert (await self.read())[0].hello.max_calls == wire.MAX_CALLS
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.channel.close(None)


async def test_the_raw_protocol_answers_a_call() -> None:
    async with serving(Callee()) as served, Raw(served) as raw:
        await raw.send(opening(1, "mine"))
        (frame,) = await raw.read()
        assert (frame.call, pb.GetRunResponse.FromString(frame.answer).run.id) == (1, "mine")


async def test_a_call_on_its_way_when_the_caller_is_told_of_a_drain_is_refused_and_not_lost() -> None:
    callee = Callee()
    async with serving(callee) as served, Raw(served) as raw:
        stopping = asyncio.create_task(served.stop(10))
        (told,) = await raw.read()
        assert told.HasField("go_away")
        await raw.send(opening(1))
        (frame,) = await raw.read()
        assert (frame.call, frame.end.refused) == (1, True)
        await raw.send(mux_pb2.CallerFrame(go_away=mux_pb2.GoAway()))
        assert await raw.ended() is grpc.StatusCode.OK
        await stopping
        assert callee.calls == 0


@pytest.mark.parametrize(
    "frames",
    [
        [opening(1), opening(1)],
        [opening(2), opening(1)],
        [opening(0)],
        [opening(-1)],
        [mux_pb2.CallerFrame(call=1, credit_bytes=0)],
        [mux_pb2.CallerFrame(call=1, credit_bytes=-5)],
    ],
)
async def test_who_breaks_the_protocol_loses_the_connection(frames: list[mux_pb2.CallerFrame]) -> None:
    callee = Callee()
    async with serving(callee) as served, connected(served) as opened, Raw(served) as raw:
        await raw.send(*frames)
        assert await raw.ended() is grpc.StatusCode.INVALID_ARGUMENT
        await until(lambda: served.mux_calls == 0)
        assert (await get(stub(opened))).id == "x", "other connections go on"


async def test_bytes_that_are_no_frames_end_the_connection_alone() -> None:
    callee = Callee()
    async with serving(callee) as served, connected(served) as opened, Raw(served) as raw:
        await raw.send(opening(1, "wait"))
        await callee.begun.wait()
        await raw.call.write(b"\xff\xff\xff\xff")
        assert await raw.ended() is not grpc.StatusCode.OK
        await asyncio.wait_for(callee.cancelled.wait(), 10)
        assert (await get(stub(opened))).id == "x"


async def test_frames_of_calls_that_are_over_or_of_unknown_kinds_are_passed_over() -> None:
    async with serving(Callee()) as served, Raw(served) as raw:
        await raw.send(
            mux_pb2.CallerFrame(call=99, cancel=mux_pb2.Cancel()),
            mux_pb2.CallerFrame(call=99, credit_bytes=5),
            mux_pb2.CallerFrame(call=99),
            opening(100),
        )
        (frame,) = await raw.read()
        assert frame.call == 100


async def test_a_request_that_cannot_be_read_ends_its_call_alone() -> None:
    async with serving(Callee()) as served, Raw(served) as raw:
        broken = opening(1)
        broken.open.request = b"\xff\xff"
        await raw.send(broken, opening(2))
        codes = {frame.call: frame.end.code for _ in range(2) for frame in await raw.read()}
        assert codes == {1: grpc.StatusCode.INTERNAL.value[0], 2: 0}


async def test_an_answer_that_cannot_be_read_is_an_internal_error() -> None:
    def refuse(_: bytes) -> None:
        raise ValueError

    async with serving(Callee()) as served, connected(served) as opened:
        method: Any = opened.unary_unary(
            "/parley.chat.v1.ChatService/GetRun", pb.GetRunRequest.SerializeToString, refuse
        )
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await method(pb.GetRunRequest(run_id="x"), metadata=[("authorization", f"Bearer {token()}")], timeout=10)
        assert caught.value.code() is grpc.StatusCode.INTERNAL


async def test_a_server_that_stops_cuts_calls_after_the_grace_period() -> None:
    callee = Callee()
    made = server(callee)
    await made.start()
    await made.set_ready(ready=True)
    async with connected(made) as opened:
        responses = watch(stub(opened), "wait", 1)
        await anext(responses)
        async with asyncio.timeout(10):
            await made.stop(0.1)
        with pytest.raises(errors.Unavailable):
            await anext(responses)
        await asyncio.wait_for(callee.cancelled.wait(), 10)
