"""What the gateway is about: calls, deltas, deployments and the routes to them."""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, TypeAlias

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Sequence


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
class Image:
    """A picture: `https://…`, which the provider fetches, or `data:image/…;base64,…`; `detail` is `low`, `high`, `auto` or empty."""

    url: str
    detail: str = ""


@dataclass(slots=True)  # not frozen, as Call is not
class Message:
    """One message of a prompt; nobody changes one.

    Attributes:
        role: Who speaks.
        text: May be empty on an assistant's message that calls tools, on a tool's and beside images.
        tool_calls: On an assistant's message.
        tool_call_id: On a tool's message: the call it answers.
        images: On a user's message.
    """

    role: Role
    text: str = ""
    tool_calls: tuple[ToolCall, ...] = ()
    tool_call_id: str = ""
    images: tuple[Image, ...] = ()


@dataclass(frozen=True, slots=True)
class Tool:
    """A tool on offer; `parameters_json` is a JSON schema as text."""

    name: str
    description: str
    parameters_json: str


class ToolMode(enum.StrEnum):
    """How free a model is to call tools."""

    AUTO = "auto"
    NONE = "none"
    REQUIRED = "required"
    NAMED = "named"


@dataclass(frozen=True, slots=True)
class ToolChoice:
    """Which tools a model may or must call; `name` is that of the one, with NAMED."""

    mode: ToolMode
    name: str = ""


@dataclass(frozen=True, slots=True)
class AnswerSchema:
    """A JSON schema an answer must follow; `strict`: the provider is to enforce it."""

    name: str
    schema_json: str
    description: str = ""
    strict: bool | None = None


@dataclass(frozen=True, slots=True)
class ResponseFormat:
    """How an answer is shaped: as any JSON object, or as a schema says."""

    schema: AnswerSchema | None = None


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
        if not (self.first_token_s or self.gap_s or self.total_s):
            return behind
        return Timeouts(
            self.first_token_s or behind.first_token_s, self.gap_s or behind.gap_s, self.total_s or behind.total_s
        )

    def shortened(self, wanted: Timeouts) -> Timeouts:
        """Returns these, each made shorter where that is wanted, and none longer."""
        if wanted is NO_TIMEOUTS:
            return self
        return Timeouts(
            min(self.first_token_s, wanted.first_token_s or self.first_token_s),
            min(self.gap_s, wanted.gap_s or self.gap_s),
            min(self.total_s, wanted.total_s or self.total_s),
        )


NO_TIMEOUTS = Timeouts()
"""A call's that has no wishes."""


@dataclass(slots=True)  # not frozen: that makes making one several times as slow, and every turn makes one
class Call:
    """One call of a model, valid in itself; nobody changes one.

    Attributes:
        model: What the caller named: an alias, a model, `provider/model`, or nothing.
        messages: The prompt.
        tools: On offer.
        temperature: 0-2; None: the provider's default.
        max_output_tokens: 0: the gateway's default.
        stop: Texts that end the answer.
        timeouts: They shorten the gateway's own, and never lengthen them.
        conversation_id: For traces.
        run_id: For the ledger; UUID or empty.
        bot: For the ledger.
        tool_choice: None: the provider's default.
        parallel_tool_calls: False: one at a time; None: the provider's default.
        response_format: None: text.
        seed: For answers that can be had again.
        top_p: 0-1.
        frequency_penalty: -2 to 2.
        presence_penalty: -2 to 2.
        top_logprobs: Alternatives to tell for each token; None: no log probabilities.
        reasoning_effort: `minimal`, `low`, `medium`, `high` or empty.
        allow_reset: Another target may begin anew after something was given out.
    """

    model: str
    messages: tuple[Message, ...]
    tools: tuple[Tool, ...] = ()
    temperature: float | None = None
    max_output_tokens: int = 0
    stop: tuple[str, ...] = ()
    timeouts: Timeouts = NO_TIMEOUTS
    conversation_id: str = ""
    run_id: str = ""
    bot: str = ""
    tool_choice: ToolChoice | None = None
    parallel_tool_calls: bool | None = None
    response_format: ResponseFormat | None = None
    seed: int | None = None
    top_p: float | None = None
    frequency_penalty: float | None = None
    presence_penalty: float | None = None
    top_logprobs: int | None = None
    reasoning_effort: str = ""
    allow_reset: bool = False


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
class Logprobs:
    """Log probabilities of the text before, as JSON text in OpenAI's shape."""

    json: str


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


