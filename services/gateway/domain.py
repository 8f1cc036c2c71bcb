"""What the gateway is about: calls, deltas, deployments, and the ways a call can fail."""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from runtime import errors

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Sequence


class Role(enum.StrEnum):
    """Who speaks."""

    SYSTEM = "system"
    USER = "user"
    ASSISTANT = "assistant"
    TOOL = "tool"


class FinishReason(enum.StrEnum):
    """Why a model stopped."""

    STOP = "stop"
    LENGTH = "length"
    TOOL_CALLS = "tool_calls"
    CONTENT_FILTER = "content_filter"


@dataclass(frozen=True, slots=True)
class ToolCall:
    """A call of a tool, whole; `arguments_json` is a JSON object as text, or whatever a model wrote instead of one."""

    id: str
    name: str
    arguments_json: str


@dataclass(frozen=True, slots=True)
class Message:
    """One message of a prompt.

    Attributes:
        role: Who speaks.
        text: May be empty on an assistant's message that calls tools and on a tool's.
        tool_calls: On an assistant's message.
        tool_call_id: On a tool's message: the call it answers.
    """

    role: Role
    text: str = ""
    tool_calls: tuple[ToolCall, ...] = ()
    tool_call_id: str = ""


@dataclass(frozen=True, slots=True)
class Tool:
    """A tool on offer; `parameters_json` is a JSON schema as text."""

    name: str
    description: str
    parameters_json: str


@dataclass(frozen=True, slots=True)
class Timeouts:
    """Longest waits of one call, in seconds; 0 leaves one to whatever stands behind.

    Attributes:
        first_token_s: From the start of the call to its first delta, retries included.
        gap_s: Between two deltas.
        total_s: For the whole call.
    """

    first_token_s: float = 0
    gap_s: float = 0
    total_s: float = 0

    def before(self, behind: Timeouts) -> Timeouts:
        """Returns these, each that is 0 taken from those behind."""
        return Timeouts(
            self.first_token_s or behind.first_token_s, self.gap_s or behind.gap_s, self.total_s or behind.total_s
        )

    def shortened(self, wanted: Timeouts) -> Timeouts:
        """Returns these, each made shorter where that is wanted, and none longer."""
        return Timeouts(
            min(self.first_token_s, wanted.first_token_s or self.first_token_s),
            min(self.gap_s, wanted.gap_s or self.gap_s),
            min(self.total_s, wanted.total_s or self.total_s),
        )


@dataclass(frozen=True, slots=True)
class Call:
    """One call of a model, valid in itself.

    Attributes:
        model: What the caller named: an alias, a model, `provider/model`, or nothing.
        messages: The prompt.
        tools: On offer.
        temperature: 0-2; None: the provider's default.
        max_output_tokens: 0: the gateway's default.
        stop: Texts that end the answer.
        timeouts: They shorten the gateway's own, and never lengthen them.
        conversation_id: For traces.
    """

    model: str
    messages: tuple[Message, ...]
    tools: tuple[Tool, ...] = ()
    temperature: float | None = None
    max_output_tokens: int = 0
    stop: tuple[str, ...] = ()
    timeouts: Timeouts = Timeouts()
    conversation_id: str = ""


@dataclass(slots=True)
class Text:
    """More visible text."""

    text: str


@dataclass(slots=True)
class Reasoning:
    """More thinking aloud."""

    text: str


@dataclass(slots=True)
class ToolCallPiece:
    """More of a tool call: `id` and `name` on its first piece, then the arguments' JSON text bit by bit; `index` counts from 0."""

    index: int
    id: str = ""
    name: str = ""
    arguments: str = ""


@dataclass(frozen=True, slots=True)
class Counts:
    """Tokens as a provider reports them.

    Attributes:
        input_tokens: Sent, cached ones included.
        output_tokens: Written, reasoning included.
        cached_tokens: Part of the input read from the provider's cache.
        cache_write_tokens: Part of the input written to it, which some providers charge more for.
        reasoning_tokens: Part of the output.
        cost_usd: The price, where the provider itself tells it.
    """

    input_tokens: int
    output_tokens: int
    cached_tokens: int = 0
    cache_write_tokens: int = 0
    reasoning_tokens: int = 0
    cost_usd: float | None = None


@dataclass(frozen=True, slots=True)
class Ended:
    """The provider is done; `counts` is None when it did not say what was used."""

    reason: FinishReason
    counts: Counts | None


