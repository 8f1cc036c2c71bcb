"""Under load frames that can wait leave with a tick; nothing else does."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any

from parley.mux.v1 import mux_pb2
from runtime.mux import wire
from runtime.mux.outbox import Outbox


class Written:
    """A wire that takes everything at once."""

    def __init__(self) -> None:
        self.batches: list[list[int]] = []

    async def write(self, batch: Any) -> None:
        self.batches.append([frame.call for frame in batch.frames])

    @property
    def frames(self) -> int:
        return sum(map(len, self.batches))


@contextlib.asynccontextmanager
async def running(tick_s: float) -> AsyncIterator[tuple[Outbox, Written]]:
    written = Written()
    outbox = Outbox(mux_pb2.ConnectResponse, written.write, tick_s=tick_s)
    task = asyncio.create_task(outbox.run())
    await settled()
    try:
        yield outbox, written
    finally:
        task.cancel()
        await asyncio.wait([task])


async def settled() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


async def loaded(outbox: Outbox, written: Written) -> None:
    """Writes until something waits, and lets it go."""
    async with asyncio.timeout(10):
        while True:
            for _ in range(2_000):
                outbox.frame(10, patient=True)
            waiting = written.frames
            await settled()
            if written.frames == waiting:
                break
            await asyncio.sleep(0.01)
    outbox.frame(10)
    await settled()
    written.batches.clear()


async def test_without_load_nothing_waits() -> None:
    async with running(tick_s=60) as (outbox, written):
        for number in range(5):
            outbox.frame(10, patient=True).call = number
            await settled()
        assert written.batches == [[0], [1], [2], [3], [4]]


async def test_under_load_what_can_wait_gathers_until_something_cannot() -> None:
    async with running(tick_s=60) as (outbox, written):
        await loaded(outbox, written)
        for number in range(3):
            outbox.frame(10, patient=True).call = number
            await settled()
        assert written.batches == []
        outbox.frame(10).call = 3
        await settled()
        assert written.batches == [[0, 1, 2, 3]]


async def test_the_tick_takes_what_has_gathered() -> None:
    async with running(tick_s=0.05) as (outbox, written):
        await loaded(outbox, written)
        for number in range(3):
            outbox.frame(10, patient=True).call = number
            await settled()
        async with asyncio.timeout(10):
            await outbox.empty()
        assert written.batches == [[0, 1, 2]]


async def test_a_lot_does_not_wait_for_the_tick() -> None:
    async with running(tick_s=60) as (outbox, written):
        await loaded(outbox, written)
        outbox.frame(wire.BATCH_BYTES // 2, patient=True)
        await settled()
        assert len(written.batches) == 1


async def test_when_the_load_is_over_nothing_waits_again() -> None:
    async with running(tick_s=0.05) as (outbox, written):
        await loaded(outbox, written)
        async with asyncio.timeout(10):
            while True:
                outbox.frame(10, patient=True)
                await settled()
                if written.batches:
                    break
                await outbox.empty()
                written.batches.clear()
