"""Who listens for words of other instances, and who no longer does."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from services.chat.signals import RedisSignals, begun_channel
from tests.unit.chat.turns import until

CHANNEL = begun_channel("org", "c")


class Slow:
    """A Redis that subscribes when it is told that it may."""

    def __init__(self) -> None:
        self.may = asyncio.Event()
        self.asked: list[str] = []
        self.subscribed: list[str] = []

    def pubsub(self, **_: Any) -> contextlib.AbstractAsyncContextManager[Slow]:
        return contextlib.nullcontext(self)

    async def subscribe(self, *channels: str) -> None:
        self.asked += channels
        if CHANNEL in channels:
            await self.may.wait()
        self.subscribed += channels

    async def unsubscribe(self, *channels: str) -> None:
        for channel in channels:
            self.asked.remove(channel)

    async def get_message(self, *, timeout: float) -> None:  # noqa: ASYNC109 - as the client's
        await asyncio.Event().wait()


@pytest.fixture
def slow() -> Slow:
    return Slow()


@pytest.fixture
async def signals(slow: Slow) -> AsyncIterator[RedisSignals]:
    client: Any = slow
    signals = RedisSignals(client, "me")
    nothing: Callable[..., None] = lambda *_: None  # noqa: E731 - a word nobody needs
    listening = asyncio.create_task(signals.listen(nothing, nothing))
    await until(lambda: signals.listening)
    yield signals
    listening.cancel()
    await asyncio.wait([listening])


async def test_a_watcher_who_goes_while_it_joins_leaves_nothing_to_the_next_one(
    signals: RedisSignals, slow: Slow
) -> None:
    """Otherwise the next one would take the channel for subscribed, and hear nothing."""

    async def watch() -> None:
        async with signals.begun("org", "c"):
            pass

    joining = asyncio.create_task(watch())
    await until(lambda: CHANNEL in slow.asked)
    joining.cancel()
    await asyncio.wait([joining])
    slow.may.set()
    async with signals.begun("org", "c"):
        assert CHANNEL in slow.subscribed
