"""Words between instances, over Redis' publish and subscribe."""

from __future__ import annotations

import asyncio
import contextlib
import time
from typing import TYPE_CHECKING

import structlog
from redis.exceptions import RedisError

from services.chat import metrics
from services.chat.domain import NotStopped

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    import redis.asyncio
    from redis.asyncio.client import PubSub

log = structlog.stdlib.get_logger()

_AWAY = (RedisError, OSError, TimeoutError)
_PAUSE_S = 1.0
_WAIT_S = 1.0
_QUEUE = "parley:chat:queue"
_WORDS_MAX = 100


def begun_channel(org_id: str, conversation_id: str) -> str:
    """Returns where a conversation's new runs are told."""
    return f"parley:{org_id}:{{{conversation_id}}}:runs"


class RedisSignals:
    """`Signals` on Redis. A word may be lost: whoever sends it looks at what is stored, and sends it again.

    Args:
        client: Answers bytes.
        owner: Name of this process.
    """

    def __init__(self, client: redis.asyncio.Redis, owner: str) -> None:
        self._client = client
        self._own = _cancel_channel(owner)
        self._subscription: PubSub | None = None
        self._listeners: dict[str, list[_Listener]] = {}

    async def ask_to_cancel(self, owner: str, run_id: str) -> None:
        """Asks once.

        Raises: NotStopped: Redis is away.
        """
        if not await self._publish(_cancel_channel(owner), run_id):
            raise NotStopped

    async def tell_queued(self) -> None:
        """Tells every instance that there is something to claim."""
        await self._publish(_QUEUE, "")

    async def tell_begun(self, org_id: str, conversation_id: str, run_id: str) -> None:
        """Tells the watchers of a conversation of a new run; those of this instance also while Redis is away."""
        channel = begun_channel(org_id, conversation_id)
        self._hand_out(channel, run_id)
        await self._publish(channel, run_id)

    def tell_begun_here(self, org_id: str, conversation_id: str, run_id: str) -> None:
        """Tells only the watchers of this instance; the tail tells the others."""
        self._hand_out(begun_channel(org_id, conversation_id), run_id)

    @contextlib.asynccontextmanager
    async def begun(self, org_id: str, conversation_id: str) -> AsyncIterator[_Listener]:
        """Gives the runs of a conversation that are told of during the block."""
        channel = begun_channel(org_id, conversation_id)
        listener = _Listener(self)
        listeners = self._listeners.setdefault(channel, [])
        listeners.append(listener)
        try:
            if len(listeners) == 1:
                await self._tune(channel, subscribe=True)
            yield listener
        finally:
            listeners.remove(listener)
            if not listeners:
                del self._listeners[channel]
                await self._tune(channel, subscribe=False)

    @property
    def listening(self) -> bool:
        """Whether words from other instances arrive just now."""
        return self._subscription is not None

    async def listen(self, cancel: Callable[[str], None], queued: Callable[[], None]) -> None:
        """Calls `cancel` with each run that another instance wants stopped, `queued` when there is something to claim; never returns."""
        away = False
        while True:
            try:
                async with self._client.pubsub(ignore_subscribe_messages=True) as subscription:
                    channels = {self._own, _QUEUE, *self._listeners}
                    await subscription.subscribe(*channels)
                    self._subscription = subscription
                    if late := self._listeners.keys() - channels:
                        await subscription.subscribe(*late)
                    if away:
                        log.info("signals_back")
                        away = False
                    while True:
                        message = await subscription.get_message(timeout=_WAIT_S)
                        if message is None:
                            continue
                        channel, word = message["channel"].decode(), message["data"].decode()
                        if channel == self._own:
                            cancel(word)
                        elif channel == _QUEUE:
                            queued()
                        else:
                            self._hand_out(channel, word)
            except _AWAY as error:
                metrics.TAIL_FAILURES.labels("listen").inc()
                if not away:
                    log.warning("signals_away", error=type(error).__name__)
                    away = True
                self._subscription = None
                await asyncio.sleep(_PAUSE_S)
            finally:
                self._subscription = None

    def _hand_out(self, channel: str, word: str) -> None:
        for listener in self._listeners.get(channel, ()):
            listener.hear(word)

    async def _tune(self, channel: str, *, subscribe: bool) -> None:
        subscription = self._subscription
        if subscription is None:
            return  # the next one begins with all channels
        try:
            await (subscription.subscribe(channel) if subscribe else subscription.unsubscribe(channel))
        except _AWAY:
            metrics.TAIL_FAILURES.labels("listen").inc()

    async def _publish(self, channel: str, word: str) -> bool:
        try:
            await self._client.publish(channel, word)
        except _AWAY as error:
            metrics.TAIL_FAILURES.labels("signal").inc()
            log.warning("signal_not_sent", error=type(error).__name__)
            return False
        return True


class _Listener:
    """`Announcements` of one watcher."""

    def __init__(self, signals: RedisSignals) -> None:
        self._signals = signals
        self._words: asyncio.Queue[tuple[str, float]] = asyncio.Queue(_WORDS_MAX)

    @property
    def reliable(self) -> bool:
        """Whether a word is likely to arrive just now."""
        return self._signals.listening

    def hear(self, word: str) -> None:
        with contextlib.suppress(asyncio.QueueFull):  # what is stored tells the rest
            self._words.put_nowait((word, time.monotonic()))

    async def next(self, timeout_s: float) -> tuple[str, float] | None:
        """Returns the id of the next run told of, and when it was; None where none was within the time."""
        try:
            async with asyncio.timeout(timeout_s):
                return await self._words.get()
        except TimeoutError:
            return None


def _cancel_channel(owner: str) -> str:
    return f"parley:chat:{owner}:cancel"
