"""The parts of a shared connection: batches, metadata, addresses."""

import asyncio
import socket
from types import SimpleNamespace
from typing import Any

import grpc
import pytest
from hypothesis import given
from hypothesis import strategies as st

from parley.chat.v1 import chat_pb2 as pb
from parley.mux.v1 import mux_pb2
from runtime.mux import addresses, wire
from runtime.mux.outbox import Outbox, Writer
from runtime.mux.served import ServedCall
from runtime.mux.spread import Spread
from tests.unit.runtime.callee import ISSUER, Callee, serving, until


def frame(number: int, size_bytes: int = 0) -> bytes:
    """Spells a frame of a call."""
    made = mux_pb2.ServiceFrame(call=number, message=bytes(size_bytes))
    return mux_pb2.ConnectResponse(frames=[made]).SerializeToString()


class Wire:
    """Takes batches; further ones only when let, where it is said to be slow."""

    def __init__(self, *, slow: bool = False) -> None:
        self.written: list[list[int]] = []
        self._slow = slow
        self.outbox = Outbox(self._take)

    def let(self) -> None:
        self.outbox.resume()

    def _take(self, batch: bytes) -> bool:
        self.written.append([one.call for one in mux_pb2.ConnectResponse.FromString(batch).frames])
        return not self._slow


async def settled() -> None:
    """Lets every task that can go on do so."""
    for _ in range(10):
        await asyncio.sleep(0)


async def test_on_a_quiet_connection_a_frame_leaves_at_once() -> None:
    wire_ = Wire()
    wire_.outbox.send(frame(1))
    assert wire_.written == [[1]]


