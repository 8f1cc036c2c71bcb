"""Health, readiness, the API's description and the web page."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec
from starlette.responses import Response
from starlette.routing import Route

from services.edge.operation import docs

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from starlette.requests import Request

    from services.edge.operation.page import Page
    from services.edge.operation.readiness import Readiness

_DOCS_POLICY = "default-src 'none'; style-src 'self'; frame-ancestors 'none'; base-uri 'none'"


class OperationRoutes:
    """The paths that are not the API.

    Args:
        readiness: Whether this instance wants requests.
        page: The web page.
        describe: Makes the OpenAPI document; asked once, when it is first wanted.
    """

    def __init__(self, readiness: Readiness, page: Page, describe: Callable[[], dict[str, Any]]) -> None:
        self._readiness = readiness
        self._page = page
        self._describe = describe
        self._document: dict[str, Any] | None = None

    def routes(self) -> list[Route]:
        """Returns the routes."""
        return [
            Route("/healthz", self.live, methods=["GET"]),
            Route("/readyz", self.ready, methods=["GET"]),
            Route("/openapi.json", self.openapi, methods=["GET"]),
            Route("/docs", self.docs, methods=["GET"]),
            Route("/docs/style.css", self.docs_style, methods=["GET"]),
            *self._page.routes(),
        ]

    async def live(self, _: Request) -> Response:
        """Answers as long as the process does; an outage elsewhere is no reason to restart this one."""
        return _json({"status": "ok"})

    async def ready(self, _: Request) -> Response:
        """Answers 200 if requests are wanted."""
        await self._readiness.check()
        return _json({"status": "ready"})

    async def openapi(self, _: Request) -> Response:
        """Returns the API's description."""
        return _json(self._described())

    async def docs(self, _: Request) -> Response:
        """Returns the API's description as a page."""
        headers = {"content-security-policy": _DOCS_POLICY}
        return Response(docs.render(self._described()), headers=headers, media_type="text/html")

    async def docs_style(self, _: Request) -> Response:
        """Returns the style of that page."""
        return Response(docs.STYLE, media_type="text/css")

    def _described(self) -> dict[str, Any]:
        if self._document is None:
            self._document = self._describe()
        return self._document


def _json(value: Any) -> Response:
    return Response(msgspec.json.encode(value), media_type="application/json")
