"""Runs: what they are, their rules, and how one begins, is kept and ends."""

from __future__ import annotations

import hashlib
import math
import re
import uuid
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import TYPE_CHECKING, Protocol

from runtime import validation
from runtime.errors import AlreadyExists, FailedPrecondition, NotFound
from runtime.ids import uuid7
from services.data.conversations.domain import Message, MessageState, Part, PartKind, Usage

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from runtime.context import Identity

CLIENT_MESSAGE_ID_MAX_CHARS = 128
MODEL_MAX_CHARS = 200
OWNER_MAX_CHARS = 200
HISTORY_MAX_MESSAGES = 200
_BYTES_A_TOKEN = 4
_LEASE_MIN_S = 0.001
_LEASE_MAX_S = 3600.0
_INT32_MAX = 2**31 - 1
_INT64_MAX = 2**63 - 1
_REASON = re.compile(r"[A-Z][A-Z0-9_]{0,62}")


class RunNotFound(NotFound):
    """There is no such run, or it is not the caller's."""

    reason = "RUN_NOT_FOUND"

    def __init__(self) -> None:
        super().__init__("There is no such run.")


class ClientMessageIdReused(AlreadyExists):
    """The client_message_id came before, with other content."""

    reason = "CLIENT_MESSAGE_ID_REUSED"

    def __init__(self) -> None:
        super().__init__("This client_message_id was sent before with other content; give a new message a new id.")


class StaleFence(FailedPrecondition):
    """Another owner has the run."""

    reason = "STALE_FENCE"

    def __init__(self) -> None:
        super().__init__("Another instance owns this run by now.")


class RunEnded(FailedPrecondition):
    """The run has ended."""

    reason = "RUN_ENDED"

    def __init__(self) -> None:
        super().__init__("This run has ended.")


class RunStatus(StrEnum):
    """Where a run stands; all but RUNNING are final."""

    RUNNING = "running"
    COMPLETED = "completed"
    CANCELLED = "cancelled"
    FAILED = "failed"
    INTERRUPTED = "interrupted"
    LIMITED = "limited"


ANSWER_STATE = {
    RunStatus.COMPLETED: MessageState.COMPLETE,
    RunStatus.CANCELLED: MessageState.CANCELLED,
    RunStatus.FAILED: MessageState.FAILED,
    RunStatus.INTERRUPTED: MessageState.INTERRUPTED,
    # The model said all that it was allowed to.
    RunStatus.LIMITED: MessageState.COMPLETE,
}
"""What the end of a run makes of its answer."""


@dataclass(frozen=True, slots=True)
class Run:
    """A run as it is stored; `lease_expires_at` is None once it has ended, `ended_at` until then."""

    id: str
    conversation_id: str
    user_message_id: str
    answer_message_id: str
    client_message_id: str | None
    model: str
    status: RunStatus
    error_reason: str
    last_seq: int
    fence: int
    owner: str
    lease_expires_at: datetime | None
    created_at: datetime
    ended_at: datetime | None


@dataclass(frozen=True, slots=True)
class BeginRequest:
    """What a run begins with; empty texts where nothing was given.

    Attributes:
        conversation_id: UUID; empty makes a conversation.
        client_message_id: The caller's own id for the message.
        content: The user's message.
        model: Model or alias asked for.
        owner: Name of the instance that will own the run.
        lease_s: How long its lease lasts unless renewed.
        history_max_messages: Most messages of history.
        history_max_tokens: Most tokens of history.
    """

    conversation_id: str
    client_message_id: str
    content: str
    model: str
    owner: str
    lease_s: float
    history_max_messages: int
    history_max_tokens: int


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
class NewRun:
    """A run about to be stored, unless it is a resend.

    Attributes:
        conversation_id: The conversation named; None creates `new_conversation_id` unless it is there.
        content_sha256: What a resend must agree with.
        history_max_bytes: Most UTF-8 bytes of visible text in the history.
    """

    id: str
    conversation_id: str | None
    new_conversation_id: str
    user_message_id: str
    answer_message_id: str
    client_message_id: str | None
    parts: tuple[Part, ...]
    text_bytes: int
    content_sha256: bytes
    model: str
    owner: str
    now: datetime
    lease_expires_at: datetime
    history_max_messages: int
    history_max_bytes: int


