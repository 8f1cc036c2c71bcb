"""The error vocabulary every service raises and every caller catches; it knows no transport."""

from __future__ import annotations

from typing import ClassVar


class ParleyError(Exception):
    """A failure that its caller is told about.

    A service subclasses one of the classes below and sets `reason`. Whatever varies in the message is in `metadata` too, so that
    callers branch on class or reason and never on text.

    Args:
        message: One sentence for the caller: what is wrong and, where there is one, the fix. Never holds secrets, SQL or a provider's words.
        metadata: Variable parts by name, all text.
        retry_after_s: Seconds after which trying again makes sense.

    Source: AIP-193.
    """

    reason: ClassVar[str] = "UNKNOWN"

    def __init__(self, message: str, /, *, retry_after_s: float | None = None, **metadata: str) -> None:
        super().__init__(message)
        self.message = message
        self.metadata = metadata
        self.retry_after_s = retry_after_s
        self.domain: str | None = None
        self._reason: str | None = None

    @property
    def code(self) -> str:
        """The reason callers branch on, UPPER_SNAKE; one that came over the wire wins over the class's own."""
        return self._reason or type(self).reason

    @classmethod
    def of(cls, reason: str, message: str, /, *, retry_after_s: float | None = None, **metadata: str) -> ParleyError:
        """Builds an error of this class with a reason that has no class of its own here, such as one met on the wire."""
        error = cls(message, retry_after_s=retry_after_s, **metadata)
        error._reason = reason
        return error


class InvalidArgument(ParleyError):
    """The request is wrong in itself; metadata `field` names the field. The caller may fix the request."""

    reason = "INVALID_ARGUMENT"


class OutOfRange(ParleyError):
    """The request reaches past what there is."""

    reason = "OUT_OF_RANGE"


class Unauthenticated(ParleyError):
    """The caller is not known; it may sign in."""

    reason = "UNAUTHENTICATED"


class PermissionDenied(ParleyError):
    """The caller is known and may not do this."""

    reason = "PERMISSION_DENIED"


class NotFound(ParleyError):
    """There is no such thing, or it is not the caller's; the two are not told apart."""

    reason = "NOT_FOUND"


class AlreadyExists(ParleyError):
    """There is such a thing already."""

    reason = "ALREADY_EXISTS"


class FailedPrecondition(ParleyError):
    """The state must change first."""

    reason = "FAILED_PRECONDITION"


class Conflict(ParleyError):
    """Somebody else was faster; the caller may retry the whole unit of work."""

    reason = "CONFLICT"


class ResourceExhausted(ParleyError):
    """A limit is reached; the caller may wait."""

    reason = "RESOURCE_EXHAUSTED"


class Cancelled(ParleyError):
    """The caller has withdrawn the call."""

    reason = "CANCELLED"


class DeadlineExceeded(ParleyError):
    """The work did not finish in its time."""

    reason = "DEADLINE_EXCEEDED"


class Unimplemented(ParleyError):
    """The server does not know this call."""

    reason = "UNIMPLEMENTED"


class Unavailable(ParleyError):
    """Something needed is away; the caller may retry this call."""

    reason = "UNAVAILABLE"


class Internal(ParleyError):
    """Anything unforeseen; the caller may report the request id."""

    reason = "INTERNAL"
