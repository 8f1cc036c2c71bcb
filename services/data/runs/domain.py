"""Runs: what they are, how they may stand, and what can be wrong with them."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from typing import TYPE_CHECKING

from runtime import validation
from runtime.errors import AlreadyExists, Conflict, FailedPrecondition, NotFound, ResourceExhausted
from services.data.conversations.domain import Earlier, Message, MessageState, Part, PartKind

if TYPE_CHECKING:
    from collections.abc import Sequence

    from services.data.conversations.domain import Usage

MODEL_MAX_CHARS = 200
OWNER_MAX_CHARS = 200
HISTORY_MAX_MESSAGES = 200
INT32_MAX = 2**31 - 1
REQUESTS_MAX = 10_000
"""Highest limit of requests: as many moments are kept of each user."""
_BYTES_A_TOKEN = 4
_LEASE_MIN_S = 0.001
_LEASE_MAX_S = 3600.0
_INT64_MAX = 2**63 - 1
# The sequence numbers that a run's end adds must fit as well.
_SEQ_MAX = 2**62
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
    """Another owner has the run, or nobody."""

    reason = "STALE_FENCE"

    def __init__(self) -> None:
        super().__init__("Another instance owns this run by now.")


class RunEnded(FailedPrecondition):
    """The run has ended."""

    reason = "RUN_ENDED"

    def __init__(self) -> None:
        super().__init__("This run has ended.")


class ConcurrentRequest(Conflict):
    """As many runs are active as may be; metadata `run_id` names one that is in the way."""

    reason = "CONCURRENT_REQUEST"

    def __init__(self, run_id: str) -> None:
        super().__init__("Another answer is still being given; wait for it, or stop it.", run_id=run_id)


class QueueFull(ResourceExhausted):
    """The user has as many queued runs as may be."""

    reason = "QUEUE_FULL"

    def __init__(self) -> None:
        super().__init__("Too many of your requests are waiting already; wait until some have been answered.")


class RequestLimitExceeded(ResourceExhausted):
    """The user has begun as many runs as may be in a minute or an hour.

    Args:
        limit_type: `requests_minute`, `requests_hour` or `requests_day`.
        current: Runs begun in the window.
        limit: How many may be.
        resets_at: When one of them leaves the window, so that another may begin.
        now: By the same clock.
    """

    reason = "RATE_LIMIT_EXCEEDED"

    def __init__(self, limit_type: str, current: int, limit: int, resets_at: datetime, now: datetime) -> None:
        super().__init__(
            "You have sent as many messages as may be for now; wait until there is room for another.",
            retry_after_s=max((resets_at - now).total_seconds(), 0.001),
            limit_type=limit_type,
            current=str(current),
            limit=str(limit),
            resets_at=resets_at.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z"),
        )


class DailyLimitExceeded(RequestLimitExceeded):
    """The user has begun as many runs as may be in a day."""

    reason = "DAILY_LIMIT_EXCEEDED"


class MessageNotFinished(FailedPrecondition):
    """The message is still being written."""

    reason = "MESSAGE_NOT_FINISHED"

    def __init__(self) -> None:
        super().__init__("This message is still being written; wait for its end, or stop it.")


class NotInterrupted(FailedPrecondition):
    """The answer is whole."""

    reason = "NOT_INTERRUPTED"

    def __init__(self) -> None:
        super().__init__("This answer is whole; there is nothing to go on with.")


class RunStatus(StrEnum):
    """Where a run stands; all but QUEUED and RUNNING are final."""

    QUEUED = "queued"
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
    """A run as it is stored; `lease_expires_at` is None unless it is running, `ended_at` until its end."""

    id: str
    conversation_id: str
    user_message_id: str
    answer_message_id: str
    client_message_id: str | None
    model: str
    response_model: str
    status: RunStatus
    error_reason: str
    last_seq: int
    fence: int
    owner: str
    lease_expires_at: datetime | None
    created_at: datetime
    ended_at: datetime | None
    cancel_requested: bool
    tries: int
    max_tries: int
    takeovers: int


@dataclass(frozen=True, slots=True)
class ActiveLimits:
    """How many runs may be active at once; 0: no bound.

    Attributes:
        per_user: Of one user in one organization.
        per_conversation: Of one conversation.
        queued_per_user: Queued runs of one user.
    """

    per_user: int
    per_conversation: int
    queued_per_user: int


@dataclass(frozen=True, slots=True)
class RequestLimits:
    """How many runs a user may begin in windows that slide; 0: no bound."""

    per_minute: int = 0
    per_hour: int = 0
    per_day: int = 0


@dataclass(frozen=True, slots=True)
class Begun:
    """A run that has begun or was claimed, with all that its owner needs.

    Attributes:
        run: The run.
        user_message: The user's message.
        answer: The answer as it is stored.
        history: What was said before on the branch, oldest first, without the user's message.
        existing: An earlier call began it.
        conversation_created: This call made its conversation.
        interrupted: Runs in its way that were asked to stop.
        untitled: Its conversation has no title.
    """

    run: Run
    user_message: Message
    answer: Message
    history: list[Earlier]
    existing: bool
    conversation_created: bool
    interrupted: list[Run]
    untitled: bool


# --- rules that several calls share


def check_lease(field: str, seconds: float) -> None:
    """Checks the length of a lease.

    Raises: InvalidArgument.
    """
    validation.number(field, seconds, minimum=_LEASE_MIN_S, maximum=_LEASE_MAX_S)


def check_fence(fence: int) -> None:
    """Checks the generation an owner names.

    Raises: InvalidArgument.
    """
    validation.number("fence", fence, minimum=1, maximum=_INT64_MAX)


def check_last_seq(last_seq: int) -> None:
    """Checks the number of an event.

    Raises: InvalidArgument.
    """
    validation.number("last_seq", last_seq, minimum=0, maximum=_SEQ_MAX)


def check_reason(reason: str) -> None:
    """Checks the reason of a failure.

    Raises: InvalidArgument.
    """
    if not _REASON.fullmatch(reason):
        raise validation.invalid("error_reason", "must be UPPER_SNAKE, at most 63 characters.")


def check_limits(limits: ActiveLimits) -> None:
    """Checks the bounds of active runs.

    Raises: InvalidArgument.
    """
    bounds = (limits.per_user, limits.per_conversation, limits.queued_per_user)
    if min(bounds) >= 0 and max(bounds) <= INT32_MAX:
        return
    for name in ("per_user", "per_conversation", "queued_per_user"):
        validation.number(f"active_limits.{name}", getattr(limits, name), minimum=0, maximum=INT32_MAX)


def check_request_limits(limits: RequestLimits) -> None:
    """Checks the bounds of runs begun.

    Raises: InvalidArgument.
    """
    bounds = (limits.per_minute, limits.per_hour, limits.per_day)
    if min(bounds) >= 0 and max(bounds) <= REQUESTS_MAX:
        return
    for name in ("per_minute", "per_hour", "per_day"):
        validation.number(f"request_limits.{name}", getattr(limits, name), minimum=0, maximum=REQUESTS_MAX)


def check_usage(usage: Usage | None) -> None:
    """Checks the tokens a run has used.

    Raises: InvalidArgument.
    """
    if usage is None:
        return
    for name in ("input_tokens", "output_tokens", "cached_tokens", "reasoning_tokens"):
        validation.number(f"usage.{name}", getattr(usage, name), minimum=0, maximum=_INT64_MAX)
    if usage.cost_usd is not None and not (math.isfinite(usage.cost_usd) and usage.cost_usd >= 0):
        raise validation.invalid("usage.cost_usd", "must be a number that is not negative.")


def history_max_bytes(max_messages: int, max_tokens: int) -> int:
    """Returns the most UTF-8 bytes of a history, once its bounds are found good.

    Raises: InvalidArgument.
    """
    validation.number("history_max_messages", max_messages, minimum=0, maximum=HISTORY_MAX_MESSAGES)
    validation.number("history_max_tokens", max_tokens, minimum=0, maximum=INT32_MAX)
    return max_tokens * _BYTES_A_TOKEN


def storable(parts: Sequence[Part]) -> tuple[Part, ...]:
    """Returns the parts with U+0000, which Postgres cannot store, replaced by U+FFFD: no answer is lost for a character, no offset moves.

    Raises: InvalidArgument: a part of no known kind.
    """
    if any(part.kind is None for part in parts):
        raise validation.invalid("parts", "each must be text, reasoning, a tool's use or its result.")
    return tuple(
        Part(part.kind, _clean(part.text), _clean(part.tool_call_id), _clean(part.name), part.is_error)
        for part in parts
    )


def text_bytes(parts: Sequence[Part]) -> int:
    """Returns what parts weigh in a history: visible text and what went to and from tools; 0 where there is no text at all."""
    if not any(part.text for part in parts if part.kind is PartKind.TEXT):
        return 0
    return sum(len(part.text.encode()) for part in parts if part.kind is not PartKind.REASONING)


def _clean(value: str) -> str:
    return value.replace("\x00", "\ufffd")
