"""Keeps what is held back in order: puts off this instance's, takes back what instances that are gone held."""

from __future__ import annotations

import asyncio
import contextlib
import time
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import structlog
from prometheus_client import Counter

from runtime.errors import ParleyError
from runtime.stopping import stop
from services.gateway.usage.counters import NotReady
from services.gateway.usage.domain import ABANDONED, Used, scopes_of
from services.gateway.usage.scripts import AWAY
from services.gateway.usage.store import today

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Sequence

    from services.gateway.usage.budgets import Budgets
    from services.gateway.usage.counters import RedisCounters
    from services.gateway.usage.domain import OpenCall
    from services.gateway.usage.store import PostgresUsage

log = structlog.stdlib.get_logger()

RECLAIMED = Counter(
    "parley_gateway_budget_reclaimed_total", "Calls whose instance went away without saying what they used."
)

_EARLY = timedelta(minutes=2)
# A call that Redis has held for so long is in Postgres too, unless its instance died in the moment before.
_KNOWN_AFTER = timedelta(seconds=60)
_RENEWALS_FIRST = 2


class Janitor:
    """Does so every few seconds.

    Args:
        store: The truth.
        counters: The running counters; None: there are none.
        budgets: Makes Redis ready.
        live: Ids of the calls this instance holds something back for.
        every_s: Between two rounds.
        clock: Seconds since the epoch.
    """

    def __init__(
        self,
        store: PostgresUsage,
        counters: RedisCounters | None,
        budgets: Budgets,
        live: Callable[[], Sequence[str]],
        *,
        every_s: float = 10.0,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._store = store
        self._counters = counters
        self._budgets = budgets
        self._live = live
        self._every_s = every_s
        self._clock = clock
        self._renewals = 0

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Does its rounds for the length of the block."""
        task = asyncio.create_task(self._run())
        try:
            yield
        finally:
            await stop(task)

    async def _run(self) -> None:
        while True:
            try:
                await self.round()
            except (ParleyError, *AWAY) as error:
                # When Postgres comes back everybody's reservations have lapsed: all get time to renew theirs first.
                self._renewals = 0
                log.warning("janitor_held_up", error=type(error).__name__)
            except Exception:
                log.exception("janitor_failed")
            await asyncio.sleep(self._every_s)

    async def round(self) -> None:
        """Does one round.

        Raises: whatever Postgres or Redis raise.
        """
        await self._store.renew(self._live())
        self._renewals += 1
        if self._renewals > _RENEWALS_FIRST:
            await self.reclaim()
        if self._counters is None:
            return
        now = self._clock()
        # Before midnight the next day too, so that its first calls find it.
        await self._budgets.prepare(today(now))
        await self._budgets.compare(today(now))
        if today(now + _EARLY.total_seconds()) != today(now):
            await self._budgets.prepare(today(now + _EARLY.total_seconds()), ahead=True)

    async def reclaim(self) -> None:
        """Takes back what is held for calls of which nobody will tell any more.

        Raises: whatever Postgres or Redis raise.
        """
        now = datetime.fromtimestamp(self._clock(), UTC)
        days = {now.date(), (now - timedelta(hours=1)).date()}
        held = {call.id: call for day in days for call in await self._open(day) if now - call.started_at > _KNOWN_AFTER}
        gone = await self._store.reclaim()
        for one in gone:
            log.warning("usage_reclaimed", call_id=one.id, tokens=one.tokens)
            RECLAIMED.inc()
        known = await self._store.find(list(held)) if held else {}
        await self._keep_unknown([call for call in held.values() if call.id not in known], now)
        for call in held.values():
            if (used := known.get(call.id, call.used_tokens)) is not None and self._counters is not None:
                with contextlib.suppress(NotReady):
                    await self._counters.settle(call.id, call.day, scopes_of(call.org_id, call.user_id), used)

    async def _open(self, day: object) -> Sequence[OpenCall]:
        return await self._counters.open_calls(day) if self._counters is not None else []  # type: ignore[arg-type]

    async def _keep_unknown(self, calls: Sequence[OpenCall], now: datetime) -> None:
        for call in calls:
            call.used.append(
                Used(
                    call.id,
                    call.provider,
                    call.model,
                    call.input_tokens,
                    0,
                    0,
                    0,
                    None,
                    True,
                    ABANDONED,
                    call.started_at,
                    now,
                )
            )
            RECLAIMED.inc()
        if calls:
            await self._store.keep([], calls)
