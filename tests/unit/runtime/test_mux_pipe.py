"""Frames on a connection of their own: who may open one, what ends it, and what happens where it cannot be had."""

import asyncio
import socket
from collections.abc import AsyncIterator
from typing import Any

import grpc
import pytest
import structlog
from hypothesis import given
from hypothesis import strategies as st

from deploy.local.ports import free_port
from parley.chat.v1 import chat_pb2 as pb
from parley.mux.v1 import mux_pb2
from runtime import channel, errors
from runtime.mux import pipe, wire
from runtime.mux.dispatcher import MuxProtocol
from runtime.mux.pipe import Entrance, Pipe
from runtime.server import Server
from tests.unit.runtime.callee import ISSUER, Callee, connected, serving, stub, until

CONNECT = "/parley.mux.v1.MuxService/Connect"


async def get(caller: Any, run_id: str = "x") -> pb.Run:
    request = pb.GetRunRequest(run_id=run_id)
    run: pb.Run = (await channel.unary(caller.GetRun, request, timeout_s=10, token=ISSUER.token("u-1"))).run
    return run


def framed(batch: Any) -> bytes:
    payload: bytes = batch.SerializeToString()
    return len(payload).to_bytes(4, "big") + payload


async def read_batch(reader: asyncio.StreamReader) -> mux_pb2.ConnectResponse:
    length = int.from_bytes(await reader.readexactly(4), "big")
    return mux_pb2.ConnectResponse.FromString(await reader.readexactly(length))


async def gone(reader: asyncio.StreamReader) -> bool:
    """Waits for the end; tells whether nothing was said before it."""
    async with asyncio.timeout(10):
        try:
            return await reader.read() == b""
        except ConnectionError:
            return True


class Stranger:
    """Opens a stream by hand, and direct connections to what its hello names."""

    def __init__(self, served: Server) -> None:
        self._channel = grpc.aio.insecure_channel(f"127.0.0.1:{served.port}")
        self.call: Any = self._channel.stream_stream(CONNECT)(wait_for_ready=True)  # type: ignore[call-arg]
        self.hello = mux_pb2.Hello()
        self._writers: list[asyncio.StreamWriter] = []

    async def open(self, key: bytes) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        reader, writer = await asyncio.open_connection("127.0.0.1", self.hello.direct_port)
        self._writers.append(writer)
        writer.write(key)
        return reader, writer

    async def ended(self) -> grpc.StatusCode:
        try:
            while (await self.call.read()) is not wire.EOF:
                pass
        except grpc.aio.AioRpcError as error:
            return error.code()
        return grpc.StatusCode.OK

    async def begin(self) -> None:
        self.hello = mux_pb2.ConnectResponse.FromString(await self.call.read()).frames[0].hello

    async def close(self) -> None:
        for writer in self._writers:
            writer.close()
        await self._channel.close(None)


@pytest.fixture
async def served() -> AsyncIterator[Server]:
    async with serving(Callee("served")) as server:
        yield server


@pytest.fixture
async def stranger(served: Server) -> AsyncIterator[Stranger]:
    made = Stranger(served)
    await made.begin()
    yield made
    await made.close()


async def test_the_key_opens_a_connection_and_is_good_once(stranger: Stranger) -> None:
    reader, writer = await stranger.open(stranger.hello.direct_key)
    assert (await read_batch(reader)).frames[0].HasField("hello")
    opened = mux_pb2.Open(method="/parley.chat.v1.ChatService/GetRun")
    opened.request = pb.GetRunRequest(run_id="mine").SerializeToString()
    opened.metadata.add(name="authorization", value=f"Bearer {ISSUER.token()}".encode())
    writer.write(framed(mux_pb2.ConnectRequest(frames=[mux_pb2.CallerFrame(call=1, open=opened)])))
    answer = (await read_batch(reader)).frames[0].answer
    assert pb.GetRunResponse.FromString(answer).run.id == "mine"
    second, _ = await stranger.open(stranger.hello.direct_key)
    assert await gone(second)


async def test_a_wrong_key_opens_nothing(stranger: Stranger) -> None:
    reader, _ = await stranger.open(bytes(wire.KEY_BYTES))
    assert await gone(reader)


