"""Errors as RFC 9457 problem documents: the one table from the vocabulary to HTTP."""

from __future__ import annotations

import http
import math
from typing import TYPE_CHECKING, Any

import msgspec
from starlette.responses import Response

from runtime import errors
from runtime.context import request_id
from runtime.errors import ParleyError
from services.edge.dialects.openai import errors as openai_errors

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from starlette.exceptions import HTTPException


class InvalidRequest(errors.InvalidArgument):
    """The request breaks the rules of one or more fields.

    Args:
        faults: Field and sentence of each, at least one.
    """

    def __init__(self, faults: Sequence[tuple[str, str]]) -> None:
        field, sentence = faults[0]
        super().__init__(f"{field}: {sentence}", field=field)
        self.faults = faults


class MethodNotAllowed(errors.InvalidArgument):
    """The path is known, the method is not; metadata `allow` lists those that are."""

    reason = "METHOD_NOT_ALLOWED"


class NotAcceptable(errors.InvalidArgument):
    """The caller accepts nothing that there is."""

    reason = "NOT_ACCEPTABLE"


class UnsupportedMediaType(errors.InvalidArgument):
    """The body is not said to be JSON."""

    reason = "UNSUPPORTED_MEDIA_TYPE"


class BodyTooLarge(errors.InvalidArgument):
    """The body is longer than this server takes."""

    reason = "BODY_TOO_LARGE"


class BodyTimeout(errors.DeadlineExceeded):
    """The body did not arrive in time."""

    reason = "BODY_TIMEOUT"


class TooManyStreams(errors.Unavailable):
    """This instance holds as many event streams as it may."""

    reason = "TOO_MANY_STREAMS"


class NotReady(errors.Unavailable):
    """This instance wants no requests now; metadata `not_ready` says because of whom."""

    reason = "NOT_READY"


TABLE: dict[type[ParleyError], int] = {
    errors.InvalidArgument: 400,
    errors.OutOfRange: 400,
    errors.Unauthenticated: 401,
    errors.PermissionDenied: 403,
    errors.NotFound: 404,
    errors.AlreadyExists: 409,
    errors.FailedPrecondition: 409,
    errors.Conflict: 409,
    errors.ResourceExhausted: 429,
    errors.Cancelled: 503,
    errors.DeadlineExceeded: 504,
    errors.Unimplemented: 501,
    errors.Unavailable: 503,
    errors.Internal: 500,
    MethodNotAllowed: 405,
    NotAcceptable: 406,
    BodyTimeout: 408,
    BodyTooLarge: 413,
    UnsupportedMediaType: 415,
}
"""Every class of the vocabulary and its status; a subclass is looked up by its nearest ancestor here."""

BY_REASON = {
    # What GoTrue's clients expect of a failed sign-in: 401 would make them refresh a session that there is not.
    "INVALID_CREDENTIALS": 400,
    "INVALID_REFRESH_TOKEN": 400,
}
"""Reasons whose status is not that of their class."""

NOT_HTTP = errors.InvalidArgument("The request is not HTTP/1.1.")
"""What is told of bytes that are no request."""
HEAD_TOO_LONG = errors.InvalidArgument("The request's line and headers are too long.")
"""What is told of a request whose head has no end in sight."""
TOO_MANY_IN_LINE = errors.InvalidArgument("Too many requests wait on this connection for those before them.")
"""What is told of a request for which there is no room behind others."""
TOO_MANY_CONNECTIONS = errors.Unavailable(
    "This server holds as many connections as it may; try again.", retry_after_s=1
)
"""What is told to a connection for which there is no room."""

# pydantic's sentences for these say less than one may know.
_SENTENCES = {
    "missing": "is required.",
    "extra_forbidden": "is not a known field.",
    "string_type": "must be a string.",
    "string_unicode": "must be valid Unicode.",
    "uuid_parsing": "must be a UUID.",
    "uuid_type": "must be a UUID.",
    "model_attributes_type": "must be a JSON object.",
    "model_type": "must be a JSON object.",
    "dict_type": "must be a JSON object.",
}
_LONGEST_NAME = 64
# Metadata are texts on their way here; of a limit these are numbers.
_NUMBERS = frozenset({"current", "limit"})
_AWAY = frozenset({http.HTTPStatus.SERVICE_UNAVAILABLE, http.HTTPStatus.GATEWAY_TIMEOUT})
_AWAY_S = 1.0
_OWN_MEMBERS = frozenset({"type", "title", "status", "detail", "code", "request_id", "retry_after", "errors", "allow"})


