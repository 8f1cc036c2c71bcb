"""How the operations of OpenAI's dialect become routes: they differ in little."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from fastapi import APIRouter, Response

from services.edge.calls import SignedInRoute
from services.edge.description import BEARER
from services.edge.dialects.openai.description import ANSWERS, STREAMED
from services.edge.dialects.openai.errors import PREFIX

if TYPE_CHECKING:
    from collections.abc import Callable


class Operation(NamedTuple):
    """One operation.

    Attributes:
        method: Of HTTP.
        path: Below the dialect's prefix.
        endpoint: What answers.
        summary: For the description.
        streams: The answer may be an event stream.
        extra: What the description says besides.
    """

    method: str
    path: str
    endpoint: Callable[..., Any]
    summary: str
    streams: bool = False
    extra: dict[str, Any] = {}  # noqa: RUF012 - never changed


def router_of(*operations: Operation) -> APIRouter:
    """Returns the routes of operations that need a token or an API key."""
    router = APIRouter(route_class=SignedInRoute, tags=["OpenAI"], prefix=PREFIX.rstrip("/"))
    for operation in operations:
        router.add_api_route(
            operation.path,
            operation.endpoint,
            methods=[operation.method],
            response_class=Response,
            summary=operation.summary,
            responses=STREAMED if operation.streams else ANSWERS,
            openapi_extra=BEARER | operation.extra,
        )
    return router
