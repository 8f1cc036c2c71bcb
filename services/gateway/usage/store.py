"""Usage and budgets in Postgres."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import asyncpg

from runtime import queries
from services.gateway.usage.domain import KINDS, OpenCall, TokenBudgetExceeded, read_call

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from asyncpg import Record

    from runtime.postgres import Database
    from services.gateway.usage.domain import Limits

# What no repetition will store: a number past its type, a text that is none.
_UNKEEPABLE = (asyncpg.DataError, asyncpg.IntegrityConstraintViolationError)

QUERIES = queries.load(Path(__file__).with_name("queries.sql"))
LEASE = timedelta(seconds=60)
"""How long an instance may be silent before what it holds back is taken from it."""


@dataclass(frozen=True, slots=True)
class Reclaimed:
    """A call whose instance is gone: it is taken to have used so many tokens."""

    id: str
    day: date
    tokens: int


@dataclass(frozen=True, slots=True)
class DayState:
    """What budgets have counted of a day, by scope, and what is held back on top of that."""

    totals: Mapping[str, int]
    open: Sequence[OpenCall]


@dataclass(frozen=True, slots=True)
class BudgetRow:
    """A scope's budget as it was set, and where it stands; `limit` means nothing unless `is_set`."""

    is_set: bool
    limit: int | None
    current: int


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a list of usage is to show.

    Attributes:
        by: Whether rows are told apart by organization, user, bot, vendor with model, and provider.
    """

    first: date
    last: date
    org_id: str | None
    user_id: str | None
    by: tuple[bool, bool, bool, bool, bool]


class Unkeepable(Exception):
    """Something of what was to be stored never can be."""


class PostgresUsage:
    """The truth of usage.

    Args:
        database: Opened with `QUERIES`, as the role `parley_gateway`.
        instance: Name of this process.
    """

    def __init__(self, database: Database, instance: str) -> None:
        self._database = database
        self._instance = instance

    async def keep(self, opened: Sequence[OpenCall], over: Sequence[OpenCall]) -> None:
        """Stores calls under way and calls that are over; doing so again changes nothing but the provider that a call under way is at.

        A call that was taken for abandoned, and whose instance tells after all, is stored as told.

        Raises: Unavailable, DeadlineExceeded, Conflict; Unkeepable: nothing is stored.
        """
        rows = [row for call in over for row in call.rows()]
        try:
            await self._database.fetch_row(
                "keep_usage",
                json.dumps(rows),
                json.dumps([{**call.reservation(), "provider_name": call.provider_name} for call in opened]),
                [call.id for call in over],
                self._instance,
                LEASE,
            )
        except _UNKEEPABLE as error:
            raise Unkeepable(type(error).__name__) from None

    async def reserve(self, call: OpenCall, defaults: Limits) -> None:
        """Holds a call's tokens back.

        Raises: TokenBudgetExceeded; Unavailable, DeadlineExceeded, Conflict.
        """
        scopes = call.scopes
        limits = [None if most is None else str(most) for most in defaults.each()]
        row = await self._database.fetch_row(
            "reserve_tokens", json.dumps(call.reservation()), list(scopes), limits, self._instance, LEASE
        )
        if row is not None:
            raise TokenBudgetExceeded(KINDS[scopes.index(row["scope"])], row["current"], row["most"], call.started_at)

    async def renew(self, ids: Sequence[str]) -> None:
        """Says that this instance lives and knows of some calls; what it holds back for others lapses."""
        await self._database.fetch_row("renew_reservations", self._instance, LEASE, list(ids))

    async def reclaim(self, most: int = 1000) -> Sequence[Reclaimed]:
        """Takes back what instances held that are gone, and stores their calls as estimated."""
        rows = await self._database.fetch("reclaim_tokens", most)
        return [Reclaimed(str(row["id"]), row["day"], row["tokens"]) for row in rows]

    async def find(self, ids: Sequence[str]) -> Mapping[str, int | None]:
        """Returns those of some calls that are stored: with the tokens they have used, or None while they are under way."""
        rows = await self._database.fetch("find_calls", list(ids))
        return {str(row["id"]): None if row["open"] else row["tokens"] for row in rows}

    async def day(self, day: date) -> DayState:
        """Returns all that counts against a day's budgets."""
        async with self.stopped(day) as state:
            return state

    @contextlib.asynccontextmanager
    async def stopped(self, day: date) -> AsyncIterator[DayState]:
        """Gives all that counts against a day's budgets; for the length of the block nothing is added to it."""
        async with self._database.transaction() as transaction:
            await transaction.fetch("lock_usage")
            row = await transaction.fetch_row("read_day", day)
            assert row is not None  # noqa: S101 - it answers one row always
            totals, opened = json.loads(row["totals"] or "{}"), json.loads(row["open"] or "[]")
            yield DayState(totals, [read_call(one) for one in opened])

    async def used(self, day: date, scope: str) -> int:
        """Returns what a scope is known to have used on a day."""
        row = await self._database.fetch_row("find_used", day, scope)
        return row["tokens"] if row is not None else 0

    async def budgets(self) -> Mapping[str, int | None]:
        """Returns the budgets that were set, by scope; None: no limit."""
        return {row["scope"]: row["tokens"] for row in await self._database.fetch("list_budgets")}

    async def budget(self, scope: str, day: date) -> BudgetRow:
        """Returns a scope's budget and where it stands on a day."""
        row = await self._database.fetch_row("find_budget", scope, day)
        assert row is not None  # noqa: S101 - it answers one row always
        return BudgetRow(row["is_set"], row["most"], row["current"])

    async def set_budget(self, scope: str, limit: int | None) -> None:
        """Sets a scope's budget; None: no limit."""
        await self._database.fetch_row("set_budget", scope, limit)

    async def clear_budget(self, scope: str) -> None:
        """Lets the default hold again."""
        await self._database.fetch_row("clear_budget", scope)

    async def own_usage(self, org_id: str, user_id: str, since: date) -> Sequence[Record]:
        """Returns a user's usage by day and model, the newest day first."""
        return await self._database.fetch("list_own_usage", org_id, user_id, since)

    async def usage(self, wanted: Wanted, most: int, skip: int) -> Sequence[Record]:
        """Returns usage by day and what else is wanted, the newest day first."""
        return await self._database.fetch(
            "list_usage", wanted.first, wanted.last, wanted.org_id, wanted.user_id, *wanted.by, most, skip
        )


def today(now: float) -> date:
    """Returns the day of a moment in seconds since the epoch, UTC."""
    return datetime.fromtimestamp(now, UTC).date()
