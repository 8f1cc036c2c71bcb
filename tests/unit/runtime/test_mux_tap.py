"""Messages that are taken where they arrive: nobody is woken up for them, and nothing is lost, repeated or reordered."""

import asyncio
import contextlib
import gc
import random
import weakref
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from parley.chat.v1 import chat_pb2 as pb
from runtime import channel, errors
from runtime.mux.calls import Method as MuxMethod
from runtime.mux.wire import WINDOW_BYTES
from tests.unit.runtime.callee import ISSUER, Callee, collect, connected, serving, stub


class Pausing(Callee):
    """Gives the reader time to wait for each message but the first few."""

    async def WatchRun(self, request: pb.WatchRunRequest, call: Any) -> AsyncIterator[pb.WatchRunResponse]:
        size = int(request.run_id or 0)
        for number in range(request.after_seq):
            if number % 3:
                await asyncio.sleep(0.002)
            message = pb.WatchRunResponse(run_id=str(number) + "x" * size)
            if not (number % 2 and call.offer(message)):
                yield message
            self.written = number + 1


@contextlib.asynccontextmanager
async def poured(count: int, tap: Callable[[Any], bool], size: int = 0) -> AsyncIterator[AsyncIterator[Any]]:
    async with serving(Pausing()) as server, connected(server) as opened:
        request = pb.WatchRunRequest(run_id=str(size), after_seq=count)
        responses = channel.stream(stub(opened).WatchRun, request, token=ISSUER.token("u-1"), tap=tap)
        async with contextlib.aclosing(responses), asyncio.timeout(20):
            yield responses


async def test_what_the_tap_refuses_is_returned_and_all_of_it_stays_in_order() -> None:
    got: list[str] = []
    taken = 0

    def tap(response: pb.WatchRunResponse) -> bool:
        nonlocal taken
        if random.random() < 0.3:
            return False
        got.append(response.run_id)
        taken += 1
        return True

    async with poured(100, tap) as responses:
        async for response in responses:
            got.append(response.run_id)
            if random.random() < 0.1:  # seldom enough that the reader is the one who waits
                await asyncio.sleep(0.003)
    assert got == [str(number) for number in range(100)]
    assert 0 < taken < 100


async def test_what_the_tap_takes_makes_room_for_more() -> None:
    sizes: list[int] = []

    def tap(response: pb.WatchRunResponse) -> bool:
        sizes.append(len(response.run_id))
        return True

    size = WINDOW_BYTES // 4
    async with poured(20, tap, size) as responses:
        sizes += [len(response.run_id) async for response in responses]
    assert len(sizes) == 20


async def test_what_the_tap_raises_ends_the_call_for_who_reads_it_and_no_other() -> None:
    def tap(_: pb.WatchRunResponse) -> bool:
        raise ValueError("not to my taste")

    async with serving(Pausing()) as server, connected(server) as opened:
        token = ISSUER.token("u-1")
        watch, request = stub(opened).WatchRun, pb.WatchRunRequest(after_seq=30)
        other = channel.stream(watch, request, token=token)
        await anext(other)
        tapped = channel.stream(watch, request, token=token, tap=tap)
        with pytest.raises(ValueError, match="not to my taste"):
            await collect(tapped, [])
        assert len([response async for response in other]) == 29


async def test_over_a_connection_of_its_own_a_call_has_a_dry_tap() -> None:
    async with (
        serving(callee := Callee()) as server,
        channel.open_channel(f"127.0.0.1:{server.port}", pb.DESCRIPTOR) as plain,
    ):
        request = pb.WatchRunRequest(after_seq=5)
        responses = channel.stream(stub(plain).WatchRun, request, token=ISSUER.token("u-1"), tap=lambda _: True)
        assert len([response async for response in responses]) == callee.written == 5


async def test_what_a_call_was_made_with_is_let_go_of_also_where_the_tap_takes_all() -> None:
    """It may be large, and the answer take long."""
    calls: list[Any] = []
    method = MuxMethod.__call__

    def noted(self: MuxMethod, *given: Any, **named: Any) -> Any:
        calls.append(method(self, *given, **named))
        return calls[-1]

    left: list[Any] = []

    def tap(_: Any) -> bool:
        left.append(calls[0]._request)
        return True

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(MuxMethod, "__call__", noted)
        async with poured(3, tap) as responses:
            assert [response async for response in responses] == []
    assert left == [None] * 3


class Taker:
    """Takes nothing."""

    def take(self, _: Any) -> bool:
        return False


async def test_a_call_that_has_failed_is_held_by_nobody() -> None:
    """Nor is who tapped it: in chat that is a run with all it has said, which would stay until the garbage collector came by."""
    taker = Taker()
    held = weakref.ref(taker)
    async with serving(Callee()) as server, connected(server) as opened:
        gc.disable()
        try:
            request = pb.WatchRunRequest(run_id="fail", after_seq=1)
            responses = channel.stream(stub(opened).WatchRun, request, token=ISSUER.token("u-1"), tap=taker.take)
            with contextlib.suppress(errors.NotFound):
                async for _ in responses:
                    pass
            del responses, taker
            assert held() is None
        finally:
            gc.enable()


async def test_a_stream_that_has_begun_keeps_no_credential() -> None:
    """There are as many as live answers, and each may last for long."""

    class Keeping(Callee):
        def _see(self, call: Any) -> None:
            super()._see(call)
            self.call = call

    callee = Keeping()
    async with serving(callee) as server, connected(server) as opened:
        request = pb.WatchRunRequest(run_id="wait", after_seq=1)
        responses = channel.stream(stub(opened).WatchRun, request, token=ISSUER.token("u-1"))
        async with contextlib.aclosing(responses):
            await anext(responses)
            assert "authorization" in callee.metadata
            assert not callee.call.invocation_metadata()