@dataclass(frozen=True, slots=True)
class Started:
    """A provider has begun to answer; `provider` is spelt as OpenTelemetry spells it."""

    provider: str
    model: str


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens one call has used; `estimated` when we counted, and `cost_usd` None when the price is not known."""

    counts: Counts
    cost_usd: float | None
    estimated: bool


@dataclass(frozen=True, slots=True)
class Finished:
    """How a call ended."""

    reason: FinishReason
    usage: Usage


Piece = Text | Reasoning | ToolCallPiece
ProviderDelta = Piece | Ended
Delta = Started | Piece | Finished


@dataclass(frozen=True, slots=True)
class ModelLimits:
    """What a model can take, in tokens, 0 where it is not known; and whether it can call tools."""

    context_window_tokens: int = 0
    max_output_tokens: int = 0
    tools: bool = False


@dataclass(frozen=True, slots=True)
class ListedModel:
    """A name that a call may use, and what stands behind it."""

    name: str
    provider: str
    provider_model: str
    alias: bool
    default: bool
    limits: ModelLimits


class Deployment(Protocol):
    """A model at a provider: what a name stands for once it is resolved.

    Attributes:
        provider: As OpenTelemetry names it: `openai`, `aws.bedrock`, …
        model: The provider's name of it.
        listed: It is one of the configured models, so that its name may label metrics.
        limits: What it can take.
        timeouts: How long to wait for it, under the name it was called by; 0 where that is the gateway's own.
    """

    @property
    def provider(self) -> str: ...
    @property
    def model(self) -> str: ...
    @property
    def listed(self) -> bool: ...
    @property
    def limits(self) -> ModelLimits: ...
    @property
    def timeouts(self) -> Timeouts: ...

    def stream(self, call: Call, *, max_output_tokens: int) -> AsyncGenerator[Sequence[ProviderDelta], None]:
        """Calls the provider once.

        Closing the iterator, or cancelling the task that waits for it, closes the upstream connection at once.

        Yields: what has arrived since the last time, never empty; the last item of the last one is Ended.
        Raises: AttemptFailed.
        """
        ...

    def price(self, counts: Counts) -> float | None:
        """Returns the price in US dollars, or None when it is not known."""
        ...


class Registry(Protocol):
    """Knows which deployment a name stands for."""

    def resolve(self, name: str) -> Deployment:
        """Returns the deployment behind a model, an alias or nothing (the default).

        Raises: ModelNotFound, NoProviderConfigured; Unavailable: the gateway is still starting.
        """
        ...

    def listed(self) -> Sequence[ListedModel]:
        """Returns what a call may name: aliases first, then models, each by name."""
        ...


class AttemptFailed(Exception):
    """One attempt at a provider failed.

    Attributes:
        error: What the caller is told when there is no other attempt.
        retryable: Another attempt may well succeed.
        cause: A short class of the failure for the log, such as `status_503` or `connect`; never the provider's words.
        retry_after_s: The wait the provider asked for before the next attempt; None: it did not say.
    """

    def __init__(
        self, error: errors.ParleyError, *, retryable: bool, cause: str, retry_after_s: float | None = None
    ) -> None:
        super().__init__(cause)
        self.retry_after_s = retry_after_s
        self.error = error
        self.retryable = retryable
        self.cause = cause


class ContextTooLong(errors.InvalidArgument):
    """The prompt does not fit the model."""

    reason = "CONTEXT_TOO_LONG"


class RequestRejected(errors.InvalidArgument):
    """The provider refused the request as such."""

    reason = "REQUEST_REJECTED"


class ModelNotFound(errors.NotFound):
    """No provider has a model of that name."""

    reason = "MODEL_NOT_FOUND"


class NoProviderConfigured(errors.FailedPrecondition):
    """There is no provider to ask."""

    reason = "NO_PROVIDER_CONFIGURED"


class ProviderRateLimited(errors.ResourceExhausted):
    """The provider wants us to wait."""

    reason = "PROVIDER_RATE_LIMITED"


class ProviderUnavailable(errors.Unavailable):
    """The provider is away, or broke off."""

    reason = "PROVIDER_UNAVAILABLE"


class FirstTokenTimeout(errors.DeadlineExceeded):
    """Nothing came in time."""

    reason = "FIRST_TOKEN_TIMEOUT"


class StreamStalled(errors.DeadlineExceeded):
    """The answer stopped coming."""

    reason = "STREAM_STALLED"


class RunTimeout(errors.DeadlineExceeded):
    """The answer took too long altogether."""

    reason = "RUN_TIMEOUT"


class ProviderAuthFailed(errors.Internal):
    """The provider refused our key; the caller did nothing wrong."""

    reason = "PROVIDER_AUTH_FAILED"


class ProviderProtocolError(errors.Internal):
    """The provider's answer could not be read."""

    reason = "PROVIDER_PROTOCOL_ERROR"
