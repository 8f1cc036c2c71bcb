"""What callers and operators ask about usage and budgets."""

from __future__ import annotations

import time
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import TYPE_CHECKING

from runtime import validation
from services.gateway.usage.domain import KINDS, TOKENS_MAX, ScopeKind, day_end, scope_of, scopes_of
from services.gateway.usage.store import Wanted

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from asyncpg import Record

    from runtime.context import Identity
    from services.gateway.usage.budgets import Budgets
    from services.gateway.usage.store import PostgresUsage

DAYS, DAYS_MAX = 30, 366
PAGE_SIZE, PAGE_SIZE_MAX = 100, 1000


@dataclass(frozen=True, slots=True)
class Budget:
    """Where a scope stands today; `limit` None: none; `inherited`: by default."""

    kind: ScopeKind
    current: int
    limit: int | None
    resets_at: datetime
    inherited: bool


@dataclass(frozen=True, slots=True)
class Asked:
    """What a list of usage was asked for, as it came."""

    first: str
    last: str
    org_id: str
    user_id: str
    by: tuple[bool, bool, bool, bool, bool]
    page_size: int
    page_token: str


class Accounts:
    """The use cases.

    Args:
        store: The truth.
        budgets: The running counters and the defaults.
        clock: Seconds since the epoch.
    """

    def __init__(self, store: PostgresUsage, budgets: Budgets, clock: Callable[[], float] = time.time) -> None:
        self._store = store
        self._budgets = budgets
        self._clock = clock

    async def own(self, caller: Identity, days: int) -> tuple[Sequence[Record], Sequence[Budget]]:
        """Returns the caller's usage by day and model, and their own and the organization's budget.

        Raises: InvalidArgument.
        """
        validation.number("days", days, minimum=0, maximum=DAYS_MAX)
        since = self._today() - timedelta(days=(days or DAYS) - 1)
        rows = await self._store.own_usage(caller.org_id, caller.user_id, since)
        scopes = zip(KINDS, scopes_of(caller.org_id, caller.user_id), strict=True)
        return rows, [await self._budget(kind, scope) for kind, scope in scopes if kind is not ScopeKind.GLOBAL]

    async def everybodys(self, asked: Asked) -> tuple[Sequence[Record], str]:
        """Returns one page of usage, the newest day first, and the token of the next one.

        Raises: InvalidArgument.
        """
        last = _day("to_day", asked.last) or self._today()
        first = _day("from_day", asked.first) or last - timedelta(days=min(DAYS - 1, (last - date.min).days))
        if not timedelta(0) <= last - first <= timedelta(days=DAYS_MAX):
            raise validation.invalid("from_day", f"must be at most {DAYS_MAX} days before to_day, and not after it.")
        validation.number("page_size", asked.page_size, minimum=0, maximum=PAGE_SIZE_MAX)
        size, skip = asked.page_size or PAGE_SIZE, 0
        if asked.page_token:
            [given] = validation.decode_page_token(asked.page_token, parts=1)
            if not (given.isascii() and given.isdigit() and len(given) < 10):  # noqa: PLR2004 - what an integer of SQL holds
                raise validation.invalid(
                    "page_token", "is not a token this list gave out; leave it empty for the first page."
                )
            skip = int(given)
        wanted = Wanted(
            first,
            last,
            validation.identifier("org_id", asked.org_id) if asked.org_id else None,
            validation.identifier("user_id", asked.user_id) if asked.user_id else None,
            asked.by,
        )
        rows = await self._store.usage(wanted, size + 1, skip)
        return rows[:size], validation.encode_page_token(str(skip + size)) if len(rows) > size else ""

    async def budget(self, kind: ScopeKind, org_id: str, user_id: str) -> Budget:
        """Returns where a scope stands.

        Raises: InvalidArgument.
        """
        return await self._budget(kind, scope_of(kind, org_id, user_id))

    async def set_budget(
        self, kind: ScopeKind, org_id: str, user_id: str, limit: int | None, *, inherit: bool
    ) -> Budget:
        """Sets a scope's budget (None: no limit), or lets the default hold again; returns where it stands.

        Raises: InvalidArgument.
        """
        scope = scope_of(kind, org_id, user_id)
        if inherit:
            await self._store.clear_budget(scope)
        else:
            if limit is not None:
                validation.number("limit_tokens", limit, minimum=0, maximum=TOKENS_MAX)
            await self._store.set_budget(scope, limit)
        await self._budgets.changed(self._today())
        return await self._budget(kind, scope)

    async def _budget(self, kind: ScopeKind, scope: str) -> Budget:
        now = datetime.fromtimestamp(self._clock(), UTC)
        stored = await self._store.budget(scope, now.date())
        current = await self._budgets.current(scope)
        default = self._budgets.defaults.each()[KINDS.index(kind)]
        return Budget(
            kind,
            stored.current if current is None else current,
            stored.limit if stored.is_set else default,
            day_end(now),
            not stored.is_set,
        )

    def _today(self) -> date:
        return datetime.fromtimestamp(self._clock(), UTC).date()


def _day(field: str, text: str) -> date | None:
    if not text:
        return None
    try:
        return datetime.strptime(text, "%Y-%m-%d").replace(tzinfo=UTC).date()
    except ValueError:
        raise validation.invalid(field, "must be a day, as 2026-01-31.") from None
