"""The ways a call of a model can fail."""

from __future__ import annotations

from runtime import errors


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

    def given_up(self) -> errors.ParleyError:
        """Returns the error, to be raised in this one's place, and lets go of it: from then on it holds this, and with it the call."""
        error = self.error
        del self.error
        return error


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
