"""What a run is made of, how it can fail, and what this service needs of others."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime  # noqa: TC003 - dataclasses keep it
from enum import StrEnum
from typing import TYPE_CHECKING, NamedTuple, Protocol

from runtime.errors import InvalidArgument, NotFound, OutOfRange, ResourceExhausted, Unavailable

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Sequence
    from contextlib import AbstractAsyncContextManager

    from services.chat.log import RunLog

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


class Role(StrEnum):
    """Who speaks to or as the model."""

    SYSTEM = "system"
    USER = "user"
    ASSISTANT = "assistant"


class PromptMessage(NamedTuple):
    """One message of a prompt."""

    role: Role
    text: str


@dataclass(frozen=True, slots=True)
class NewRun:
    """What a run begins with; empty texts where nothing was given."""

    conversation_id: str
    client_message_id: str
    content: str
    model: str
    owner: str
    lease_s: float
    history_max_messages: int
    history_max_tokens: int


@dataclass(frozen=True, slots=True)
class Begun:
    """A run that has begun; `existing` when an earlier call began it."""

    run: Run
    fence: int
    content: str
    asked_at: datetime
    history: tuple[PromptMessage, ...]
    existing: bool


@dataclass(frozen=True, slots=True)
class Ending:
    """What a run ends with; `last_seq` is the number of its last event."""

    run_id: str
    fence: int
    status: RunStatus
    error_reason: str
    parts: tuple[Part, ...]
    usage: Usage
    model: str
    last_seq: int


class Data(Protocol):
    """Keeps what was said. Every method works with the rights of an access token and raises Unavailable while data is away."""

    async def begin_run(self, new: NewRun, *, token: str) -> Begun:
        """Stores the message, an empty answer and the run; returns the history that fits.

        Raises: ConversationNotFound and ClientMessageIdReused as data raises them; InvalidArgument.
        """

    async def checkpoint_run(
        self, run_id: str, *, fence: int, parts: Sequence[Part], last_seq: int, lease_s: float, token: str
    ) -> None:
        """Stores the answer so far and renews the lease.

        Raises: RunNotFound; FailedPrecondition: the run has another owner or has ended.
        """

    async def finish_run(self, ending: Ending, *, token: str) -> Run:
        """Stores the whole answer; a run that has ended stays as it is and is returned.

        Raises: RunNotFound; FailedPrecondition: the run has another owner.
        """

    async def get_run(self, run_id: str, *, token: str) -> Stored:
        """Returns what is stored of a run.

        Raises: RunNotFound.
        """


class FinishReason(StrEnum):
    """Why a model stopped."""

    STOP = "stop"
    LENGTH = "length"
    TOOL_CALLS = "tool_calls"
    CONTENT_FILTER = "content_filter"


@dataclass(frozen=True, slots=True)
class ModelStarted:
    """A provider has begun to answer."""

    provider: str
    model: str


class TextDelta(NamedTuple):
    """More visible text."""

    text: str


class ReasoningDelta(NamedTuple):
    """More thinking aloud."""

    text: str


@dataclass(frozen=True, slots=True)
class ModelFinished:
    """The model has stopped."""

    reason: FinishReason
    usage: Usage


ModelDelta = ModelStarted | TextDelta | ReasoningDelta | ModelFinished


@dataclass(frozen=True, slots=True)
class Model:
    """A model or alias that a run may name.

    Attributes:
        name: What a run says.
        provider: Who has it.
        provider_model: The provider's name of it.
        default: Used when a run names none.
        context_window_tokens: Prompt and answer together; 0: not known.
        max_output_tokens: 0: not known.
    """

    name: str
    provider: str
    provider_model: str
    default: bool
    context_window_tokens: int
    max_output_tokens: int


class Gateway(Protocol):
    """Talks to models."""

    def chat(
        self, model: str, messages: Sequence[PromptMessage], *, conversation_id: str, token: str
    ) -> AsyncGenerator[list[ModelDelta], None]:
        """Asks a model; closing the generator closes the upstream connection.

        Yields: deltas that arrived together, at least one; neighbours of one kind joined.
        Raises: whatever the gateway raised, also after some deltas.
        """

    async def list_models(self, *, token: str) -> Sequence[Model]:
        """Returns the models and aliases there are."""


class Auth(Protocol):
    """Gives out tokens."""

    async def delegate(self, *, token: str) -> str:
        """Returns a token with which this service acts for the user for up to an hour.

        Raises: Unavailable; Unauthenticated and PermissionDenied: there is none to be had.
        """


class Tail(Protocol):
    """The logs of live runs, where other instances can read them. It may be away: then it takes nothing, says nothing and fails nothing."""

    def keep(self, org_id: str, run_id: str, log: RunLog, *, fence: int) -> None:
        """Sends what is and will be in the log, beside its owner."""

    def replica(self, org_id: str, run_id: str) -> AbstractAsyncContextManager[RunLog]:
        """Gives a copy of another instance's log that grows for the length of the block, from the first event; empty while there is none."""


class Signals(Protocol):
    """Carries a word to the instance that owns a run."""

    async def ask_to_cancel(self, owner: str, run_id: str) -> None:
        """Asks once; nothing tells whether it was heard.

        Raises: Unavailable.
        """