@dataclass(frozen=True, slots=True)
class Reset:
    """Another target begins anew; what came before no longer counts."""


Piece = Text | Reasoning | ToolCallPiece | Logprobs
ProviderDelta = Piece | Ended
Delta = Started | Piece | Finished | Reset


@dataclass(frozen=True, slots=True)
class ModelLimits:
    """What a model can take, in tokens, 0 where it is not known; and whether it can call tools."""

    context_window_tokens: int = 0
    max_output_tokens: int = 0
    tools: bool = False


@dataclass(frozen=True, slots=True)
class ListedModel:
    """A name that a call may use, and what stands behind it; `embeddings`: it makes vectors, not answers."""

    name: str
    provider: str
    provider_model: str
    alias: bool
    default: bool
    limits: ModelLimits
    embeddings: bool = False


Take: TypeAlias = "Callable[[Sequence[ProviderDelta]], bool]"
"""Takes deltas at the moment they arrive, or refuses them; it waits for nothing."""


class Request(Protocol):
    """Sends what was prepared, once, and gives the answer."""

    def __call__(self, take: Take | None = None) -> AsyncGenerator[Sequence[ProviderDelta], None]:
        """Sends it.

        Closing the iterator, or cancelling the task that waits for it, closes the upstream connection at once.

        Args:
            take: May be offered what arrives while the iterator waits; what it takes is not given out. None: nothing is taken.

        Yields: what has arrived since the last time, never empty; the last item of the last one is Ended.
        Raises: AttemptFailed.
        """
        ...


class Deployment(Protocol):
    """A model at a provider: what a name stands for once it is resolved.

    Attributes:
        key: `<provider>/<model>`, by our name of the provider, and which account there; unique. What is limited or failing is this.
        provider: As OpenTelemetry names it: `openai`, `aws.bedrock`, …
        model: The provider's name of it.
        listed: It is one of the configured models, so that its name may label metrics.
        limits: What it can take.
        timeouts: How long to wait for it, under the name it was called by; 0 where that is the gateway's own.
    """

    @property
    def key(self) -> str: ...
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

    def waiting(self, timeouts: Timeouts) -> Deployment:
        """Returns the same with other timeouts."""
        ...

    def prepare(self, call: Call, *, max_output_tokens: int) -> Request:
        """Spells a call for the provider; nothing is sent, and what cannot be spelt fails when it should be."""
        ...

    def price(self, counts: Counts) -> float | None:
        """Returns the price in US dollars, or None when it is not known."""
        ...


@dataclass(frozen=True, slots=True)
class Target:
    """A deployment on a route, and its share of the calls among those of its rank."""

    deployment: Deployment
    weight: float = 1


@dataclass(frozen=True, slots=True)
class Route:
    """Whom to ask: one of the first rank by weight, and the next rank when none of that answers; no rank is empty."""

    ranks: tuple[tuple[Target, ...], ...]


class Registry(Protocol):
    """Knows what a name stands for."""

    def resolve(self, name: str) -> Route:
        """Returns the route behind a model, an alias or nothing (the default); asks nobody, waits for nothing.

        Raises: ModelNotFound, NoProviderConfigured; Unavailable: the gateway is still starting.
        """
        ...

    def listed(self) -> Sequence[ListedModel]:
        """Returns what a call may name: aliases first, then models, each by name."""
        ...
