"""A pool ends with its block, however hurried the end is."""

from __future__ import annotations

import asyncio
import contextlib
from typing import Any, Self

import pytest

from runtime import postgres


class Connection:
    """Answers nothing, and takes a while to be told so."""

    def is_closed(self) -> bool:
        return False

    def is_in_transaction(self) -> bool:
        return False

    async def execute(self, *_: Any, **__: Any) -> None:
        try:
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(0.05)

    async def fetch(self, *_: Any) -> list[Any]:
        return []


class Pool:
    """Ends when everything it has given out is back, as the driver's does."""

    def __init__(self) -> None:
        self.out = 0
        self._back = asyncio.Event()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        while self.out:
            self._back.clear()
            await self._back.wait()

    def get_max_size(self) -> int:
        return 4

    async def acquire(self, **_: Any) -> Connection:
        self.out += 1
        return Connection()

    async def release(self, *_: Any, **__: Any) -> None:
        self.out -= 1
        self._back.set()


async def test_who_is_told_twice_to_end_leaves_no_connection_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """Otherwise the pool would wait for it until it is looked at again, which is once a minute."""
    pool = Pool()
    monkeypatch.setattr("runtime.postgres.asyncpg.create_pool", lambda *_, **__: pool)
    used = asyncio.Event()

    async def work() -> None:
        async with postgres.connect("postgresql://", {"q": "q"}, max_connections=4, ready=1) as database:
            await asyncio.sleep(0.01)  # that which is kept ready is being tried by now
            await database.fetch("q")
            used.set()
            await asyncio.Event().wait()

    working = asyncio.create_task(work())
    await used.wait()
    working.cancel()
    await asyncio.sleep(0)
    working.cancel()
    async with asyncio.timeout(10):
        with contextlib.suppress(asyncio.CancelledError):
            await working
    assert pool.out == 0
