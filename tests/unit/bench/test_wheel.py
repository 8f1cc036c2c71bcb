"""The wheel that paces all streams."""

from __future__ import annotations

import asyncio

from tests.bench.wheel import Wheel


class _Stream:
    def __init__(self, count: int) -> None:
        self.left = count
        self.said: list[bytes] = []
        self.done = asyncio.Event()

    def send(self, text: bytes) -> bool:
        self.said.append(text)
        self.left -= 1
        if not self.left:
            self.done.set()
        return self.left > 0


async def test_every_stream_speaks_as_often_as_it_wants() -> None:
    wheel = Wheel(asyncio.get_running_loop())
    streams = [_Stream(count) for count in (1, 5, 9)]
    for stream in streams:
        wheel.join(stream, 500)
    for stream in streams:
        await stream.done.wait()
    assert [len(stream.said) for stream in streams] == [1, 5, 9]


async def test_a_stream_that_is_due_sooner_does_not_wait_for_the_others() -> None:
    wheel = Wheel(asyncio.get_running_loop())
    slow, quick = _Stream(1), _Stream(1)
    wheel.join(slow, 1)
    wheel.join(quick, 500)
    await quick.done.wait()
    assert not slow.done.is_set()


async def test_streams_that_join_together_are_spread() -> None:
    """Twenty streams in one tick would be a burst; spread over 40 ms, they speak at more than a few moments."""
    wheel = Wheel(asyncio.get_running_loop())
    streams = [_Stream(2) for _ in range(20)]
    for stream in streams:
        wheel.join(stream, 25)
    for stream in streams:
        await stream.done.wait()
    assert len(wheel.lateness_ns) > len(streams) / 2
