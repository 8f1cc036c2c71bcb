"""Errors in OpenAI's envelope."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from runtime.errors import ParleyError

PREFIX = "/openai/v1/"
"""Where the dialect is spoken."""

_CODES = {
    "CONTEXT_TOO_LONG": "context_length_exceeded",
    "INVALID_TOKEN": "invalid_api_key",
    "UNAUTHENTICATED": "invalid_api_key",
    "INVALID_ARGUMENT": "invalid_value",
    "PROVIDER_RATE_LIMITED": "rate_limit_exceeded",
    "TOKEN_BUDGET_EXCEEDED": "insufficient_quota",
    "INTERNAL": "internal_error",
}
"""Reasons that OpenAI's clients know by another name; the rest are our own in lower case."""
_TYPES = {403: "permission_error", 429: "rate_limit_error"}
_SERVER_ERROR = 500
_LIMITS = ("limit_type", "current", "limit", "resets_at")
_HOPELESS = frozenset({"PROVIDER_AUTH_FAILED", "NO_PROVIDER_CONFIGURED", "UNIMPLEMENTED"})
_LONGEST_WAIT_S = 60.0

# The services' names of what a request holds, and OpenAI's.
_SPELLINGS = (
    (re.compile(r"^messages\[(\d+)\]\.text$"), r"messages[\1].content"),
    (re.compile(r"^messages\[(\d+)\]\.images(?:\[\d+\].*)?$"), r"messages[\1].content"),
    (re.compile(r"^messages\[(\d+)\]\.tool_calls\[(\d+)\]\.name$"), r"messages[\1].tool_calls[\2].function.name"),
    (re.compile(r"^tools\[(\d+)\]\.(name|description)$"), r"tools[\1].function.\2"),
    (re.compile(r"^tools\[(\d+)\]\.parameters_json$"), r"tools[\1].function.parameters"),
    (re.compile(r"^tool_choice\.(?:mode|name)$"), "tool_choice"),
    (re.compile(r"^response_format\.json_schema\.schema_json$"), "response_format.json_schema.schema"),
    (re.compile(r"^texts(\[\d+\])?$"), r"input\1"),
    (re.compile(r"^conversation_id$"), "conversation"),
    (re.compile(r"^message$"), "input"),
    (re.compile(r"^max_output_tokens$"), "max_completion_tokens"),
)


def envelope(error: ParleyError, status: int) -> dict[str, Any]:
    """Returns the body that tells of an error, before the first byte of an answer or after it.

    Args:
        error: What happened. A limit that is reached is told with its type, its numbers and its end.
        status: Its HTTP status, or what that would have been.
    """
    field = error.metadata.get("field", "")
    param = _spelt(field) if error.domain else field  # what no service has said is in OpenAI's words already
    message = error.message
    if param != field and message.startswith(f"{field}:"):
        message = param + message[len(field) :]
    code = spelt_code(error.code)
    kind = _TYPES.get(status) or ("invalid_request_error" if status < _SERVER_ERROR else "server_error")
    told: dict[str, Any] = {
        "message": message,
        "type": code if code == "insufficient_quota" else kind,
        "param": param or ("model" if code == "model_not_found" else None),
        "code": code,
    }
    told |= {name: _number(error.metadata[name]) for name in _LIMITS if name in error.metadata}
    return {"error": told}


def spelt_code(reason: str) -> str:
    """Returns a reason as OpenAI's clients know it."""
    return _CODES.get(reason, reason.lower())


def is_hopeless(error: ParleyError) -> bool:
    """Says whether the same request again, after the waits that OpenAI's clients are ready for, would end the same way."""
    return error.code in _HOPELESS or (error.retry_after_s or 0) > _LONGEST_WAIT_S


def _number(text: str) -> str | int:
    return int(text) if text.isdecimal() else text


def _spelt(field: str) -> str:
    for pattern, spelling in _SPELLINGS:
        if (match := pattern.match(field)) is not None:
            return match.expand(spelling)
    return field
