"""What a run is made of and how it can fail."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import NamedTuple

from runtime.errors import InvalidArgument, NotFound, OutOfRange, ResourceExhausted, Unavailable

MESSAGE_MAX_CHARS = 10_000
CLIENT_MESSAGE_ID_MAX_CHARS = 128
MODEL_MAX_CHARS = 200


class RunNotFound(NotFound):
    """There is no such run, or it is not the caller's."""

    reason = "RUN_NOT_FOUND"

    def __init__(self) -> None:
        super().__init__("There is no such run.")


class CursorAhead(OutOfRange):
    """The cursor is past the end of the run's log."""

    reason = "CURSOR_AHEAD"

    def __init__(self) -> None:
        super().__init__("after_seq is past the end of the run's log; start over from 0.", field="after_seq")


class UnknownModel(InvalidArgument):
    """No provider has a model or alias of this name."""

    reason = "MODEL_NOT_FOUND"

    def __init__(self, model: str) -> None:
        super().__init__("There is no model or alias of this name.", field="model", model=model)


class Draining(Unavailable):
    """This instance is going away; another one takes the message."""

    reason = "DRAINING"

    def __init__(self) -> None:
        super().__init__("This server is being replaced; try again.", retry_after_s=1)


class TooManyRuns(ResourceExhausted):
    """This instance answers as many messages as it may."""

    reason = "TOO_MANY_RUNS"

    def __init__(self) -> None:
        super().__init__("The server is answering as many messages as it can; try again.", retry_after_s=2)


class TooManyWatchers(ResourceExhausted):
    """This instance streams to as many watchers as it may."""

    reason = "TOO_MANY_WATCHERS"

    def __init__(self) -> None:
        super().__init__("The server holds as many open streams as it can; try again.", retry_after_s=2)


class NotStopped(Unavailable):
    """The instance that owns the run has not answered the wish to stop it."""

    reason = "RUN_NOT_STOPPED"

    def __init__(self) -> None:
        super().__init__("The run could not be stopped just now; try again.", retry_after_s=1)


class RunStatus(StrEnum):
    """Where a run stands; all but RUNNING are final."""

    RUNNING = "running"
    COMPLETED = "completed"
    CANCELLED = "cancelled"
    FAILED = "failed"
    INTERRUPTED = "interrupted"
    LIMITED = "limited"


@dataclass(frozen=True, slots=True)
class RunStarted:
    """The run has begun; always the first event."""

    conversation_id: str
    message_id: str
    user_message_id: str
    model: str


@dataclass(frozen=True, slots=True)
class UserMessage:
    """The user's message has been stored; always the second event."""

    message_id: str
    content: str
    created_at: datetime


@dataclass(frozen=True, slots=True)
class Thinking:
    """The model has been asked; always the third event."""


class Text(NamedTuple):
    """More of the answer, which begins at `offset` in it, in code points."""

    delta: str
    offset: int


class Reasoning(NamedTuple):
    """More of the model's thinking aloud."""

    delta: str


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens used; `cost_usd` is None where the model's price is not known."""

    input_tokens: int
    output_tokens: int
    cached_tokens: int = 0
    reasoning_tokens: int = 0
    cost_usd: float | None = None
    estimated: bool = False


@dataclass(frozen=True, slots=True)
class Done:
    """The run has ended otherwise than by an error; the last event."""

    status: RunStatus
    message_id: str


@dataclass(frozen=True, slots=True)
class Failed:
    """The run has ended by an error; the last event."""

    reason: str
    message: str
    request_id: str
    retry_after_s: float | None = None


Kind = RunStarted | UserMessage | Thinking | Text | Reasoning | Usage | Done | Failed


class Event(NamedTuple):
    """One entry of a run's log; `seq` counts from 1 without gaps."""

    seq: int
    kind: Kind


class PartKind(StrEnum):
    """What a piece of an answer is."""

    TEXT = "text"
    REASONING = "reasoning"


class Part(NamedTuple):
    """One piece of an answer."""

    kind: PartKind
    text: str


@dataclass(frozen=True, slots=True)
class Run:
    """A run as it stands; `ended_at` is None while it runs."""

    id: str
    conversation_id: str
    user_message_id: str
    message_id: str
    model: str
    status: RunStatus
    error_reason: str
    created_at: datetime
    ended_at: datetime | None


@dataclass(frozen=True, slots=True)
class Stored:
    """What is stored of a run.

    Attributes:
        run: The run.
        content: The user's message.
        asked_at: When the user's message was stored.
        parts: The answer as far as it is stored.
        usage: None while it runs.
        last_seq: Of the last event that is stored: that `parts` hold while it runs, the run's last one after its end.
        fence: Generation of the owner.
        owner: Name of the instance that owns it.
        lease_expires_at: Seconds since the epoch; None after the end.
    """

    run: Run
    content: str
    asked_at: datetime
    parts: tuple[Part, ...]
    usage: Usage | None
    last_seq: int
    fence: int
    owner: str
    lease_expires_at: float | None