async def test_who_shows_no_key_is_sent_away(stranger: Stranger, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pipe, "_KEY_TIMEOUT_S", 0.05)
    reader, _ = await stranger.open(b"")
    assert await gone(reader)


@pytest.mark.parametrize(
    "garbage",
    [
        b"\xff\xff\xff\xff",
        (wire.MAX_BATCH_BYTES + 1).to_bytes(4, "big"),
        (3).to_bytes(4, "big") + b"\xff\xff\xff",
        framed(mux_pb2.ConnectRequest(frames=[mux_pb2.CallerFrame(call=1, credit_bytes=-1)])),
    ],
)
async def test_garbage_ends_the_connection_and_the_stream_beside_it(
    served: Server, stranger: Stranger, garbage: bytes
) -> None:
    reader, writer = await stranger.open(stranger.hello.direct_key)
    await read_batch(reader)
    writer.write(garbage)
    await stranger.ended()
    async with connected(served) as opened:
        assert (await get(stub(opened))).model == "served", "other connections go on"


async def test_the_end_of_the_stream_ends_the_connection_beside_it(stranger: Stranger) -> None:
    reader, _ = await stranger.open(stranger.hello.direct_key)
    await read_batch(reader)
    stranger.call.cancel()
    assert await gone(reader)


async def test_a_call_that_comes_while_a_connection_ends_is_not_begun() -> None:
    """Nobody would hear its answer, and nothing would end it before its deadline."""

    class Slow(Callee):
        async def _wait(self) -> None:
            try:
                await super()._wait()
            finally:
                await self.go_on.wait()

    callee = Slow()
    async with serving(callee) as served:
        stranger = Stranger(served)
        await stranger.begin()
        reader, writer = await stranger.open(stranger.hello.direct_key)
        await read_batch(reader)
        opened = mux_pb2.Open(method="/parley.chat.v1.ChatService/GetRun")
        opened.request = pb.GetRunRequest(run_id="wait").SerializeToString()
        opened.metadata.add(name="authorization", value=f"Bearer {ISSUER.token()}".encode())
        writer.write(framed(mux_pb2.ConnectRequest(frames=[mux_pb2.CallerFrame(call=1, open=opened)])))
        await callee.begun.wait()
        stranger.call.cancel()
        await callee.cancelled.wait()
        writer.write(framed(mux_pb2.ConnectRequest(frames=[mux_pb2.CallerFrame(call=2, open=opened)])))
        assert await gone(reader)
        assert callee.calls == 1
        callee.go_on.set()
        await stranger.close()


async def test_a_direct_connection_that_breaks_is_had_again() -> None:
    callee = Callee("served")
    async with serving(callee) as served, connected(served) as opened:
        call = stub(opened).WatchRun(
            pb.WatchRunRequest(run_id="wait"), metadata=[("authorization", f"Bearer {ISSUER.token()}")]
        )
        await callee.begun.wait()
        (connection,) = served._mux._connections
        assert connection._pipe is not None
        connection._pipe._fail(OSError())
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await anext(aiter(call))
        assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
        await asyncio.wait_for(callee.cancelled.wait(), 10)
        await until(lambda: opened.connections == 1)
        assert (await get(stub(opened))).model == "served"


async def test_the_kernel_watches_over_both_ends(served: Server) -> None:
    async with connected(served) as opened:
        await get(stub(opened))
        (connection,) = served._mux._connections
        assert connection._pipe is not None
        assert connection._pipe._transport is not None
        end = connection._pipe._transport.get_extra_info("socket")
        assert end.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)


async def test_it_comes_to_the_port_that_was_set_and_where_that_is_taken_calls_go_without() -> None:
    """So that a firewall can let it through."""
    port = free_port()
    async with (
        serving(Callee("served"), direct_port=port) as first,
        serving(Callee("served"), direct_port=port) as second,
    ):
        for one, direct in ((first, True), (second, False)):
            stranger = Stranger(one)
            await stranger.begin()
            assert stranger.hello.direct_port == (port if direct else 0)
            await stranger.close()
            async with connected(one) as opened:
                assert (await get(stub(opened))).model == "served"


