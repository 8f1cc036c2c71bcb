"""Search: which of a user's conversations hold all the words, the best match first."""

from __future__ import annotations

import asyncio
import hashlib
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from runtime import validation
from services.data import paging
from services.data.conversations.domain import Conversation

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from runtime.context import Identity

QUERY_MAX_CHARS = 200
SNIPPET_MAX_CHARS = 200
SEARCHES_AT_ONCE = 2
"""How many run at once in an instance; each may take seconds."""
_RESULTS_A_PAGE = 20
_LEAD_CHARS = 60


@dataclass(frozen=True, slots=True)
class Match:
    """A conversation that holds all the words.

    Attributes:
        conversation: The conversation.
        message_id: The best matching message; None where the title matches.
        text: The title or the message's visible text.
        score: The higher the better; among equals the more recently active comes first.
    """

    conversation: Conversation
    message_id: str | None
    text: str
    score: int


@dataclass(frozen=True, slots=True)
class Result:
    """A conversation that was found; `snippet` is plain text around the match."""

    conversation: Conversation
    message_id: str | None
    snippet: str


class Store(Protocol):
    """Looks through the caller's own rows alone."""

    async def find(
        self, caller: Identity, words: Sequence[str], *, after: tuple[int, datetime, str] | None, limit: int
    ) -> list[Match]:
        """Returns conversations by score, activity and id, all descending, that come after the given place."""


class Search:
    """How a user finds conversations.

    Reading all that somebody ever said takes its time: only two searches run at once, so that they take no connection from answers.

    Args:
        store: Looks through them.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self._free = asyncio.Semaphore(SEARCHES_AT_ONCE)

    async def find(self, caller: Identity, query: str, *, page_size: int, page_token: str) -> tuple[list[Result], str]:
        """Returns a page of the conversations that hold all words of `query`, and the token of the next one; empty on the last.

        Raises: InvalidArgument; DeadlineExceeded: there was too much to look through.
        """
        validation.text("query", query, min_chars=1, max_chars=QUERY_MAX_CHARS)
        words = query.split()
        if not words:
            raise validation.invalid("query", "must not be white space alone.")
        size = validation.page_size(page_size, default=_RESULTS_A_PAGE)
        place = ("search", caller.org_id, caller.user_id, hashlib.sha256(" ".join(words).encode()).hexdigest()[:16])
        after: tuple[int, datetime, str] | None = None
        if page_token:
            score, *moment = paging.unseal(page_token, place, parts=3)
            after = (paging.score_of(score), *paging.moment_of(*moment))
        async with self._free:
            found = await self._store.find(caller, words, after=after, limit=size + 1)
        page = [Result(match.conversation, match.message_id, snippet(match.text, words)) for match in found[:size]]
        if len(found) == len(page):
            return page, ""
        last = found[size - 1]
        moment_token = paging.moment_parts(last.conversation.updated_at, last.conversation.id)
        return page, paging.seal(place, str(last.score), *moment_token)


def snippet(text: str, words: Sequence[str]) -> str:
    """Returns at most 200 characters of a text around the words side by side or else the first of them, white space made single spaces."""
    plain = " ".join(text.split())
    if len(plain) <= SNIPPET_MAX_CHARS:
        return plain
    side_by_side = " ".join(words)
    places = (re.search(re.escape(wanted), plain, re.IGNORECASE) for wanted in (side_by_side, *words))
    start = next((place.start() for place in places if place), 0)
    begin = max(min(start - _LEAD_CHARS, len(plain) - SNIPPET_MAX_CHARS + 1), 0)
    before = "…" if begin else ""
    room = SNIPPET_MAX_CHARS - len(before)
    if begin + room >= len(plain):
        return before + plain[begin:]
    return before + plain[begin : begin + room - 1] + "…"