def status_of(error: ParleyError) -> int:
    """Returns the HTTP status of an error."""
    if error.code in BY_REASON:
        return BY_REASON[error.code]
    return next(TABLE[cls] for cls in type(error).__mro__ if cls in TABLE)


def document(error: ParleyError, *, path: str) -> dict[str, Any]:
    """Returns the problem document of an error.

    Args:
        error: What happened.
        path: The request's path; below `/auth/v1/` the document also has the members that GoTrue's clients read.
    """
    status = status_of(error)
    members: dict[str, Any] = {
        "type": "about:blank",
        "title": http.HTTPStatus(status).phrase,
        "status": status,
        "detail": error.message,
        "code": error.code.lower(),
        "request_id": request_id.get(),
    }
    if (retry_after_s := _retry_after_s(error, status)) is not None:
        members["retry_after"] = round(retry_after_s, 3)
    members |= {name: _told(name, value) for name, value in error.metadata.items() if name not in _OWN_MEMBERS}
    if isinstance(error, InvalidRequest):
        members["errors"] = [{"field": field, "detail": sentence} for field, sentence in error.faults]
    if path.startswith("/auth/v1/"):
        members |= {"error_code": members["code"], "msg": error.message}
    return members


def respond(error: ParleyError, *, path: str) -> Response:
    """Returns the whole answer that tells of an error, below `/openai/v1/` in OpenAI's envelope."""
    status = status_of(error)
    headers: dict[str, str] = {"cache-control": "no-store"}
    if (retry_after_s := _retry_after_s(error, status)) is not None:
        headers["retry-after"] = str(math.ceil(retry_after_s))
    if status == http.HTTPStatus.CONFLICT and error.code != errors.Conflict.reason:
        # OpenAI's and Anthropic's clients repeat a 409 unless they are told that it will be another one.
        headers["x-should-retry"] = "false"
    if status == http.HTTPStatus.UNAUTHORIZED:
        invalid = error.code == "INVALID_TOKEN"
        headers["www-authenticate"] = 'Bearer error="invalid_token"' if invalid else "Bearer"
    if "allow" in error.metadata:
        headers["allow"] = error.metadata["allow"]
    if path.startswith(openai_errors.PREFIX):
        if openai_errors.is_hopeless(error):
            headers["x-should-retry"] = "false"
        return Response(
            msgspec.json.encode(openai_errors.envelope(error, status)), status, headers, media_type="application/json"
        )
    body = msgspec.json.encode(document(error, path=path))
    return Response(body, status, headers, media_type="application/problem+json")


def of_validation(faults: Sequence[Mapping[str, Any]]) -> InvalidRequest:
    """Turns pydantic's list of faults into one error; what the caller sent is not repeated, but for the names of fields."""
    return InvalidRequest([(_field(fault["loc"]), _sentence(fault)) for fault in faults])


def of_http(error: HTTPException, *, path: str, allow: str) -> ParleyError:
    """Turns what the framework raised into our vocabulary.

    Args:
        error: 404 and 405 come from routing; 400 from reading the body, with the cause attached.
        path: The request's path.
        allow: Methods the path has, for a 405.
    """
    if isinstance(error.__cause__, ParleyError):
        return error.__cause__
    if error.status_code == http.HTTPStatus.NOT_FOUND:
        return errors.NotFound("There is nothing at this path; the API is described at /docs.")
    if error.status_code == http.HTTPStatus.METHOD_NOT_ALLOWED:
        return MethodNotAllowed(f"{path} does not take this method, only {allow}.", allow=allow)
    return errors.InvalidArgument("The request could not be read.")


def _told(name: str, value: str) -> str | int:
    return int(value) if name in _NUMBERS and value.isdecimal() else value


def _retry_after_s(error: ParleyError, status: int) -> float | None:
    if error.retry_after_s is None and status in _AWAY:
        return _AWAY_S
    return error.retry_after_s


def _field(loc: Sequence[Any]) -> str:
    # The first part says where the field stands: body, query, path. A body that is wrong as a whole is the field `body`.
    name = ".".join(str(part) for part in loc[1:])[:_LONGEST_NAME] or str(loc[0])
    return name.replace("-", "_")


def _sentence(fault: Mapping[str, Any]) -> str:
    return _SENTENCES.get(fault["type"]) or f"{fault['msg'].rstrip('.')}."
