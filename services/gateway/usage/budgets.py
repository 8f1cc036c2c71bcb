"""Lets calls in as long as nobody's tokens of the day are used up, and settles what they have used."""

from __future__ import annotations

import asyncio
import contextlib
import time
from functools import partial
from typing import TYPE_CHECKING, Any

import structlog
from prometheus_client import Counter

from runtime.errors import ParleyError
from runtime.stopping import stop
from services.gateway.usage.counters import NotReady
from services.gateway.usage.domain import GLOBAL
from services.gateway.usage.scripts import AWAY
from services.gateway.usage.store import today

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable
    from datetime import date

    from services.gateway.usage.counters import RedisCounters
    from services.gateway.usage.domain import Limits, OpenCall
    from services.gateway.usage.store import PostgresUsage

log = structlog.stdlib.get_logger()

FALLBACKS = Counter(
    "parley_gateway_budget_fallbacks_total", "Calls that Postgres let in, or refused, in place of Redis."
)

# By then every instance has written what it knew when Redis was lost.
_AVOIDED_S = 0.5
_DRAIN_S = 2.0
# What a call waits for a Redis that did not answer the last time.
_GLANCE_S = 0.05
# Whatever was on its way to Redis has arrived by then.
_SETTLED_S = 1.0


class Budgets:
    """Tokens of the day.

    Args:
        store: The truth.
        counters: The running counters; None: the truth is asked each time.
        defaults: Limits where none were set.
        write: Brings to Postgres what this process knows.
        clock: Seconds since the epoch.
    """

    def __init__(
        self,
        store: PostgresUsage,
        counters: RedisCounters | None,
        defaults: Limits,
        *,
        write: Callable[[], Awaitable[None]],
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._store = store
        self._counters = counters
        self.defaults = defaults
        self._write = write
        self._clock = clock
        self._recovering: asyncio.Task[None] | None = None
        self._answers = False
        self._late: list[OpenCall] = []
        self._elsewhere: dict[str, OpenCall] = {}
        self._settling: set[asyncio.Future[Any]] = set()

    async def reserve(self, call: OpenCall) -> None:
        """Holds a call's tokens back: by Redis, or by Postgres where Redis is away or does not know of the day.

        Raises: TokenBudgetExceeded; Unavailable, DeadlineExceeded, Conflict: neither can be asked.
        """
        await self.admit(call, self.ask(call))

    def ask(self, call: OpenCall) -> asyncio.Future[Any] | None:
        """Begins what `reserve` does, by asking Redis; None: it is not asked just now."""
        if self._counters is None or self._recovering is not None:
            return None
        return self._counters.ask(call, self.defaults)

    async def admit(self, call: OpenCall, asked: asyncio.Future[Any] | None) -> None:
        """Ends what `reserve` does: returns once the call is let in.

        Args:
            call: The call.
            asked: What `ask` has returned for it.

        Raises: as `reserve`.
        """
        if self._counters is not None:
            if asked is not None:
                try:
                    await self._counters.answer(call, asked)
                except NotReady:
                    self._recover(call.day, "not_ready")
                except AWAY as error:
                    self._recover(call.day, type(error).__name__)
                else:
                    return
            FALLBACKS.inc()
            # What Redis let in a moment ago counts too.
            await self._write()
        call.by_database = True
        await self._store.reserve(call, self.defaults)
        if self._counters is not None:
            await self._tell(call)

    def settle(self, call: OpenCall) -> None:
        """Counts what a call has used in place of what was held back for it; nothing waits for that."""
        if self._counters is None:
            return
        self._elsewhere.pop(call.id, None)
        if self._recovering is not None:
            self._late.append(call)
            return
        told = self._counters.tell(call.id, call.day, call.scopes, call.used_tokens)
        self._settling.add(told)
        told.add_done_callback(partial(self._settled, call))

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Asks Redis for the length of the block; at its end what was begun is finished."""
        async with contextlib.AsyncExitStack() as stack:
            if self._counters is not None:
                await stack.enter_async_context(self._counters.scripts.running())
            try:
                yield
            finally:
                if self._settling:
                    await asyncio.wait(self._settling, timeout=_DRAIN_S)
                if self._recovering is not None:
                    await stop(self._recovering)

    async def prepare(self, day: date, *, ahead: bool = False) -> None:
        """Sees to it that Redis knows a day, and the budgets that were set.

        Args:
            day: Today, or with `ahead` one that has not begun.
            ahead: As said.

        Raises: whatever Postgres or Redis raise.
        """
        if self._counters is None:
            return
        await self._counters.limit(day, await self._store.budgets())
        if ahead:
            async with self._store.stopped(day) as state:
                await self._counters.rebuild(day, state)
        elif not await self._counters.ready(day):
            self._recover(day, "not_ready")

    async def compare(self, day: date) -> None:
        """Has the counters built anew where Redis knows of less than Postgres: it came back with what it had stored long ago, or lost the last of it.

        Raises: whatever Postgres or Redis raise.
        """
        for wait_s in (_SETTLED_S, 0.0):
            # In this order: what is in Postgres has been counted in Redis, or is about to be.
            used = await self._store.used(day, GLOBAL)
            if self._counters is None or self._recovering is not None:
                return
            counted = await self._counters.used(day, GLOBAL)
            if counted is None or counted >= used:
                return
            await asyncio.sleep(wait_s)
        self._recover(day, "behind")

    async def changed(self, day: date) -> None:
        """Takes over budgets that were set just now; where Redis is away this is done when it is back."""
        try:
            if self._counters is not None:
                await self._counters.limit(day, await self._store.budgets())
        except AWAY as error:
            self._recover(day, type(error).__name__)

    async def current(self, scope: str) -> int | None:
        """Returns what a scope has used and holds back today; None where Redis cannot tell."""
        if self._counters is None or self._recovering is not None:
            return None
        try:
            return await self._counters.current(today(self._clock()), scope)
        except AWAY:
            return None

    async def _tell(self, call: OpenCall) -> None:
        """Tells Redis of a call that Postgres let in: where Redis has been brought back meanwhile, only what Redis lets in too is let in."""
        assert self._counters is not None  # noqa: S101 - not called otherwise
        # Another instance may have found it back before this one has.
        wait_s = None if self._recovering is None or self._answers else _GLANCE_S
        try:
            async with asyncio.timeout(wait_s):
                return await self._counters.reserve(call, self.defaults)
        except NotReady:
            # Postgres will not be read for Redis before it knows of this call.
            return None
        except AWAY:
            self._answers = False
        self._elsewhere[call.id] = call
        return None

    def _settled(self, call: OpenCall, told: asyncio.Future[Any]) -> None:
        assert self._counters is not None  # noqa: S101 - as above
        self._settling.discard(told)
        if told.cancelled():
            return
        try:
            self._counters.settled(told.result())
        except NotReady:
            if call.day == today(self._clock()):
                # It may yet be taken over as under way.
                self._late.append(call)
                self._recover(call.day, "not_ready")
        except AWAY as error:
            # Not tried again, since it may have been counted.
            self._recover(call.day, type(error).__name__)

    def _recover(self, day: date, cause: str) -> None:
        if self._recovering is None:
            log.warning("budgets_by_postgres", cause=cause)
            self._answers = False
            self._recovering = asyncio.create_task(self._recovered(day))

    async def _recovered(self, day: date) -> None:
        """Brings Redis back into use, with what Postgres knows: calls were let in and have ended without Redis meanwhile."""
        assert self._counters is not None  # noqa: S101 - as above
        while True:
            try:
                # From here on nobody counts by it; what was let in by it before, every instance will have written.
                await self._counters.forget(day)
                self._answers = True
                await asyncio.sleep(_AVOIDED_S)
                await self._take_over(day)
            except (ParleyError, *AWAY) as error:
                log.warning("budgets_not_rebuilt", error=type(error).__name__)
                await asyncio.sleep(_AVOIDED_S)
            except Exception:
                # Whatever it is, nobody else would bring Redis back into use.
                log.exception("budgets_not_rebuilt")
                await asyncio.sleep(_AVOIDED_S)
            else:
                log.info("budgets_by_redis", day=str(day))
                self._recovering = None
                # Those that ended meanwhile may have been taken over as under way.
                late, self._late = self._late, []
                for call in late:
                    self.settle(call)
                return

    async def _take_over(self, day: date) -> None:
        assert self._counters is not None  # noqa: S101 - as above
        await self._write()
        await self._counters.limit(day, await self._store.budgets())
        # Whom Postgres lets in is in what is taken over, or finds it taken over.
        async with self._store.stopped(day) as state:
            await self._counters.rebuild(day, state)
        # From here on each is told of itself. Another instance may have been faster, and have seen none of these.
        self._answers = True
        told, self._elsewhere = self._elsewhere, {}
        await asyncio.gather(*(self._counters.adopt(call) for call in told.values()))
