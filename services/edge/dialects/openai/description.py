"""What the API's description says of OpenAI's dialect, which is described in full where it comes from."""

from __future__ import annotations

from typing import Any

_ERROR: dict[str, Any] = {
    "type": "object",
    "required": ["error"],
    "properties": {
        "error": {
            "type": "object",
            "required": ["message", "type", "param", "code"],
            "properties": {
                "message": {"type": "string"},
                "type": {"type": "string"},
                "param": {"type": ["string", "null"], "description": "The member that is wrong."},
                "code": {"type": "string", "description": "Reason, such as `model_not_found`."},
            },
        }
    },
}
_EVENT: dict[str, Any] = {
    "type": "object",
    "required": ["data"],
    "properties": {"event": {"type": "string"}, "data": {"type": "string"}},
}
_WORDS = {
    400: "The request is wrong: `param` names the member.",
    401: "There is no access token or API key, or it is not valid (any more).",
    403: "The caller may not do this.",
    404: "There is no such thing.",
    408: "The body did not arrive in time.",
    409: "The state must change first.",
    413: "The body is too large.",
    429: "A limit is reached; wait for `retry-after` seconds.",
    500: "Something unforeseen; report `x-request-id`.",
    503: "Something needed is away; try again after `retry-after` seconds.",
    504: "Something did not answer in time.",
}
ANSWERS: dict[int | str, dict[str, Any]] = {
    200: {"description": "As OpenAI's.", "content": {"application/json": {"schema": {"type": "object"}}}},
    **{
        status: {"description": words, "content": {"application/json": {"schema": _ERROR}}}
        for status, words in _WORDS.items()
    },
}
"""How an operation may end."""
STREAMED: dict[int | str, dict[str, Any]] = ANSWERS | {
    200: {
        "description": "As OpenAI's; an event stream where `stream` is true.",
        "content": {
            "application/json": {"schema": {"type": "object"}},
            "text/event-stream": {"itemSchema": _EVENT},
        },
    }
}
"""The same of one that may stream."""


def _body(required: dict[str, Any], example: dict[str, Any]) -> dict[str, Any]:
    schema = {"type": "object", "required": list(required), "properties": required, "additionalProperties": True}
    return {
        "requestBody": {
            "required": True,
            "content": {"application/json": {"schema": schema, "example": example}},
        }
    }


_MESSAGE = {"type": "object", "required": ["role", "content"], "properties": {"role": {"const": "user"}}}

COMPLETION = _body(
    {
        "model": {"type": "string", "description": "Model or alias."},
        "messages": {
            "type": "array",
            "minItems": 1,
            "maxItems": 1000,
            "items": {"type": "object", "required": ["role"]},
        },
    },
    {"model": "fast", "messages": [{"role": "user", "content": "Hello"}], "stream": True},
)
"""The body of a completion."""
EMBEDDINGS = _body(
    {
        "model": {"type": "string", "description": "Model or alias."},
        "input": {
            "anyOf": [
                {"type": "string"},
                {"type": "array", "minItems": 1, "maxItems": 2048, "items": {"type": "string"}},
            ]
        },
    },
    {"model": "text-embedding-3-small", "input": "Hello"},
)
"""The body of embeddings."""
RESPONSE = _body(
    {"input": {"anyOf": [{"type": "string"}, {"type": "array", "minItems": 1, "maxItems": 1, "items": _MESSAGE}]}},
    {"model": "fast", "input": "Hello", "stream": True},
)
"""The body of a response."""
