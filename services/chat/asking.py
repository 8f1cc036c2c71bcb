"""What this service needs of models: what they are asked, and what comes back."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, NamedTuple, Protocol

from services.chat.domain import Part, Usage

if TYPE_CHECKING:
    from collections.abc import AsyncIterator


class Role(StrEnum):
    """Who speaks to or as the model."""

    SYSTEM = "system"
    USER = "user"
    ASSISTANT = "assistant"
    TOOL = "tool"


class ToolCall(NamedTuple):
    """A model's call of a tool; `arguments_json` is what the model wrote and may be no JSON at all."""

    id: str
    name: str
    arguments_json: str


class ToolOffer(NamedTuple):
    """A tool as a model is told of it; `parameters_json` is a JSON schema as text."""

    name: str
    description: str
    parameters_json: str


class PromptMessage(NamedTuple):
    """One message of a prompt: an assistant's may call tools, a tool's answers one of these calls."""

    role: Role
    text: str
    tool_calls: tuple[ToolCall, ...] = ()
    tool_call_id: str = ""


class Earlier(NamedTuple):
    """An earlier message of the conversation."""

    role: Role
    parts: tuple[Part, ...]


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
    """The model has stopped; `calls` are the tools it wants called, in order."""

    reason: FinishReason
    usage: Usage
    calls: tuple[ToolCall, ...] = ()


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
        tools: It can call tools.
        listed: It is in the list of models, so that its name may label metrics.
    """

    name: str
    provider: str
    provider_model: str
    default: bool
    context_window_tokens: int
    max_output_tokens: int
    tools: bool = False
    listed: bool = True


@dataclass(frozen=True, slots=True)
class ModelCall:
    """What a model is asked.

    Attributes:
        model: Model or alias; empty: the default.
        messages: The prompt.
        tools: On offer.
        conversation_id: For traces; may be empty.
        total_s: Longest wait for the whole answer; 0: the gateway's own.
        max_output_tokens: 0: the gateway's own.
    """

    model: str
    messages: Sequence[PromptMessage]
    tools: tuple[ToolOffer, ...] = ()
    conversation_id: str = ""
    total_s: float = 0
    max_output_tokens: int = 0


class Tap(Protocol):
    """Takes what a model writes at the moment it arrives, within what has read it; says of each whether it has taken it."""

    def started(self, provider: str, model: str) -> bool:
        """Takes note of who answers; may be told it again."""

    def text(self, text: str) -> bool:
        """Takes more visible text."""

    def reasoning(self, text: str) -> bool:
        """Takes more thinking aloud."""


class Answering(Protocol):
    """A model's answer as it arrives."""

    def __aiter__(self) -> AsyncIterator[list[ModelDelta]]:
        """Returns what tells the deltas that arrived together, at least one at a time."""

    async def aclose(self) -> None:
        """Wants no more of it."""


class Gateway(Protocol):
    """Talks to models."""

    def chat(self, call: ModelCall, *, token: str, tap: Tap | None = None) -> Answering:
        """Asks a model once it is iterated over; closing what this returns closes the upstream connection.

        Args:
            call: What it is asked.
            token: With whose rights.
            tap: Offered what arrives while the next deltas are waited for, which spares waking up who waits; what it refuses is yielded,
                with all that came together with it.

        Yields: deltas that arrived together, at least one; neighbours of one kind joined.
        Raises: whatever the gateway raised, also after some deltas.
        """

    async def list_models(self, *, token: str) -> Sequence[Model]:
        """Returns the models and aliases there are."""

    async def get_model(self, name: str, *, token: str) -> Model:
        """Returns what would answer a call of this name, listed or not.

        Raises: NotFound: nothing would; Unavailable.
        """