@pytest.mark.parametrize("silent", [False, True])
async def test_where_it_cannot_be_had_the_frames_travel_on_the_stream(
    served: Server, monkeypatch: pytest.MonkeyPatch, *, silent: bool
) -> None:
    """Nobody listens, or somebody does who never answers."""
    monkeypatch.setattr("runtime.mux.link._DIRECT_TIMEOUT_S", 0.05)
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        if silent:
            other.listen()

        class Elsewhere:
            sockets = (other,)

            def close(self) -> None: ...

        assert served._mux._listener is not None
        served._mux._listener.close()
        monkeypatch.setattr(served._mux, "_listener", Elsewhere())
        async with connected(served) as opened:
            assert (await get(stub(opened))).model == "served"
            (connection,) = served._mux._connections
            assert connection._pipe is None


async def test_a_port_that_is_none_is_not_gone_to(served: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    class Nowhere:
        def getsockname(self) -> tuple[str, int]:
            return "", 70_000

    class Elsewhere:
        sockets = (Nowhere(),)

        def close(self) -> None: ...

    assert served._mux._listener is not None
    served._mux._listener.close()
    monkeypatch.setattr(served._mux, "_listener", Elsewhere())
    async with connected(served) as opened:
        assert (await get(stub(opened))).model == "served"
        assert opened.connections == 1


async def test_what_nobody_foresaw_is_no_reason_never_to_connect_again(
    served: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    tries = 0

    async def connect(*_: Any, **__: Any) -> None:
        nonlocal tries
        tries += 1
        if tries == 1:
            raise RuntimeError

    monkeypatch.setattr(pipe, "connect", connect)
    async with connected(served) as opened:
        assert (tries, opened.connections) == (2, 1)


@pytest.mark.parametrize(("raised", "logged"), [(RuntimeError(), 1), (MuxProtocol("no"), 0)])
async def test_what_nobody_foresaw_in_a_batch_ends_the_connection_and_is_logged(raised: Exception, logged: int) -> None:
    """What the other side did wrong is its own affair."""

    def take(_: Any) -> None:
        raise raised

    end = Pipe(bytes, take)
    with structlog.testing.capture_logs() as lines:
        end.data_received(b"\0\0\0\1x" * 2)
    assert end.error is raised
    assert [line["event"] for line in lines] == ["unforeseen_error"] * logged


async def test_a_service_that_drains_says_everything_before_it_goes() -> None:
    callee = Callee()
    async with serving(callee) as served, connected(served) as opened:
        responses = channel.stream(
            stub(opened).WatchRun, pb.WatchRunRequest(run_id="wait", after_seq=1), token=ISSUER.token()
        )
        await anext(responses)
        stopping = asyncio.create_task(served.stop(10))
        callee.go_on.set()
        assert [response.run_id async for response in responses] == ["last"]
        await stopping
        with pytest.raises(errors.Unavailable):
            await get(stub(opened))


class FakeTransport:
    """Remembers whether it was left."""

    def __init__(self) -> None:
        self.aborted = False

    def abort(self) -> None:
        self.aborted = True

    def get_extra_info(self, name: str) -> None: ...


@given(st.lists(st.binary(max_size=50), max_size=6), st.data())
async def test_batches_are_the_same_however_the_bytes_are_cut(payloads: list[bytes], data: st.DataObject) -> None:
    taken: list[bytes] = []
    entrance = Entrance(bytes, lambda key, _: taken.append)
    entrance._transport = FakeTransport()  # type: ignore[assignment]
    whole = bytes(wire.KEY_BYTES) + b"".join(len(one).to_bytes(4, "big") + one for one in payloads)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(whole)), max_size=8)))
    for begin, end in zip([0, *cuts], [*cuts, len(whole)], strict=True):
        if end > begin:
            entrance.data_received(whole[begin:end])
    assert taken == payloads


async def test_a_reader_that_is_behind_holds_back_the_writer() -> None:
    written: list[bytes] = []
    end = Pipe(bytes, None)

    class Transport(FakeTransport):
        def write(self, data: bytes) -> None:
            written.append(data)
            end.pause_writing()

    end.connection_made(Transport())  # type: ignore[arg-type]
    for frame in (b"one", b"two", b"three"):
        end.outbox.send(frame)
    assert written == [b"\0\0\0\3one"]
    end.resume_writing()
    assert written == [b"\0\0\0\3one", b"\0\0\0\10twothree"]
    end.connection_lost(None)
    end.outbox.send(b"four")
    end.resume_writing()
    assert len(written) == 2
