"""Runs that nobody owns, in Postgres."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

import structlog

from services.data.queue.domain import Claim, ClaimKind, DeadLetter, DeadLetterNotFound
from services.data.runs.store import run_of
from services.data.tenancy import claims_json

if TYPE_CHECKING:
    from datetime import datetime

    from runtime.context import Identity
    from runtime.postgres import Database
    from services.data.queue.domain import ClaimRequest
    from services.data.runs.domain import Run

log = structlog.stdlib.get_logger()


class PostgresQueue:
    """`Store` on Postgres: functions that see the columns of ownership of everybody's runs."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def claim(self, caller: Identity, request: ClaimRequest) -> tuple[list[Claim], datetime | None]:
        """Takes runs that nobody owns, and says when a queued one becomes due that is not yet."""
        *claimed, last = await self._database.fetch(
            "claim_runs",
            claims_json(caller),
            request.owner,
            timedelta(seconds=request.lease_s),
            timedelta(seconds=request.suspicion_s),
            request.max_runs,
            request.limits.per_user,
            request.limits.per_conversation,
        )
        claims = [
            Claim(
                run=run_of(row),
                kind=ClaimKind(row["kind"]),
                user_id=str(row["user_id"]),
                org_id=str(row["org_id"]),
                previous_owner=row["previous_owner"],
                begun_as=row["begun_as"],
            )
            for row in claimed
        ]
        return claims, last["next_due_at"]

    async def end_forsaken(self, caller: Identity, *, suspicion_s: float, max_takeovers: int) -> None:
        """Ends, as interrupted, what could be claimed but has been left behind that often already."""
        row = await self._database.fetch_row(
            "end_forsaken_runs", claims_json(caller), timedelta(seconds=suspicion_s), max_takeovers
        )
        if row is not None and row["ended"]:
            log.warning("forsaken_runs_ended", count=row["ended"])

    async def list_dead_letters(
        self, caller: Identity, *, after: tuple[datetime, str] | None, limit: int
    ) -> list[DeadLetter]:
        """Returns dead letters by time and id, both descending, that come after the given place."""
        rows = await self._database.fetch("list_dead_letters", claims_json(caller), *(after or (None, None)), limit)
        return [DeadLetter(run_of(row), str(row["user_id"]), row["dead_lettered_at"]) for row in rows]

    async def retry_dead_letter(self, caller: Identity, run_id: str) -> Run:
        """Queues a dead letter."""
        row = await self._database.fetch_row("retry_dead_letter", claims_json(caller), run_id)
        if row is None:
            raise DeadLetterNotFound
        return run_of(row)

    async def drop_dead_letter(self, caller: Identity, run_id: str) -> None:
        """Takes a dead letter off the list."""
        if await self._database.fetch_row("drop_dead_letter", claims_json(caller), run_id) is None:
            raise DeadLetterNotFound
