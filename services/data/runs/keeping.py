"""How a run is kept while it is answered, changes hands, is tried again, and ends."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Protocol

from runtime import validation
from runtime.context import Identity
from runtime.errors import InvalidArgument
from services.data.conversations.domain import Part, Usage
from services.data.runs.domain import (
    ANSWER_STATE,
    MODEL_MAX_CHARS,
    RunStatus,
    check_fence,
    check_last_seq,
    check_lease,
    check_reason,
    check_usage,
    history_max_bytes,
    storable,
    text_bytes,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from services.data.conversations.domain import Message, MessageState
    from services.data.runs.domain import Begun, Run

CHECKPOINTS_MAX = 100
_RUNS_A_PAGE = 50
_DELAY_MAX_S = 86_400.0


@dataclass(frozen=True, slots=True)
class Progress:
    """What an owner stores of a running answer.

    Attributes:
        parts: Everything up to the event `last_seq`.
        usage: Of the model calls that have ended; None: what is stored of it stays.
    """

    run_id: str
    fence: int
    parts: tuple[Part, ...]
    last_seq: int
    usage: Usage | None = None


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """One of several checkpoints that are stored at once; `text_bytes` is what its parts weigh."""

    caller: Identity
    progress: Progress
    lease_s: float
    text_bytes: int = 0


@dataclass(frozen=True, slots=True)
class FinishRequest:
    """What a run ends with; `status` is None where the request named none that we know."""

    run_id: str
    fence: int
    status: RunStatus | None
    error_reason: str
    parts: tuple[Part, ...]
    usage: Usage | None
    model: str
    last_seq: int


@dataclass(frozen=True, slots=True)
class RetryRequest:
    """What is left of a try that failed, and how long to wait before the next one."""

    run_id: str
    fence: int
    error_reason: str
    delay_s: float
    parts: tuple[Part, ...]
    usage: Usage | None
    last_seq: int


class Store(Protocol):
    """Keeps runs; each method is one transaction, sees the caller's own rows alone, and is atomic under concurrency."""

    async def load(
        self, caller: Identity, run_id: str, *, fence: int, history_max_messages: int, history_max_bytes: int
    ) -> Begun:
        """Returns a run with its messages and its history.

        Raises: RunNotFound; StaleFence; RunEnded.
        """

    async def checkpoint(self, caller: Identity, progress: Progress, *, text_bytes: int, lease_s: float) -> bool:
        """Stores the answer so far and renews the lease; parts older than what is stored only renew it.

        Returns: whether somebody wants the run stopped.
        Raises: RunNotFound; StaleFence; RunEnded.
        """

    async def checkpoint_many(self, checkpoints: Sequence[Checkpoint]) -> list[bool | None]:
        """Does what `checkpoint` does for each, in one transaction: says whether somebody wants the run stopped, None where it was not stored."""

    async def release(self, caller: Identity, progress: Progress, *, text_bytes: int) -> None:
        """Stores the answer so far and gives the run back.

        Raises: RunNotFound; StaleFence; RunEnded.
        """

    async def retry(self, caller: Identity, request: RetryRequest, *, text_bytes: int, now: datetime) -> Run:
        """Puts a run back into the queue, or ends it after its last try.

        Raises: RunNotFound; StaleFence; RunEnded.
        """

    async def finish(
        self, caller: Identity, request: FinishRequest, *, state: MessageState, text_bytes: int, now: datetime
    ) -> Run:
        """Ends a run that is running; returns the run as it is stored.

        Raises: RunNotFound; StaleFence.
        """

    async def cancel(self, caller: Identity, run_id: str, now: datetime) -> Run:
        """Stores the wish to stop a run, and ends it where nobody owns it.

        Raises: RunNotFound.
        """

    async def find(self, caller: Identity, run_id: str) -> tuple[Run, Message, Message]:
        """Returns a run, its user message and its answer.

        Raises: RunNotFound.
        """

    async def list_runs(
        self, caller: Identity, conversation_id: str, *, after_run_id: str | None, active_only: bool, limit: int
    ) -> list[Run]:
        """Returns the runs of a conversation in the order in which they began.

        Raises: ConversationNotFound; RunNotFound: `after_run_id` is none of this conversation.
        """


