"""Search in Postgres: the user's own rows are read, no index of everybody's words is kept."""

from __future__ import annotations

from typing import TYPE_CHECKING

from services.data.conversations.store import conversation_of
from services.data.search.domain import Match
from services.data.tenancy import claims_of

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from runtime.context import Identity
    from runtime.postgres import Database


class PostgresSearch:
    """`Store` on Postgres; whose rows a statement sees is row-level security's to say."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def find(
        self, caller: Identity, words: Sequence[str], *, after: tuple[int, datetime, str] | None, limit: int
    ) -> list[Match]:
        """Returns conversations by score, activity and id, all descending, that come after the given place."""
        patterns = [_pattern(word) for word in words]
        together = _pattern(" ".join(words))
        async with self._database.transaction(claims_of(caller)) as transaction:
            await transaction.fetch_row("bound_search")
            rows = await transaction.fetch(
                "search_conversations", patterns, together, *(after or (None, None, None)), limit
            )
        return [
            Match(
                conversation=conversation_of(row),
                message_id=None if row["message_id"] is None else str(row["message_id"]),
                text=row["text"],
                score=row["score"],
            )
            for row in rows
        ]


def _pattern(words: str) -> str:
    escaped = words.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_")
    return f"%{escaped}%"
