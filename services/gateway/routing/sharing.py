"""Tells the other instances by Redis who is cooling down; never on the way of a call."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, Any

import redis.asyncio
import redis.exceptions
import structlog

from runtime.stopping import stop

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from services.gateway.routing.cooldowns import Cooldowns

log = structlog.stdlib.get_logger()

_KEY = "parley:gateway:cooldowns"
_EVERY_S = 0.5
_MAX_WAITING = 1000
_AWAY = (redis.exceptions.RedisError, OSError, TimeoutError)

# Adds cooldowns (name and milliseconds in turn), forgets those that are over, and returns what is left: name and milliseconds in turn.
# Redis's clock counts, so that those of the instances may differ.
_SCRIPT = """
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
for i = 1, #ARGV, 2 do
  redis.call('ZADD', KEYS[1], 'GT', now + tonumber(ARGV[i + 1]), ARGV[i])
end
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', now)
local found = redis.call('ZRANGE', KEYS[1], 0, 999, 'WITHSCORES')
for i = 2, #found, 2 do
  found[i] = string.format('%d', tonumber(found[i]) - now)
end
return found
"""


class SharedCooldowns:
    """Keeps an instance's cooldowns and Redis's in step, twice a second. While Redis is away each instance goes by what it knows.

    Args:
        cooldowns: This instance's.
        client: Redis.
    """

    def __init__(self, cooldowns: Cooldowns, client: redis.asyncio.Redis) -> None:
        self._cooldowns = cooldowns
        self._client = client
        self._waiting: dict[str, int] = {}
        self._news = asyncio.Event()
        self._away = False
        cooldowns.on_begin = self._note

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Keeps in step for the length of the block."""
        task = asyncio.create_task(self._run())
        try:
            yield
        finally:
            await stop(task)

    def _note(self, key: str, seconds: float, asked: bool) -> None:
        if len(self._waiting) < _MAX_WAITING:
            self._waiting[f"{int(asked)}{key}"] = int(seconds * 1000)
            self._news.set()

    async def _run(self) -> None:
        while True:
            await self._exchange()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_EVERY_S):
                    await self._news.wait()
            self._news.clear()

    async def _exchange(self) -> None:
        sent = self._waiting
        self._waiting = {}
        try:
            words: list[Any] = [word for pair in sent.items() for word in pair]
            found = await self._client.eval(_SCRIPT, 1, _KEY, *words)
        except _AWAY as error:
            # What could not be told is told later; it is no longer quite as long by then, which does no harm.
            self._waiting = {**sent, **self._waiting}
            if not self._away:
                log.warning("cooldowns_not_shared", cause=type(error).__name__)
            self._away = True
            await asyncio.sleep(_EVERY_S)
            return
        self._away = False
        for name, left_ms in zip(found[::2], found[1::2], strict=True):
            told = name.decode()
            self._cooldowns.learn(told[1:], int(left_ms) / 1000, asked=told[0] == "1")
