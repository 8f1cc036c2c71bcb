"""The API's OpenAPI document: what FastAPI finds, with the errors told as they are."""

from __future__ import annotations

import http
from typing import TYPE_CHECKING, Any

from fastapi.openapi.utils import get_openapi

if TYPE_CHECKING:
    from collections.abc import Sequence

    from fastapi import FastAPI

BEARER: dict[str, Any] = {"security": [{"bearer": []}]}
"""Marks an operation that needs an access token."""

_PROBLEM: dict[str, Any] = {
    "type": "object",
    "title": "Problem",
    "description": "RFC 9457. Branch on `code`; `detail` is for people.",
    "required": ["type", "title", "status", "detail", "code", "request_id"],
    "properties": {
        "type": {"type": "string", "const": "about:blank"},
        "title": {"type": "string", "description": "The status in words."},
        "status": {"type": "integer"},
        "detail": {"type": "string", "description": "What is wrong and, where there is one, the fix."},
        "code": {"type": "string", "description": "Reason, such as `conversation_not_found`."},
        "request_id": {"type": "string", "description": "Finds this request in the logs."},
        "retry_after": {"type": "number", "description": "Seconds after which trying again makes sense."},
        "run_id": {"type": "string", "description": "With `concurrent_request`: the run that is active."},
        "field": {"type": "string", "description": "The field that is wrong; the first, if there are several."},
        "errors": {
            "type": "array",
            "items": {
                "type": "object",
                "required": ["field", "detail"],
                "properties": {"field": {"type": "string"}, "detail": {"type": "string"}},
            },
        },
        "error_code": {"type": "string", "description": "As `code`, below `/auth/v1/` only, for GoTrue's clients."},
        "msg": {"type": "string", "description": "As `detail`, below `/auth/v1/` only, for GoTrue's clients."},
    },
    "example": {
        "type": "about:blank",
        "title": "Not Found",
        "status": 404,
        "detail": "There is no such conversation.",
        "code": "conversation_not_found",
        "request_id": "0d6c1e2f3a4b5c6d7e8f901234567890",
    },
}
_WORDS = {
    400: "The request is wrong: `field` names the field.",
    401: "There is no access token, or it is not valid (any more).",
    403: "The caller's role does not carry the permission.",
    404: "There is no such thing, or it is not yours.",
    406: "The caller accepts nothing that there is.",
    408: "The body did not arrive in time.",
    409: "It clashes with what is there. `x-should-retry: false` says that the same again will not help.",
    413: "The body is too large.",
    415: "The body is not said to be JSON.",
    429: "A limit is reached; wait `retry_after` seconds.",
    500: "Something unforeseen; report `request_id`.",
    503: "Something needed is away; try again after `retry_after` seconds.",
    504: "A service did not answer in time; try again after `retry_after` seconds.",
}
_ANY = (400, 500, 503, 504)
_WITH_BODY = (408, 413, 415)
_HEADER = {"description": "Id of the request, the caller's own or a new one.", "schema": {"type": "string"}}


def responses(*statuses: int, body: bool = False, signed_in: bool = True) -> dict[int | str, dict[str, Any]]:
    """Describes the errors of an operation.

    Args:
        statuses: Beyond those that any operation may end with.
        body: It takes a body.
        signed_in: It needs an access token.
    """
    found = {*statuses, *_ANY, *(_WITH_BODY if body else ()), *((401,) if signed_in else ())}
    return {
        status: {
            "description": _WORDS.get(status, http.HTTPStatus(status).phrase),
            "content": {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}},
        }
        for status in sorted(found)
    }


def one_of(*ways: tuple[Sequence[str], Sequence[str]]) -> dict[str, Any]:
    """Describes an object that can be given in several ways.

    Args:
        ways: Of each the fields that must be given and those that must be left out.
    """
    return {
        "anyOf": [
            {
                "required": list(given),
                "properties": {
                    **{name: {"type": "string"} for name in given},
                    **{name: {"type": "null"} for name in left_out},
                },
            }
            for given, left_out in ways
        ]
    }


def describe(app: FastAPI) -> dict[str, Any]:
    """Returns the document."""
    document = get_openapi(
        title=app.title,
        version=app.version,
        openapi_version="3.1.0",
        description=app.description,
        routes=app.routes,
        tags=app.openapi_tags,
    )
    components = document.setdefault("components", {})
    schemas = components.setdefault("schemas", {})
    # FastAPI's own shape of a validation error, which is never sent.
    for name in ("HTTPValidationError", "ValidationError"):
        schemas.pop(name, None)
    schemas["Problem"] = _PROBLEM
    components["securitySchemes"] = {"bearer": {"type": "http", "scheme": "bearer", "bearerFormat": "JWT"}}
    for operations in document["paths"].values():
        for operation in operations.values():
            operation["responses"].pop("422", None)
            for answer in operation["responses"].values():
                answer.setdefault("headers", {})["x-request-id"] = _HEADER
    return document
