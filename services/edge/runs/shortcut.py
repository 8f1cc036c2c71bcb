"""The way of a message past the framework, whose routing and dependencies take longer than all the rest of the edge before the first event."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import msgspec
from pydantic import ValidationError

from runtime.errors import ParleyError
from services.edge.asgi import EXCHANGE, Replay
from services.edge.runs.shapes import NewRun, NewTurn, request_of

if TYPE_CHECKING:
    from collections.abc import Awaitable

    from starlette.types import ASGIApp, Receive, Scope, Send

    from services.edge.callers import Callers
    from services.edge.runs.start import StartRoutes

_CHAT = "/v1/chat"
_RUNS = "/v1/conversations/{conversation_id}/runs"
_RUNS_PATH = re.compile(r"/v1/conversations/([0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12})/runs")


@dataclass(frozen=True, slots=True)
class _Route:
    path: str


_IN_ANY, _IN_CONVERSATION = _Route(_CHAT), _Route(_RUNS)


class Shortcut:
    """Answers a well-formed message itself; whatever is unusual about a request, down to a wrong field, is left to the framework.

    Args:
        app: The framework's application.
        start: The paths that take messages.
        callers: Lets callers in.
    """

    def __init__(self, app: ASGIApp, start: StartRoutes, callers: Callers) -> None:
        self._app = app
        self._start = start
        self._callers = callers

    def __call__(self, scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
        """Answers one request."""
        # No coroutine: nobody waits for anything before it is known whose the request is.
        fields = _asked_for(scope, receive)
        if fields is None:
            return self._app(scope, receive, send)
        return self._answer(fields, scope, receive, send)

    async def _answer(self, fields: dict[str, Any], scope: Scope, receive: Receive, send: Send) -> None:
        await self._callers.admit(_authorization(scope))
        response = await self._start.answer(scope, fields)
        del fields  # a stream may last for long
        await response(scope, receive, send)


def _asked_for(scope: Scope, receive: Receive) -> dict[str, Any] | None:
    """Returns the fields of the run that a request asks for, whose body then is read and whose route noted; None: it is anything else."""
    if scope["type"] != "http" or scope["method"] != "POST":
        return None
    match = None if scope["path"] == _CHAT else _RUNS_PATH.fullmatch(scope["path"])
    if match is None and scope["path"] != _CHAT:
        return None
    if not isinstance(receive, Replay) or scope[EXCHANGE].headers.get(b"content-type") != b"application/json":
        return None
    body = _body(receive.body, NewTurn if match is None else NewRun)
    if body is None:
        return None
    receive.body = None
    scope["route"] = _IN_ANY if match is None else _IN_CONVERSATION
    return request_of(body, "" if match is None else match[1])


def _body(given: bytes | None, shape: type[NewTurn | NewRun]) -> NewTurn | NewRun | None:
    """Returns what a body says, or None where anything is wrong with it."""
    try:
        value: Any = msgspec.json.decode(given or b"")
        return shape.model_validate(value) if isinstance(value, dict) else None
    except (ValueError, RecursionError, ValidationError, ParleyError):
        return None


def _authorization(scope: Scope) -> str:
    """Returns the header, the first where there are several."""
    for name, value in scope["headers"]:
        if name == b"authorization":
            return str(value, "latin-1")
    return ""
