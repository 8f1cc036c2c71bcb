"""Work beside the service ends with it, and not before."""

from __future__ import annotations

import asyncio
import contextlib

import pytest

from services.chat import background


async def test_work_that_misses_its_cancellation_is_cancelled_again() -> None:
    ended = asyncio.Event()

    async def deaf_once() -> None:
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.Event().wait()
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()

    async with background.running(deaf_once):
        await asyncio.sleep(0)
    assert ended.is_set()


async def test_work_that_breaks_is_begun_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(background, "_PAUSE_S", 0)
    begun: asyncio.Queue[int] = asyncio.Queue()

    async def break_down() -> None:
        begun.put_nowait(1)
        raise ValueError

    async with background.running(break_down):
        for _ in range(3):
            await begun.get()
