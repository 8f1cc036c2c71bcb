"""What went wrong at a provider, in our words: a provider's own words never leave this process."""

from __future__ import annotations

import email.utils
import http
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from runtime.errors import ParleyError
from services.gateway.failures import (
    AttemptFailed,
    ContextTooLong,
    ModelNotFound,
    ProviderAuthFailed,
    ProviderProtocolError,
    ProviderRateLimited,
    ProviderUnavailable,
    RequestRejected,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

    from services.gateway.providers.provider import Provider

_TOO_LONG_SIGNS = (
    "context_length_exceeded",
    "maximum context length",
    "prompt is too long",
    "prompt: length",
    "input is too long",
    "context window",
    "exceed context limit",
    "exceeds the available context size",
)
_NO_CREDIT_SIGNS = ("insufficient_quota", "billing_not_active")


@dataclass(frozen=True)
class _Verdict:
    """What a failure means.

    Attributes:
        error: What the caller gets.
        message: What it says.
        retryable: Another attempt may succeed.
        wait_s: What a caller is told to wait when the provider does not say; None: nothing.
    """

    error: type[ParleyError]
    message: str
    retryable: bool = False
    wait_s: float | None = None


_TOO_LONG = _Verdict(ContextTooLong, "The conversation is too long for this model; start a new one or choose another.")
_REJECTED = _Verdict(RequestRejected, "The model provider refused this request as it stands.")
_KEY_REFUSED = _Verdict(ProviderAuthFailed, "The model provider refused the server's key; tell the operator.")
_NO_SUCH_MODEL = _Verdict(ModelNotFound, "The provider does not have this model.")
_BUSY = "The model provider is receiving too many requests; try again later."
_RATE_LIMITED = _Verdict(ProviderRateLimited, _BUSY, retryable=True, wait_s=10.0)
_NO_CREDIT = _Verdict(ProviderRateLimited, _BUSY, wait_s=60.0)
_UNREADABLE = _Verdict(ProviderProtocolError, "The model provider's answer could not be read; tell the operator.")
_AWAY = _Verdict(
    ProviderUnavailable, "The model provider is not available right now; try again.", retryable=True, wait_s=2.0
)
_CUT_OFF = _Verdict(ProviderUnavailable, "The model's answer was cut off; try again.", retryable=True, wait_s=1.0)

_BY_STATUS = {
    400: _REJECTED,
    401: _KEY_REFUSED,
    402: _NO_CREDIT,
    403: _KEY_REFUSED,
    404: _NO_SUCH_MODEL,
    408: _AWAY,
    409: _AWAY,
    413: _TOO_LONG,
    425: _AWAY,
    429: _RATE_LIMITED,
}


def refused(
    provider: Provider, model: str, *, status: int, code: str = "", text: str = "", retry_after_s: float | None = None
) -> AttemptFailed:
    """Judges an answer that is a refusal.

    Args:
        provider: Who refused.
        model: What was asked for.
        status: HTTP status, or the one the error stands for; 0 where it is not known.
        code: The provider's own code or type.
        text: Its words; they decide the class and go no further.
        retry_after_s: The wait it asked for.
    """
    cause = f"status_{status}" if status else "error_in_stream"
    verdict = _judge(status, f"{code} {text}".lower())
    return _failed(verdict, provider, model, cause, retry_after_s if verdict.wait_s is not None else None)


def unreachable(provider: Provider, model: str, cause: str) -> AttemptFailed:
    """Builds the failure of a connection that could not be made, or broke before the answer."""
    return _failed(_AWAY, provider, model, cause)


def cut_off(provider: Provider, model: str) -> AttemptFailed:
    """Builds the failure of an answer that ended before it was complete."""
    return _failed(_CUT_OFF, provider, model, "cut_off")


def unreadable(provider: Provider, model: str, cause: str) -> AttemptFailed:
    """Builds the failure of an answer that is not what the provider's wire should carry."""
    return _failed(_UNREADABLE, provider, model, cause)


def rejected(provider: Provider, model: str, cause: str) -> AttemptFailed:
    """Builds the failure of a request that cannot even be spelt for this provider."""
    return _failed(_REJECTED, provider, model, cause)


def _judge(status: int, words: str) -> _Verdict:
    server_fault = status >= http.HTTPStatus.INTERNAL_SERVER_ERROR
    if not server_fault and any(sign in words for sign in _TOO_LONG_SIGNS):
        return _TOO_LONG
    if status == http.HTTPStatus.TOO_MANY_REQUESTS and any(sign in words for sign in _NO_CREDIT_SIGNS):
        return _NO_CREDIT
    if server_fault or not status:
        return _AWAY
    if status < http.HTTPStatus.BAD_REQUEST:
        return _UNREADABLE
    return _BY_STATUS.get(status, _REJECTED)


def _failed(
    verdict: _Verdict, provider: Provider, model: str, cause: str, asked_s: float | None = None
) -> AttemptFailed:
    error = verdict.error(
        verdict.message,
        retry_after_s=verdict.wait_s if asked_s is None else asked_s,
        provider=provider.system,
        model=model,
    )
    return AttemptFailed(error, retryable=verdict.retryable, cause=cause, retry_after_s=asked_s)


def retry_after_s(headers: Mapping[str, str]) -> float | None:
    """Reads the wait a provider asks for: `retry-after-ms`, or `Retry-After` in seconds or as a date; None where there is none."""
    for name, unit_s in (("retry-after-ms", 0.001), ("retry-after", 1.0)):
        value = headers.get(name, "").strip()
        try:
            wait_s = float(value) * unit_s
        except ValueError:
            continue
        # NaN and infinity are no waits.
        return wait_s if 0 <= wait_s < float("inf") else None
    parsed = email.utils.parsedate_tz(headers.get("retry-after", ""))
    return max(0.0, email.utils.mktime_tz(parsed) - time.time()) if parsed is not None else None