@dataclass(frozen=True, slots=True)
class Begun:
    """A run that has begun; `existing` when an earlier call began it, `history` oldest first without the new message."""

    run: Run
    user_message: Message
    history: list[Message]
    existing: bool
    conversation_created: bool


class Store(Protocol):
    """Keeps runs; each method is one transaction, sees the caller's own rows alone, and is atomic under concurrency."""

    async def begin(self, caller: Identity, new: NewRun) -> Begun:
        """Stores a run with its messages, or finds the one this is a resend of.

        Raises: ConversationNotFound; ClientMessageIdReused.
        """

    async def checkpoint(
        self,
        caller: Identity,
        run_id: str,
        *,
        fence: int,
        parts: tuple[Part, ...],
        text_bytes: int,
        last_seq: int,
        lease_expires_at: datetime,
    ) -> None:
        """Stores the answer so far and renews the lease; parts older than what is stored only renew it.

        Raises: RunNotFound; StaleFence; RunEnded.
        """

    async def finish(
        self, caller: Identity, request: FinishRequest, *, state: MessageState, text_bytes: int, now: datetime
    ) -> Run:
        """Ends a run that is running; returns the run as it is stored.

        Raises: RunNotFound; StaleFence.
        """

    async def find(self, caller: Identity, run_id: str) -> tuple[Run, Message, Message]:
        """Returns a run, its user message and its answer.

        Raises: RunNotFound.
        """


