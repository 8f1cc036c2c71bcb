"""The way of a message past the framework, whose routing and dependencies take longer than all the rest of the edge before the first event."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from uuid import UUID

import msgspec
from pydantic import ValidationError
from starlette.requests import Request

from runtime.errors import ParleyError
from services.edge.runs.shapes import NewRun, NewTurn

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from starlette.responses import Response
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

    from services.edge.callers import Callers
    from services.edge.runs.start import StartRoutes

_CHAT = "/v1/chat"
_RUNS = "/v1/conversations/{conversation_id}/runs"
_RUNS_PATH = re.compile(r"/v1/conversations/([0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12})/runs")


@dataclass(frozen=True, slots=True)
class _Route:
    path: str


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

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers one request."""
        if scope["type"] != "http" or scope["method"] != "POST":
            await self._app(scope, receive, send)
            return
        path = scope["path"]
        in_conversation = None if path == _CHAT else _RUNS_PATH.fullmatch(path)
        if (path != _CHAT and in_conversation is None) or not _says_json(scope):
            await self._app(scope, receive, send)
            return
        message = await receive()
        body = _body(message, NewTurn if in_conversation is None else NewRun)
        if body is None:
            await self._app(scope, _again(message, receive), send)
            return
        scope["route"] = _Route(_CHAT if in_conversation is None else _RUNS)
        request = Request(scope, receive)
        await self._callers.admit(request.headers.get("authorization", ""))
        answering: Awaitable[Response]
        if isinstance(body, NewTurn):
            answering = self._start.chat(body, request)
        else:
            assert in_conversation is not None  # noqa: S101 - as above
            answering = self._start.start(UUID(in_conversation[1]), body, request)
        response = await answering
        await response(scope, receive, send)


def _says_json(scope: Scope) -> bool:
    """Whether there is a body, said to be JSON in the usual words."""
    given: dict[bytes, bytes] = dict(scope["headers"])
    length = given.get(b"content-length", b"")
    return given.get(b"content-type") == b"application/json" and length.isdigit() and length != b"0"


def _body(message: Message, shape: type[NewTurn | NewRun]) -> NewTurn | NewRun | None:
    """Returns what the body says, or None where anything is wrong with it."""
    if message["type"] != "http.request" or message.get("more_body"):
        return None
    try:
        value: Any = msgspec.json.decode(message["body"])
        return shape.model_validate(value) if isinstance(value, dict) else None
    except (ValueError, RecursionError, ValidationError, ParleyError):
        return None


def _again(message: Message, receive: Receive) -> Callable[[], Awaitable[Message]]:
    first = [message]

    async def replay() -> Message:
        return first.pop() if first else await receive()

    return replay
