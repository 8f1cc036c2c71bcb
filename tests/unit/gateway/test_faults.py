"""What a provider's refusals mean."""

from __future__ import annotations

import email.utils
import time

import pytest

from services.gateway import failures
from services.gateway.providers import faults
from services.gateway.providers.provider import Provider, Wire

PROVIDER = Provider(name="openai", system="openai", dialect="openai", wire=Wire.OPENAI)


@pytest.mark.parametrize(
    ("status", "code", "text", "error", "retryable"),
    [
        (400, "", "", failures.RequestRejected, False),
        (400, "context_length_exceeded", "", failures.ContextTooLong, False),
        (400, "", "prompt is too long: 300000 tokens > 200000 maximum", failures.ContextTooLong, False),
        (413, "", "", failures.ContextTooLong, False),
        (401, "", "", failures.ProviderAuthFailed, False),
        (403, "", "", failures.ProviderAuthFailed, False),
        (404, "", "", failures.ModelNotFound, False),
        (418, "", "", failures.RequestRejected, False),
        (422, "", "", failures.RequestRejected, False),
        (402, "", "", failures.ProviderRateLimited, False),
        (429, "insufficient_quota", "", failures.ProviderRateLimited, False),
        (429, "", "", failures.ProviderRateLimited, True),
        (408, "", "", failures.ProviderUnavailable, True),
        (409, "", "", failures.ProviderUnavailable, True),
        (500, "", "", failures.ProviderUnavailable, True),
        (503, "", "maximum context length", failures.ProviderUnavailable, True),
        (529, "overloaded_error", "", failures.ProviderUnavailable, True),
        (0, "server_error", "", failures.ProviderUnavailable, True),
        (0, "context_length_exceeded", "", failures.ContextTooLong, False),
        (302, "", "", failures.ProviderProtocolError, False),
    ],
)
def test_a_status_means_one_thing(status: int, code: str, text: str, error: type[Exception], retryable: bool) -> None:
    failed = faults.refused(PROVIDER, "m", status=status, code=code, text=text)

    assert type(failed.error) is error
    assert failed.retryable is retryable


def test_the_provider_s_words_are_in_neither_error_nor_log_word() -> None:
    failed = faults.refused(PROVIDER, "m", status=400, code="c0de", text="Ada's prompt was bad")

    told = f"{failed} {failed.cause} {failed.error.message} {failed.error.metadata}"
    assert "Ada" not in told
    assert "c0de" not in told


def test_a_rate_limit_always_says_when_to_come_back() -> None:
    told = faults.refused(PROVIDER, "m", status=429, retry_after_s=7)
    untold = faults.refused(PROVIDER, "m", status=429)

    assert (told.error.retry_after_s, told.retry_after_s) == (7, 7)
    assert untold.error.retry_after_s is not None
    assert untold.retry_after_s is None


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"retry-after": "2"}, 2.0),
        ({"retry-after": " 0.5 "}, 0.5),
        ({"retry-after-ms": "1500", "retry-after": "9"}, 1.5),
        ({"retry-after-ms": "soon", "retry-after": "9"}, 9.0),
        ({"retry-after": "Thu, 01 Jan 2015 00:00:00 GMT"}, 0.0),
        ({"retry-after": "later"}, None),
        ({"retry-after": "-1"}, None),
        ({"retry-after": "nan"}, None),
        ({"retry-after": "inf"}, None),
        ({}, None),
    ],
)
def test_a_wait_is_read_in_every_spelling(headers: dict[str, str], seconds: float | None) -> None:
    assert faults.retry_after_s(headers) == seconds


def test_a_wait_may_be_a_date() -> None:
    seconds = faults.retry_after_s({"retry-after": email.utils.formatdate(time.time() + 100, usegmt=True)})

    assert seconds is not None
    assert 90 < seconds <= 100
