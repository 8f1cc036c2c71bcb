"""Runs that nobody owns: claiming them, and what becomes of those that were given up."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import TYPE_CHECKING, Protocol

from runtime import validation
from runtime.errors import NotFound
from runtime.permissions import SERVICE_ROLE
from services.data import paging
from services.data.runs.domain import OWNER_MAX_CHARS, ActiveLimits, Run, check_lease, check_limits

if TYPE_CHECKING:
    from runtime.context import Identity

CLAIMS_MAX = 100
_LETTERS_A_PAGE = 50
_SUSPICION_MAX_S = 3600.0
TAKEOVERS_MAX = 5
"""How often a run is left behind before it ends. Owners end one they can take up earlier."""


class DeadLetterNotFound(NotFound):
    """There is no such dead letter, or it is of another organization."""

    reason = "DEAD_LETTER_NOT_FOUND"

    def __init__(self) -> None:
        super().__init__("There is no such dead letter.")


class ClaimKind(StrEnum):
    """Why a run was there to be claimed."""

    QUEUED = "queued"
    RELEASED = "released"
    LAPSED = "lapsed"


@dataclass(frozen=True, slots=True)
class ClaimRequest:
    """Who wants runs, how many, and on which terms.

    Attributes:
        owner: Name of the instance that will own them.
        lease_s: How long its leases last unless renewed.
        suspicion_s: How long a lapsed lease must have been seen lapsed.
        max_runs: Most runs to take.
        limits: How many runs may be active, which queued ones wait for.
    """

    owner: str
    lease_s: float
    suspicion_s: float
    max_runs: int
    limits: ActiveLimits


@dataclass(frozen=True, slots=True)
class Claim:
    """A run that was claimed, whose it is, who had it before, and with what role it was begun; empty where that was not noted."""

    run: Run
    kind: ClaimKind
    user_id: str
    org_id: str
    previous_owner: str
    begun_as: str


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """A background run that was given up, and whose it is."""

    run: Run
    user_id: str
    created_at: datetime


class Store(Protocol):
    """Looks across users: callers check permissions first. Each method is one transaction and atomic under concurrency."""

    async def claim(self, caller: Identity, request: ClaimRequest) -> tuple[list[Claim], datetime | None]:
        """Takes runs that nobody owns, and says when a queued one becomes due that is not yet."""

    async def end_forsaken(self, caller: Identity, *, suspicion_s: float, max_takeovers: int) -> None:
        """Ends, as interrupted, what could be claimed but has been left behind that often already."""

    async def list_dead_letters(
        self, caller: Identity, *, after: tuple[datetime, str] | None, limit: int
    ) -> list[DeadLetter]:
        """Returns dead letters by time and id, both descending, that come after the given place."""

    async def retry_dead_letter(self, caller: Identity, run_id: str) -> Run:
        """Queues a dead letter.

        Raises: DeadLetterNotFound.
        """

    async def drop_dead_letter(self, caller: Identity, run_id: str) -> None:
        """Takes a dead letter off the list.

        Raises: DeadLetterNotFound.
        """


class Queue:
    """How runs are claimed, and what an operator can do with those that were given up.

    Args:
        store: Keeps them.
    """

    def __init__(self, store: Store) -> None:
        self._store = store

    async def claim(self, caller: Identity, request: ClaimRequest) -> tuple[list[Claim], datetime | None]:
        """Takes runs that nobody owns, and says when a queued one becomes due that is not yet.

        One that nobody can take up, since its user is gone, say, would otherwise be claimed and left behind for ever: it is ended.

        Raises: InvalidArgument.
        """
        validation.text("owner", request.owner, min_chars=1, max_chars=OWNER_MAX_CHARS)
        check_lease("lease", request.lease_s)
        validation.number("suspicion", request.suspicion_s, minimum=0, maximum=_SUSPICION_MAX_S)
        validation.number("max_runs", request.max_runs, minimum=1, maximum=CLAIMS_MAX)
        check_limits(request.limits)
        await self._store.end_forsaken(caller, suspicion_s=request.suspicion_s, max_takeovers=TAKEOVERS_MAX)
        return await self._store.claim(caller, request)

    async def list_dead_letters(
        self, caller: Identity, *, page_size: int, page_token: str
    ) -> tuple[list[DeadLetter], str]:
        """Returns a page of the caller's organization's dead letters, the newest first, and the token of the next one; empty on the last.

        Raises: InvalidArgument.
        """
        size = validation.page_size(page_size, default=_LETTERS_A_PAGE)
        place = ("dead_letters", "" if caller.role == SERVICE_ROLE else caller.org_id)
        after = paging.unseal_moment(page_token, place) if page_token else None
        found = await self._store.list_dead_letters(caller, after=after, limit=size + 1)
        page = found[:size]
        if len(found) == len(page):
            return page, ""
        return page, paging.seal_moment(place, page[-1].created_at, page[-1].run.id)

    async def retry_dead_letter(self, caller: Identity, run_id: str) -> Run:
        """Puts a dead letter back into the queue with all its tries before it.

        Raises: InvalidArgument; DeadLetterNotFound.
        """
        return await self._store.retry_dead_letter(caller, validation.identifier("run_id", run_id))

    async def drop_dead_letter(self, caller: Identity, run_id: str) -> None:
        """Takes a dead letter off the list; its run stays as it ended.

        Raises: InvalidArgument; DeadLetterNotFound.
        """
        await self._store.drop_dead_letter(caller, validation.identifier("run_id", run_id))
