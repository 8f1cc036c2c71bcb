"""Writes what calls have used, in batches and beside the tokens' way."""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from typing import TYPE_CHECKING

import structlog
from prometheus_client import Counter, Gauge

from runtime.errors import Conflict, DeadlineExceeded, Unavailable
from services.gateway.usage.stopping import stop

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from services.gateway.usage.domain import OpenCall
    from services.gateway.usage.store import PostgresUsage

log = structlog.stdlib.get_logger()

WAITING = Gauge("parley_gateway_ledger_waiting", "Calls that are over and not yet in the ledger.")
LOST = Counter(
    "parley_gateway_ledger_lost_total", "Calls that are in the log only, since the ledger was away too long."
)

_BATCH = 500
_PAUSE_MAX_S = 5.0


class Ledger:
    """The writer.

    Args:
        store: Where rows go.
        every_s: Longest wait of a row for company.
        capacity: Most calls that wait while the store is away; of more the oldest go to the log.
    """

    def __init__(self, store: PostgresUsage, *, every_s: float = 0.1, capacity: int = 50_000) -> None:
        self._store = store
        self._every_s = every_s
        self._capacity = capacity
        # Under way and not stored; a call that ends before its turn comes is never stored as one.
        self._opened: dict[str, OpenCall] = {}
        self._over: deque[OpenCall] = deque()
        self._something = asyncio.Event()
        self._writing = asyncio.Lock()

    def opened(self, call: OpenCall) -> None:
        """Notes a call that is under way."""
        if not call.by_database:
            self._opened[call.id] = call
            self._something.set()

    def over(self, call: OpenCall) -> None:
        """Notes that a call is over."""
        self._opened.pop(call.id, None)
        self._over.append(call)
        if len(self._over) > self._capacity:
            lost = self._over.popleft()
            LOST.inc()
            log.error(
                "usage_lost", user_id=lost.user_id, org_id=lost.org_id, tokens=lost.used_tokens, rows=len(lost.used)
            )
        WAITING.set(len(self._over))
        self._something.set()

    async def flush(self) -> None:
        """Stores all that is noted.

        Raises: Unavailable, DeadlineExceeded, Conflict: it stays noted.
        """
        async with self._writing:
            while self._opened or self._over:
                opened, over = list(self._opened.values())[:_BATCH], [*self._over][:_BATCH]
                await self._store.keep(opened, over)
                stored = {call.id for call in over}
                while self._over and self._over[0].id in stored:
                    self._over.popleft()
                for call in opened:
                    # One that ended meanwhile is no longer there, and takes its reservation with it when its turn comes.
                    self._opened.pop(call.id, None)
                WAITING.set(len(self._over))

    @contextlib.asynccontextmanager
    async def running(self, *, grace_s: float = 5.0) -> AsyncIterator[None]:
        """Writes for the length of the block; at its end what is left, for `grace_s` seconds at most."""
        task = asyncio.create_task(self._run())
        try:
            yield
        finally:
            await stop(task)
            try:
                async with asyncio.timeout(grace_s):
                    await self._store_all()
            except TimeoutError:
                log.error("usage_not_stored", calls=len(self._over))  # noqa: TRY400 - the stack says nothing

    async def _run(self) -> None:
        while True:
            await self._something.wait()
            await asyncio.sleep(self._every_s)
            self._something.clear()
            await self._store_all()

    async def _store_all(self) -> None:
        pause_s = self._every_s
        while True:
            try:
                return await self.flush()
            except (Unavailable, DeadlineExceeded, Conflict) as error:
                log.warning("ledger_away", reason=error.code, waiting=len(self._over))
            except Exception:
                # Whatever it is, nobody else would write what follows.
                log.exception("ledger_failed")
            await asyncio.sleep(pause_s)
            pause_s = min(pause_s * 2, _PAUSE_MAX_S)
