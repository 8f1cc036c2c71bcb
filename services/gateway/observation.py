"""Spans, metrics and log lines of provider calls: a few per call, none per delta."""

from __future__ import annotations

import asyncio
import functools
import time
from typing import TYPE_CHECKING, Self

import structlog
from opentelemetry.trace import SpanKind
from prometheus_client import Counter, Gauge, Histogram

from runtime import telemetry
from runtime.errors import ParleyError
from services.gateway import gen_ai
from services.gateway.failures import AttemptFailed

if TYPE_CHECKING:
    from services.gateway.domain import Call, Deployment, Usage

log = structlog.stdlib.get_logger()

_SECONDS = [0.01 * 2**n for n in range(14)]
_LABELS = ["provider", "model"]

FIRST_DELTA = Histogram(
    "gen_ai_client_operation_time_to_first_chunk_seconds",
    "From a provider call to its first delta.",
    _LABELS,
    buckets=_SECONDS,
)
DURATION = Histogram(
    "gen_ai_client_operation_duration_seconds", "Length of provider calls.", [*_LABELS, "error_type"], buckets=_SECONDS
)
TOKENS = Counter("gen_ai_client_tokens_total", "Tokens used, by kind.", [*_LABELS, "token_type", "estimated"])
ACTIVE = Gauge("parley_gateway_upstream_streams", "Provider streams open now.", ["provider"])
ERRORS = Counter("parley_gateway_provider_errors_total", "Attempts at providers that failed.", ["provider", "reason"])
RETRIES = Counter("parley_gateway_provider_retries_total", "Further attempts at providers.", ["provider"])


# Their children are looked up once: that costs more than to write to them.
_duration = functools.cache(DURATION.labels)
_first_delta = functools.cache(FIRST_DELTA.labels)
_tokens = functools.cache(TOKENS.labels)


class _Streams:
    """The streams of a provider that are open; counted when somebody asks: a measure that is written takes a lock."""

    def __init__(self, provider: str) -> None:
        self.open = 0
        ACTIVE.labels(provider).set_function(lambda: self.open)


_streams = functools.cache(_Streams)


class TelemetryObserver:
    """Tells OpenTelemetry, Prometheus and the log about provider calls; see `chat.Observer`."""

    def attempt(self, deployment: Deployment, call: Call, number: int) -> Attempt:
        """See `chat.Observer.attempt`."""
        return Attempt(deployment, call, number)

    def pause(self, deployment: Deployment, failed: AttemptFailed, wait_s: float) -> None:
        """See `chat.Observer.pause`."""
        RETRIES.labels(deployment.provider).inc()
        log.info("provider_retry", provider=deployment.provider, cause=failed.cause, wait_s=round(wait_s, 3))


class Attempt:
    """One attempt, and what surrounds it; see `chat.Observation`."""

    def __init__(self, deployment: Deployment, call: Call, number: int) -> None:
        self._provider = provider = deployment.provider
        self._model = model = deployment.model
        # A call may name any model of a provider: only the listed ones may become labels.
        self._labels = (provider, model if deployment.listed else "other")
        self._scope = telemetry.span(
            f"{gen_ai.OPERATION_CHAT} {model}",
            kind=SpanKind.CLIENT,
            attributes=_attributes(provider, model, call, number),
        )
        self._streams = _streams(provider)
        self._first_delta_s: float | None = None
        self._error_type = ""

    def __enter__(self) -> Self:
        self._span = self._scope.__enter__()
        self._started = time.perf_counter()
        self._streams.open += 1
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        if error is not None:
            self._failed(error)
        self._streams.open -= 1
        self._ended()
        self._scope.__exit__(kind, error, trace)

    def first_delta(self) -> None:
        """See `chat.Observation.first_delta`."""
        # Noted and no more: the delta is on its way out.
        self._first_delta_s = time.perf_counter() - self._started

    def used(self, usage: Usage, finish_reason: str | None) -> None:
        """See `chat.Observation.used`."""
        counts = usage.counts
        estimated = str(usage.estimated).lower()
        for kind, number in (("input", counts.input_tokens), ("output", counts.output_tokens)):
            _tokens(*self._labels, kind, estimated).inc(number)
        self._span.set_attributes(
            {
                gen_ai.USAGE_INPUT_TOKENS: counts.input_tokens,
                gen_ai.USAGE_OUTPUT_TOKENS: counts.output_tokens,
                gen_ai.USAGE_CACHED_TOKENS: counts.cached_tokens,
                gen_ai.USAGE_REASONING_TOKENS: counts.reasoning_tokens,
                gen_ai.USAGE_ESTIMATED: usage.estimated,
            }
        )
        if finish_reason is not None:
            self._span.set_attribute(gen_ai.RESPONSE_FINISH_REASONS, [finish_reason])

    def _failed(self, error: BaseException) -> None:
        """Notes what ended the attempt; a caller who left is no failure of the provider."""
        if isinstance(error, AttemptFailed):
            self._error_type = error.error.code
            self._span.set_attribute(gen_ai.FAILURE_CAUSE, error.cause)
            log.warning(
                "provider_call_failed",
                provider=self._provider,
                model=self._model,
                reason=error.error.code,
                cause=error.cause,
            )
        elif isinstance(error, ParleyError):
            self._error_type = error.code
            log.warning("provider_call_failed", provider=self._provider, model=self._model, reason=error.code)
        elif isinstance(error, (asyncio.CancelledError, GeneratorExit)):
            self._error_type = "cancelled"
        else:
            self._error_type = "internal"
        if self._error_type not in {"", "cancelled"}:
            ERRORS.labels(self._provider, self._error_type).inc()

    def _ended(self) -> None:
        """Notes that the attempt is over."""
        if self._first_delta_s is not None:
            _first_delta(*self._labels).observe(self._first_delta_s)
            self._span.set_attribute(gen_ai.RESPONSE_TIME_TO_FIRST_CHUNK, self._first_delta_s)
            self._span.set_attribute(gen_ai.RESPONSE_MODEL, self._model)
        _duration(*self._labels, self._error_type).observe(time.perf_counter() - self._started)
        if self._error_type:
            telemetry.fail(self._span, self._error_type)


def _attributes(provider: str, model: str, call: Call, number: int) -> dict[str, str | bool | int | float]:
    """Returns what is known of an attempt at its start."""
    attributes: dict[str, str | bool | int | float] = {
        gen_ai.OPERATION_NAME: gen_ai.OPERATION_CHAT,
        gen_ai.PROVIDER_NAME: provider,
        gen_ai.REQUEST_MODEL: model,
        gen_ai.REQUEST_STREAM: True,
        gen_ai.ATTEMPT: number,
    }
    if call.conversation_id:
        attributes[gen_ai.CONVERSATION_ID] = call.conversation_id
    if call.max_output_tokens:
        attributes[gen_ai.REQUEST_MAX_TOKENS] = call.max_output_tokens
    if call.temperature is not None:
        attributes[gen_ai.REQUEST_TEMPERATURE] = call.temperature
    return attributes
