"""The way of a completion past the framework, whose routing takes longer than all the rest of the edge before the first byte."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from starlette.requests import Request

from services.edge.dialects.openai.routes import COMPLETIONS

if TYPE_CHECKING:
    from collections.abc import Awaitable

    from starlette.responses import Response
    from starlette.types import ASGIApp, Receive, Scope, Send

    from services.edge.callers import Callers
    from services.edge.dialects.openai.routes import OpenAIRoutes


@dataclass(frozen=True, slots=True)
class _Route:
    path: str


class Direct:
    """Answers `POST /openai/v1/chat/completions` itself and leaves everything else to `app`.

    Args:
        app: The framework's application.
        routes: What answers.
        callers: Lets callers in.
    """

    def __init__(self, app: ASGIApp, routes: OpenAIRoutes, callers: Callers) -> None:
        self._app = app
        self._routes = routes
        self._callers = callers

    def __call__(self, scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
        """Answers one request."""
        # No coroutine: each live stream of the others would hold its frame.
        if scope["type"] != "http" or scope["path"] != COMPLETIONS or scope["method"] != "POST":
            return self._app(scope, receive, send)
        return self._answer(scope, receive, send)

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        scope["route"] = _Route(COMPLETIONS)
        response = await self._response(Request(scope, receive))
        await response(scope, receive, send)

    async def _response(self, request: Request) -> Response:
        await self._callers.admit(request.headers.get("authorization", ""))
        return await self._routes.complete(request)
