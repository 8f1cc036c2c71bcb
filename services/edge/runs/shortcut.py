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

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers one request."""
        path = scope["path"] if scope["type"] == "http" and scope["method"] == "POST" else ""
        in_conversation = None if path == _CHAT else _RUNS_PATH.fullmatch(path)
        if (path != _CHAT and in_conversation is None) or not _says_json(scope):
            await self._app(scope, receive, send)
            return
        conversation_id = "" if in_conversation is None else in_conversation[1]
        message = await receive()
        response = await self._response(scope, receive, message, conversation_id)
        if response is None:
            await self._app(scope, _again(message, receive), send)
            return
        del message, in_conversation  # a stream may last for long
        await response(scope, receive, send)

    async def _response(
        self, scope: Scope, receive: Receive, message: Message, conversation_id: str
    ) -> Response | None:
        body = _body(message, NewRun if conversation_id else NewTurn)
        if body is None:
            return None
        scope["route"] = _IN_CONVERSATION if conversation_id else _IN_ANY
        await self._callers.admit(_authorization(scope))
        request = Request(scope, receive)
        if isinstance(body, NewTurn):
            return await self._start.chat(body, request)
        return await self._start.start(UUID(conversation_id), body, request)


def _says_json(scope: Scope) -> bool:
    """Whether there is a body, said to be JSON in the usual words."""
    given: dict[bytes, bytes] = dict(scope["headers"])
    length = given.get(b"content-length", b"")
    return given.get(b"content-type") == b"application/json" and length.isdigit() and length != b"0"


def _authorization(scope: Scope) -> str:
    """Returns the header, the first where there are several."""
    for name, value in scope["headers"]:
        if name == b"authorization":
            return str(value, "latin-1")
    return ""


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