class Runs:
    """How a run begins, is kept and ends.

    Args:
        store: Keeps them.
        clock: Seconds since the epoch.
        message_max_chars: Longest message of a user.
    """

    def __init__(self, store: Store, clock: Callable[[], float], *, message_max_chars: int) -> None:
        self._store = store
        self._clock = clock
        self._message_max_chars = message_max_chars

    async def begin(self, caller: Identity, request: BeginRequest) -> Begun:
        """Begins a run, or returns the one that the same client_message_id began.

        Raises: InvalidArgument; ConversationNotFound; ClientMessageIdReused.
        """
        conversation_id = (
            validation.identifier("conversation_id", request.conversation_id) if request.conversation_id else None
        )
        validation.text("client_message_id", request.client_message_id, max_chars=CLIENT_MESSAGE_ID_MAX_CHARS)
        validation.text("content", request.content, min_chars=1, max_chars=self._message_max_chars)
        if request.content.isspace():
            raise validation.invalid("content", "must not be white space alone.")
        validation.text("model", request.model, max_chars=MODEL_MAX_CHARS)
        validation.text("owner", request.owner, min_chars=1, max_chars=OWNER_MAX_CHARS)
        validation.number("lease", request.lease_s, minimum=_LEASE_MIN_S, maximum=_LEASE_MAX_S)
        validation.number("history_max_messages", request.history_max_messages, minimum=0, maximum=HISTORY_MAX_MESSAGES)
        validation.number("history_max_tokens", request.history_max_tokens, minimum=0, maximum=_INT32_MAX)
        content = request.content.encode()
        now = self._now()
        return await self._store.begin(
            caller,
            NewRun(
                id=uuid7(),
                conversation_id=conversation_id,
                new_conversation_id=_new_conversation_id(caller, request.client_message_id),
                user_message_id=uuid7(),
                answer_message_id=uuid7(),
                client_message_id=request.client_message_id or None,
                parts=(Part(PartKind.TEXT, request.content),),
                text_bytes=len(content),
                content_sha256=hashlib.sha256(content).digest(),
                model=request.model,
                owner=request.owner,
                now=now,
                lease_expires_at=now + timedelta(seconds=request.lease_s),
                history_max_messages=request.history_max_messages,
                history_max_bytes=request.history_max_tokens * _BYTES_A_TOKEN,
            ),
        )

    async def checkpoint(
        self, caller: Identity, run_id: str, *, fence: int, parts: Sequence[Part], last_seq: int, lease_s: float
    ) -> None:
        """Stores what is visible of a running answer and renews the owner's lease, which never gets shorter.

        Raises: InvalidArgument; RunNotFound; StaleFence; RunEnded.
        """
        identifier = validation.identifier("run_id", run_id)
        validation.number("fence", fence, minimum=1, maximum=_INT64_MAX)
        validation.number("last_seq", last_seq, minimum=0, maximum=_INT64_MAX)
        validation.number("lease", lease_s, minimum=_LEASE_MIN_S, maximum=_LEASE_MAX_S)
        storable = _storable(parts)
        await self._store.checkpoint(
            caller,
            identifier,
            fence=fence,
            parts=storable,
            text_bytes=_text_bytes(storable),
            last_seq=last_seq,
            lease_expires_at=self._now() + timedelta(seconds=lease_s),
        )

    async def finish(self, caller: Identity, request: FinishRequest) -> Run:
        """Ends a run; one that has ended is returned as it is stored.

        Raises: InvalidArgument; RunNotFound; StaleFence.
        """
        identifier = validation.identifier("run_id", request.run_id)
        validation.number("fence", request.fence, minimum=1, maximum=_INT64_MAX)
        if request.status is None or request.status is RunStatus.RUNNING:
            raise validation.invalid("status", "must be a final status.")
        if (request.status is RunStatus.FAILED) != bool(request.error_reason):
            raise validation.invalid("error_reason", "must be given for a failed run, and for no other.")
        if request.error_reason and not _REASON.fullmatch(request.error_reason):
            raise validation.invalid("error_reason", "must be UPPER_SNAKE, at most 63 characters.")
        validation.text("model", request.model, max_chars=MODEL_MAX_CHARS)
        validation.number("last_seq", request.last_seq, minimum=0, maximum=_INT64_MAX)
        _check_usage(request.usage)
        storable = _storable(request.parts)
        return await self._store.finish(
            caller,
            FinishRequest(
                run_id=identifier,
                fence=request.fence,
                status=request.status,
                error_reason=request.error_reason,
                parts=storable,
                usage=request.usage,
                model=request.model,
                last_seq=request.last_seq,
            ),
            state=ANSWER_STATE[request.status],
            text_bytes=_text_bytes(storable),
            now=self._now(),
        )

    async def get(self, caller: Identity, run_id: str) -> tuple[Run, Message, Message]:
        """Returns a run, its user message and its answer as far as they are stored.

        Raises: InvalidArgument; RunNotFound.
        """
        return await self._store.find(caller, validation.identifier("run_id", run_id))

    def _now(self) -> datetime:
        return datetime.fromtimestamp(self._clock(), UTC)


def _new_conversation_id(caller: Identity, client_message_id: str) -> str:
    """Returns the id of the conversation a message opens; the same one when the message is sent again."""
    if not client_message_id:
        return uuid7()
    return str(uuid.uuid5(uuid.UUID(caller.user_id), f"{caller.org_id} {client_message_id}"))


def _storable(parts: Sequence[Part]) -> tuple[Part, ...]:
    """Returns the parts with U+0000, which Postgres cannot store, replaced by U+FFFD: no answer is lost for a character, no offset moves.

    Raises: InvalidArgument: a part of no known kind.
    """
    if any(part.kind is None for part in parts):
        raise validation.invalid("parts", "each must be text or reasoning.")
    return tuple(Part(part.kind, part.text.replace("\x00", "\ufffd")) for part in parts)


def _text_bytes(parts: Sequence[Part]) -> int:
    return sum(len(part.text.encode()) for part in parts if part.kind is PartKind.TEXT)


def _check_usage(usage: Usage | None) -> None:
    if usage is None:
        return
    for name in ("input_tokens", "output_tokens", "cached_tokens", "reasoning_tokens"):
        validation.number(f"usage.{name}", getattr(usage, name), minimum=0, maximum=_INT64_MAX)
    if usage.cost_usd is not None and not (math.isfinite(usage.cost_usd) and usage.cost_usd >= 0):
        raise validation.invalid("usage.cost_usd", "must be a number that is not negative.")
