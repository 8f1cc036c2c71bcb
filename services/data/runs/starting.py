"""How a run begins: once, in its place in the tree of messages, and while no more are active than may be."""

from __future__ import annotations

import hashlib
import uuid
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from typing import TYPE_CHECKING, Protocol

from runtime import validation
from runtime.ids import uuid7
from services.data.conversations.domain import Part, PartKind
from services.data.runs.domain import (
    MODEL_MAX_CHARS,
    OWNER_MAX_CHARS,
    ActiveLimits,
    RequestLimits,
    check_lease,
    check_limits,
    check_request_limits,
    history_max_bytes,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from runtime.context import Identity
    from services.data.runs.domain import Begun

CLIENT_MESSAGE_ID_MAX_CHARS = 128
MAX_TRIES = 10


class OnConflict(StrEnum):
    """What happens to a new run while as many are active as may be."""

    REJECT = "reject"
    ENQUEUE = "enqueue"
    INTERRUPT = "interrupt"


class BranchKind(StrEnum):
    """How a run leaves the branch its conversation is on."""

    EDIT = "edit"
    REGENERATE = "regenerate"
    CONTINUE = "continue"


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
        background: Into the queue, whatever else is active.
        max_tries: How often it may be tried; 0: once.
        on_conflict: What happens when no more runs may be active; None where the request named something we do not know.
        limits: How many may be.
        request_limits: How many may begin in a while.
        branch: Where it goes, and the id of the message there; None: after the newest message.
    """

    conversation_id: str
    client_message_id: str
    content: str
    model: str
    owner: str
    lease_s: float
    history_max_messages: int
    history_max_tokens: int
    background: bool
    max_tries: int
    on_conflict: OnConflict | None
    limits: ActiveLimits
    request_limits: RequestLimits
    branch: tuple[BranchKind, str] | None


@dataclass(frozen=True, slots=True)
class NewRun:
    """A run about to be stored, unless it is a resend.

    Attributes:
        conversation_id: The conversation named; None creates `new_conversation_id` unless it is there.
        new_conversation_id: The conversation's id, whether it is made or there.
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
    lease_s: float
    history_max_messages: int
    history_max_bytes: int
    background: bool
    max_tries: int
    on_conflict: OnConflict
    limits: ActiveLimits
    request_limits: RequestLimits
    branch: tuple[BranchKind, str] | None


class Store(Protocol):
    """Keeps runs; atomic under concurrency, and sees the caller's own rows alone."""

    async def begin(self, caller: Identity, new: NewRun) -> Begun:
        """Stores a run with its messages, or finds the one this is a resend of.

        Raises: ConversationNotFound; MessageNotFound; ClientMessageIdReused; ConcurrentRequest; QueueFull; RequestLimitExceeded;
            DailyLimitExceeded; MessageNotFinished; NotInterrupted.
        """


class Starting:
    """How a run begins.

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

        Raises: InvalidArgument; whatever `Store.begin` raises.
        """
        conversation_id = (
            validation.identifier("conversation_id", request.conversation_id) if request.conversation_id else None
        )
        validation.text("client_message_id", request.client_message_id, max_chars=CLIENT_MESSAGE_ID_MAX_CHARS)
        branch = _branch(request)
        if branch is None or branch[0] is BranchKind.EDIT:
            validation.text("content", request.content, min_chars=1, max_chars=self._message_max_chars)
            if request.content.isspace():
                raise validation.invalid("content", "must not be white space alone.")
        elif request.content:
            raise validation.invalid("content", "must be empty where an answer is given anew or gone on with.")
        validation.text("model", request.model, max_chars=MODEL_MAX_CHARS)
        validation.text("owner", request.owner, min_chars=1, max_chars=OWNER_MAX_CHARS)
        check_lease("lease", request.lease_s)
        max_bytes = history_max_bytes(request.history_max_messages, request.history_max_tokens)
        validation.number("max_tries", request.max_tries, minimum=0, maximum=MAX_TRIES)
        if request.on_conflict is None:
            raise validation.invalid("on_conflict", "must be REJECT, ENQUEUE or INTERRUPT.")
        check_limits(request.limits)
        check_request_limits(request.request_limits)
        return await self._store.begin(
            caller,
            NewRun(
                id=uuid7(),
                conversation_id=conversation_id,
                new_conversation_id=conversation_id or _new_conversation_id(caller, request.client_message_id),
                user_message_id=uuid7(),
                answer_message_id=uuid7(),
                client_message_id=request.client_message_id or None,
                parts=(Part(PartKind.TEXT, request.content),),
                text_bytes=len(request.content.encode()),
                content_sha256=_digest(request.content, branch),
                model=request.model,
                owner=request.owner,
                now=datetime.fromtimestamp(self._clock(), UTC),
                lease_s=request.lease_s,
                history_max_messages=request.history_max_messages,
                history_max_bytes=max_bytes,
                background=request.background,
                max_tries=request.max_tries or 1,
                on_conflict=request.on_conflict,
                limits=request.limits,
                request_limits=request.request_limits,
                branch=branch,
            ),
        )


def _branch(request: BeginRequest) -> tuple[BranchKind, str] | None:
    if request.branch is None:
        return None
    kind, message_id = request.branch
    identifier = validation.identifier(f"{kind}_message_id", message_id)
    if not request.conversation_id:
        raise validation.invalid("conversation_id", f"must name the conversation of {kind}_message_id.")
    return kind, identifier


def _digest(content: str, branch: tuple[BranchKind, str] | None) -> bytes:
    """Returns what a resend must agree with: the content, and the place where there is one."""
    place = f"{branch[0]} {branch[1]}\n" if branch else ""
    return hashlib.sha256(f"{place}{content}".encode()).digest()


def _new_conversation_id(caller: Identity, client_message_id: str) -> str:
    """Returns the id of the conversation a message opens; the same one when the message is sent again."""
    if not client_message_id:
        return uuid7()
    return str(uuid.uuid5(uuid.UUID(caller.user_id), f"{caller.org_id} {client_message_id}"))