class Keeping:
    """How a run is kept, changes hands and ends.

    Args:
        store: Keeps them.
        clock: Seconds since the epoch; leases are by the database's own.
    """

    def __init__(self, store: Store, clock: Callable[[], float]) -> None:
        self._store = store
        self._clock = clock

    async def load(
        self, caller: Identity, run_id: str, *, fence: int, history_max_messages: int, history_max_tokens: int
    ) -> Begun:
        """Returns a claimed run with what is stored of it and the history that fits.

        Raises: InvalidArgument; RunNotFound; StaleFence; RunEnded.
        """
        identifier = validation.identifier("run_id", run_id)
        check_fence(fence)
        max_bytes = history_max_bytes(history_max_messages, history_max_tokens)
        return await self._store.load(
            caller, identifier, fence=fence, history_max_messages=history_max_messages, history_max_bytes=max_bytes
        )

    async def checkpoint(self, caller: Identity, progress: Progress, *, lease_s: float) -> bool:
        """Stores what is visible of a running answer and renews the owner's lease, which never gets shorter.

        Returns: whether somebody wants the run stopped.
        Raises: InvalidArgument; RunNotFound; StaleFence; RunEnded.
        """
        checked = _checked(progress)
        check_lease("lease", lease_s)
        return await self._store.checkpoint(caller, checked, text_bytes=text_bytes(checked.parts), lease_s=lease_s)

    async def checkpoint_many(self, checkpoints: Sequence[Checkpoint | None]) -> list[bool | None]:
        """Does what `checkpoint` does for each; one that cannot be stored hinders no other.

        Args:
            checkpoints: Those to store; None keeps the place of one that is refused already.

        Returns: for each, whether somebody wants the run stopped; None where it was not stored.
        Raises: InvalidArgument: there are none, or too many.
        """
        validation.number("items", len(checkpoints), minimum=1, maximum=CHECKPOINTS_MAX)
        checked = list(map(_checked_one, checkpoints))
        good = [one for one in checked if one is not None]
        stored = iter(await self._store.checkpoint_many(good) if good else ())
        return [None if one is None else next(stored) for one in checked]

    async def release(self, caller: Identity, progress: Progress) -> None:
        """Stores what is visible and gives the run back, to be claimed at once; sent again it changes nothing.

        Raises: InvalidArgument; RunNotFound; StaleFence; RunEnded.
        """
        checked = _checked(progress)
        await self._store.release(caller, checked, text_bytes=text_bytes(checked.parts))

    async def retry(self, caller: Identity, request: RetryRequest) -> Run:
        """Puts a failed try back into the queue; after the last one the run ends. Sent again it changes nothing.

        Raises: InvalidArgument; RunNotFound; StaleFence; RunEnded.
        """
        progress = _checked(Progress(request.run_id, request.fence, request.parts, request.last_seq))
        check_reason(request.error_reason)
        validation.number("delay", request.delay_s, minimum=0, maximum=_DELAY_MAX_S)
        check_usage(request.usage)
        checked = replace(request, run_id=progress.run_id, parts=progress.parts)
        return await self._store.retry(caller, checked, text_bytes=text_bytes(checked.parts), now=self._now())

    async def finish(self, caller: Identity, request: FinishRequest) -> Run:
        """Ends a run; one that has ended is returned as it is stored.

        Raises: InvalidArgument; RunNotFound; StaleFence.
        """
        identifier = validation.identifier("run_id", request.run_id)
        check_fence(request.fence)
        state = ANSWER_STATE.get(request.status) if request.status else None
        if state is None:
            raise validation.invalid("status", "must be a final status.")
        if (request.status is RunStatus.FAILED) != bool(request.error_reason):
            raise validation.invalid("error_reason", "must be given for a failed run, and for no other.")
        if request.error_reason:
            check_reason(request.error_reason)
        validation.text("model", request.model, max_chars=MODEL_MAX_CHARS)
        check_last_seq(request.last_seq)
        check_usage(request.usage)
        checked = replace(request, run_id=identifier, parts=storable(request.parts))
        size = text_bytes(checked.parts)
        return await self._store.finish(caller, checked, state=state, text_bytes=size, now=self._now())

    async def cancel(self, caller: Identity, run_id: str) -> Run:
        """Stores the wish to stop a run; one that nobody owns yet ends at once, one that has ended stays as it is.

        Raises: InvalidArgument; RunNotFound.
        """
        return await self._store.cancel(caller, validation.identifier("run_id", run_id), self._now())

    async def get(self, caller: Identity, run_id: str) -> tuple[Run, Message, Message]:
        """Returns a run, its user message and its answer as far as they are stored.

        Raises: InvalidArgument; RunNotFound.
        """
        return await self._store.find(caller, validation.identifier("run_id", run_id))

    async def list_runs(
        self, caller: Identity, conversation_id: str, *, after_run_id: str, active_only: bool, page_size: int
    ) -> Sequence[Run]:
        """Returns the runs of a conversation in the order in which they began, from the first after `after_run_id` where one is given.

        Raises: InvalidArgument; ConversationNotFound; RunNotFound.
        """
        identifier = validation.identifier("conversation_id", conversation_id)
        after = validation.identifier("after_run_id", after_run_id) if after_run_id else None
        limit = validation.page_size(page_size, default=_RUNS_A_PAGE)
        return await self._store.list_runs(caller, identifier, after_run_id=after, active_only=active_only, limit=limit)

    def _now(self) -> datetime:
        return datetime.fromtimestamp(self._clock(), UTC)


def _checked(progress: Progress) -> Progress:
    identifier = validation.identifier("run_id", progress.run_id)
    check_fence(progress.fence)
    check_last_seq(progress.last_seq)
    check_usage(progress.usage)
    return replace(progress, run_id=identifier, parts=storable(progress.parts))


def _checked_one(checkpoint: Checkpoint | None) -> Checkpoint | None:
    if checkpoint is None:
        return None
    try:
        check_lease("lease", checkpoint.lease_s)
        progress = _checked(checkpoint.progress)
    except InvalidArgument:
        return None
    return replace(checkpoint, progress=progress, text_bytes=text_bytes(progress.parts))