async def test_on_a_busy_connection_what_comes_in_one_turn_of_the_loop_leaves_together(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("runtime.mux.outbox._QUIET_S", 60.0)
    wire_ = Wire()
    for number in range(1, 5):
        wire_.outbox.send(frame(number))
    assert wire_.written == [[1]]
    await wire_.outbox.empty()
    assert wire_.written == [[1], [2, 3, 4]]


async def test_a_batch_grows_for_as_long_as_the_connection_takes_nothing() -> None:
    wire_, number = Wire(slow=True), 0
    for size in (1, 3, 2):
        for _ in range(size):
            number += 1
            wire_.outbox.send(frame(number))
        await settled()
    assert wire_.written == [[1]]
    wire_.let()
    assert wire_.written == [[1], [2, 3, 4, 5, 6]]
    emptied = asyncio.create_task(wire_.outbox.empty())
    await settled()
    assert not emptied.done(), "the second has not been taken yet"
    wire_.let()
    await emptied


async def test_no_batch_grows_past_its_bound_by_more_than_a_frame() -> None:
    wire_ = Wire(slow=True)
    for number in range(11):
        wire_.outbox.send(frame(number, wire.BATCH_BYTES // 2))
    for _ in range(5):
        wire_.let()
    assert wire_.written == [[0], [1, 2], [3, 4], [5, 6], [7, 8], [9, 10]]


async def test_there_is_room_again_once_enough_has_been_written() -> None:
    wire_ = Wire(slow=True)
    for number in range(4):
        wire_.outbox.send(frame(number, wire.WAITING_BYTES // 2))
    waiting = asyncio.create_task(wire_.outbox.room())
    await settled()
    assert wire_.outbox.full
    assert not waiting.done()
    wire_.let()
    assert wire_.outbox.full
    wire_.let()
    await waiting


async def test_nothing_waits_for_a_connection_that_has_gone() -> None:
    wire_ = Wire(slow=True)
    for number in range(2):
        wire_.outbox.send(frame(number, 2 * wire.WAITING_BYTES))
    waiting = [asyncio.create_task(wire_.outbox.room()), asyncio.create_task(wire_.outbox.empty())]
    await settled()
    wire_.outbox.close()
    async with asyncio.timeout(5):
        await asyncio.gather(*waiting)
    wire_.outbox.send(frame(3))
    assert not wire_.outbox.full
    assert wire_.written == [[0]]


async def test_a_stream_is_written_to_one_batch_after_the_other() -> None:
    written: list[list[int]] = []
    free = asyncio.Semaphore(0)

    async def write(batch: bytes) -> None:
        await free.acquire()
        written.append([one.call for one in mux_pb2.ConnectResponse.FromString(batch).frames])

    writer = Writer(write)
    running = asyncio.create_task(writer.run())
    await settled()
    for number in range(1, 4):
        writer.outbox.send(frame(number))
        await settled()
    assert written == []
    free.release()
    free.release()
    await writer.outbox.empty()
    assert written == [[1], [2, 3]]
    running.cancel()
    writer.outbox.send(frame(4))
    await asyncio.wait([running])
    writer.outbox.send(frame(5))
    assert not writer.outbox.full


_TEXT = st.text(st.characters(min_codepoint=0x20, max_codepoint=0x7E), max_size=20)
_NAME = st.from_regex(r"[a-z][a-z0-9_.-]{0,10}", fullmatch=True).filter(lambda name: not name.endswith("-bin"))


@given(
    st.lists(
        st.tuples(_NAME, _TEXT) | st.tuples(_NAME.map(lambda name: name + "-bin"), st.binary(max_size=20)), max_size=5
    )
)
def test_metadata_arrives_as_it_was_sent(metadata: list[tuple[str, str | bytes]]) -> None:
    opened = mux_pb2.Open()
    wire.add_headers(opened.metadata, metadata)
    assert wire.metadata_of(mux_pb2.Open.FromString(opened.SerializeToString()).metadata) == metadata


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        ("ipv4:127.0.0.1:1,127.0.0.2:2", ["ipv4:127.0.0.1:1", "ipv4:127.0.0.2:2"]),
        ("ipv6:[::1]:1,[::2]:2", ["ipv6:[::1]:1", "ipv6:[::2]:2"]),
        ("unix:/run/x,y.sock", ["unix:/run/x,y.sock"]),
        ("127.0.0.1:7", ["ipv4:127.0.0.1:7"]),
        ("[::1]:7", ["ipv6:[::1]:7"]),
        ("dns:///127.0.0.1:7", ["ipv4:127.0.0.1:7"]),
        ("xds:///name", []),
    ],
)
async def test_an_address_names_its_instances(address: str, expected: list[str]) -> None:
    assert await addresses.instances(address) == expected


async def test_a_name_gives_each_of_its_addresses_once(monkeypatch: pytest.MonkeyPatch) -> None:
    async def look_up(host: str, port: str, **_: Any) -> list[Any]:
        assert (host, port) == ("chat", "50051")
        where = [("10.0.0.1", 50051), ("10.0.0.2", 50051), ("10.0.0.1", 50051)]
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", one) for one in where]

    monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", look_up)
    assert await addresses.instances("dns:///chat:50051") == ["ipv4:10.0.0.1:50051", "ipv4:10.0.0.2:50051"]


async def test_an_instance_that_is_no_more_named_is_let_go_with_the_rest(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its calls are under way when all is closed: they end, and no connection is left behind."""
    named = ["ipv4:127.0.0.1:1"]

    async def instances(_: str) -> list[str]:
        return list(named)

    monkeypatch.setattr("runtime.mux.spread.instances", instances)
    monkeypatch.setattr("runtime.mux.spread._LOOK_UP_AT_MOST_EVERY_S", 0.01)
    before = asyncio.all_tasks()
    callee = Callee()
    async with serving(callee) as served:
        named[:] = [f"ipv4:127.0.0.1:{served.port}"]
        spread = Spread("dns:///chat", grpc.aio.insecure_channel, look_up_every_s=0.01)
        spread.start()
        await spread.wait_ready()
        (link,) = spread._links
        request = pb.WatchRunRequest(run_id="wait").SerializeToString()
        bearer = [("authorization", f"Bearer {ISSUER.token()}")]
        exchange = link.call("/parley.chat.v1.ChatService/WatchRun", request, bearer, None)
        await callee.begun.wait()
        named.clear()
        await until(lambda: not spread._links)
        await spread.close()
        assert exchange.ended
        await until(lambda: served.mux_calls == 0)
    await until(lambda: asyncio.all_tasks() <= before)


async def test_an_answer_leaves_before_what_the_chain_does_behind_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where it waits for the next turn of the loop, together with others."""
    monkeypatch.setattr("runtime.mux.outbox._QUIET_S", 60.0)
    wire_ = Wire()
    handler: Any = SimpleNamespace(response_serializer=bytes)
    nobody: Any = None
    for number in (1, 2):
        call = ServedCall(
            number, mux_pb2.Open(), handler, chain=nobody, outbox=wire_.outbox, connection=nobody, turns=None
        )
        await call.answer(b"told")
        assert wire_.written[-1] == [number]
