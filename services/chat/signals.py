"""A word to the instance that owns a run, over Redis' publish and subscribe."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import structlog
from redis.exceptions import RedisError

from services.chat import metrics
from services.chat.domain import NotStopped

if TYPE_CHECKING:
    from collections.abc import Callable

    import redis.asyncio

log = structlog.stdlib.get_logger()

_AWAY = (RedisError, OSError, TimeoutError)
_PAUSE_S = 1.0
_WAIT_S = 1.0


class RedisSignals:
    """`Signals` on Redis. A word may be lost: whoever sends it looks at what is stored, and sends it again.

    Args:
        client: Answers bytes.
        owner: Name of this process.
    """

    def __init__(self, client: redis.asyncio.Redis, owner: str) -> None:
        self._client = client
        self._owner = owner

    async def ask_to_cancel(self, owner: str, run_id: str) -> None:
        """Asks once.

        Raises: NotStopped: Redis is away.
        """
        try:
            await self._client.publish(_channel(owner), run_id)
        except _AWAY as error:
            metrics.TAIL_FAILURES.labels("signal").inc()
            log.warning("signal_not_sent", error=type(error).__name__)
            raise NotStopped from None

    async def listen(self, cancel: Callable[[str], None]) -> None:
        """Calls `cancel` with each run that another instance wants stopped; never returns."""
        away = False
        while True:
            try:
                async with self._client.pubsub(ignore_subscribe_messages=True) as subscription:
                    await subscription.subscribe(_channel(self._owner))
                    if away:
                        log.info("signals_back")
                        away = False
                    while True:
                        message = await subscription.get_message(timeout=_WAIT_S)
                        if message is not None:
                            cancel(message["data"].decode())
            except _AWAY as error:
                metrics.TAIL_FAILURES.labels("listen").inc()
                if not away:
                    log.warning("signals_away", error=type(error).__name__)
                    away = True
                await asyncio.sleep(_PAUSE_S)


def _channel(owner: str) -> str:
    return f"parley:chat:{owner}:cancel"
