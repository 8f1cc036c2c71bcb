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


class RunMoved(Unavailable):
    """Another instance has taken the run over."""

    reason = "RUN_MOVED"

    def __init__(self) -> None:
        super().__init__("The answer goes on elsewhere; watch it from where you are.", retry_after_s=0.2)


class RunStatus(StrEnum):
    """Where a run stands; all but QUEUED and RUNNING are final."""

    QUEUED = "queued"
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


@dataclass(frozen=True, slots=True)
class Progress:
    """What the run is doing, in words for the user; the first one of a step opens it."""

    step: int
    message: str


@dataclass(frozen=True, slots=True)
class ToolUse:
    """The model calls a tool; `input_json` is a JSON object as text, `step` the number of the model call that has called it."""

    tool_call_id: str
    name: str
    input_json: str
    step: int = 1


@dataclass(frozen=True, slots=True)
class ToolResult:
    """A tool has answered, or `is_error`: it has not, and `content` says why."""

    tool_call_id: str
    name: str
    content: str
    is_error: bool = False


@dataclass(frozen=True, slots=True)
class Reset:
    """A step is done again: of the text only the first `offset` code points count, and nothing else that the step had written."""

    step: int
    offset: int


class Text(NamedTuple):
    """More of the answer, which begins at `offset` in it, in code points, and takes the place of whatever stood from there on."""

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
    model: str = ""


@dataclass(frozen=True, slots=True)
class Limit:
    """A limit that is reached: which one, how much of it is used, how much there is, and when there is room again."""

    type: str
    current: int
    limit: int
    resets_at: datetime


@dataclass(frozen=True, slots=True)
class Failed:
    """The run has ended by an error; the last event."""

    reason: str
    message: str
    request_id: str
    retry_after_s: float | None = None
    limit: Limit | None = None


Kind = (
    RunStarted
    | UserMessage
    | Thinking
    | Progress
    | Text
    | Reasoning
    | ToolUse
    | ToolResult
    | Reset
    | Usage
    | Done
    | Failed
)


class Event(NamedTuple):
    """One entry of a run's log; `seq` counts from 1, without gaps but where a lost log was made anew from what is stored."""

    seq: int
    kind: Kind


class PartKind(StrEnum):
    """What a piece of an answer is."""

    TEXT = "text"
    REASONING = "reasoning"
    TOOL_USE = "tool_use"
    TOOL_RESULT = "tool_result"


class Part(NamedTuple):
    """One piece of an answer; of a tool's call `text` is the arguments' JSON, of its result what it said."""

    kind: PartKind
    text: str
    tool_call_id: str = ""
    name: str = ""
    is_error: bool = False


@dataclass(frozen=True, slots=True)
class Run:
    """A run as it stands; `ended_at` is None while it runs, `response_model` empty until it is known who answered."""

    id: str
    conversation_id: str
    user_message_id: str
    message_id: str
    model: str
    status: RunStatus
    error_reason: str
    created_at: datetime
    ended_at: datetime | None
    response_model: str = ""


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
    """

    run: Run
    content: str
    asked_at: datetime
    parts: tuple[Part, ...]
    usage: Usage | None
    last_seq: int
