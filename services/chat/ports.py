"""What this service needs of others: to keep what was said, to ask models, to get tokens, to be heard by other instances."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import TYPE_CHECKING, NamedTuple, Protocol

from services.chat.domain import Part, Run, RunStatus, Stored, Usage

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Sequence
    from contextlib import AbstractAsyncContextManager

    from services.chat.log import RunLog


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
