"""Writes what calls have used, in batches and beside the tokens' way."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
from collections import deque
from typing import TYPE_CHECKING

import structlog
from prometheus_client import Counter, Gauge

from runtime.errors import Conflict, DeadlineExceeded, Unavailable
from runtime.stopping import stop
from services.gateway.usage.store import Unkeepable

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from services.gateway.usage.domain import OpenCall
    from services.gateway.usage.store import PostgresUsage

log = structlog.stdlib.get_logger()

WAITING = Gauge("parley_gateway_ledger_waiting", "Calls that are over and not yet in the ledger.")
LOST = Counter(
    "parley_gateway_ledger_lost_total",
    "Calls that are in the log only: the ledger was away too long, or could not hold them.",
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
        # Under way and not stored, or not with the provider they are at; a call that ends before its turn comes is never stored as one.
        self._opened: dict[str, OpenCall] = {}
        self._over: deque[OpenCall] = deque()
        # All of which the database may know as under way.
        self._live: set[str] = set()
        self._something = asyncio.Event()
        self._writing = asyncio.Lock()

    def live(self) -> Sequence[str]:
        """Returns the ids of the calls that are under way, or over and not stored yet."""
        return list(self._live)

    def begins(self, call: OpenCall) -> None:
        """Notes that a call is about to be let in; it must be told to be over, or to have been refused."""
        self._live.add(call.id)

    def refused(self, call: OpenCall) -> None:
        """Notes that a call was not let in."""
        self._live.discard(call.id)

    def opened(self, call: OpenCall) -> None:
        """Notes a call that is let in, and about to be at a provider: at the first, or at another than before."""
        self._live.add(call.id)
        # One that the database let in too: it was let in before anybody was called.
        self._opened[call.id] = call
        self._something.set()

    def over(self, call: OpenCall) -> None:
        """Notes that a call is over."""
        self._opened.pop(call.id, None)
        self._over.append(call)
        if len(self._over) > self._capacity:
            self._lose(self._over.popleft(), "ledger_away")
        WAITING.set(len(self._over))
        self._something.set()

    async def flush(self) -> None:
        """Stores all that is noted.

        Raises: Unavailable, DeadlineExceeded, Conflict: it stays noted.
        """
        async with self._writing:
            while self._opened or self._over:
                opened, over = list(self._opened.values())[:_BATCH], list(itertools.islice(self._over, _BATCH))
                where = [(call.provider_name, call.model) for call in opened]
                try:
                    await self._store.keep(opened, over)
                except Unkeepable:
                    await self._keep_singly(opened, over)
                stored = {call.id for call in over}
                while self._over and self._over[0].id in stored:
                    self._live.discard(self._over.popleft().id)
                for call, told in zip(opened, where, strict=True):
                    # One that ended meanwhile is no longer there, and takes its reservation with it when its turn comes.
                    # One that went on to another provider meanwhile is told of again.
                    if (call.provider_name, call.model) == told:
                        self._opened.pop(call.id, None)
                WAITING.set(len(self._over))

    async def _keep_singly(self, opened: Sequence[OpenCall], over: Sequence[OpenCall]) -> None:
        """Stores what can be stored: one call that cannot must not keep all others from it. What was stored before is passed over."""
        for call in opened:
            try:
                await self._store.keep([call], [])
            except Unkeepable:
                log.warning("reservation_not_kept", call_id=call.id)
        for call in over:
            try:
                await self._store.keep([], [call])
            except Unkeepable as error:
                self._lose(call, str(error))

    def _lose(self, call: OpenCall, cause: str) -> None:
        self._live.discard(call.id)
        LOST.inc()
        log.error(
            "usage_lost",
            cause=cause,
            call_id=call.id,
            user_id=call.user_id,
            org_id=call.org_id,
            day=str(call.day),
            tokens=call.used_tokens,
            rows=len(call.used),
        )

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
                for call in self._over:
                    self._lose(call, "stopped")

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
