"""A route whose caller is known and whose body is strict JSON."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec
from fastapi.routing import APIRoute
from starlette.requests import Request

from runtime.errors import InvalidArgument
from services.edge.problems import UnsupportedMediaType

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from starlette.responses import Response

    from services.edge.callers import Callers


class OpenRoute(APIRoute):
    """A route for anyone. A body must be said to be JSON and be it: valid UTF-8, no NaN, no depth that exhausts a parser."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """Wraps FastAPI's handler."""
        handle = super().get_route_handler()

        async def checked(request: Request) -> Response:
            await self.admit(request)
            if self.body_field is not None:
                request = _JsonRequest(request.scope, request.receive)
                await request.require_json()
            return await handle(request)

        return checked

    async def admit(self, request: Request) -> None:
        """Lets everyone in."""


class SignedInRoute(OpenRoute):
    """A route for callers with an access token or an API key, which further calls carry on; who has none learns that before anything else."""

    async def admit(self, request: Request) -> None:
        """Verifies the caller.

        Raises: Unauthenticated; Unavailable: the keys cannot be had.
        """
        callers: Callers = request.app.state.callers
        await callers.admit(request.headers.get("authorization", ""))


class _JsonRequest(Request):
    async def require_json(self) -> None:
        """Refuses a body that is not said to be JSON."""
        if not await self.body():
            return
        media_type = self.headers.get("content-type", "").partition(";")[0].strip().lower()
        if media_type != "application/json":
            raise UnsupportedMediaType("Send the body as JSON, with `content-type: application/json`.")

    async def json(self) -> Any:
        """Returns the body, decoded.

        Raises: InvalidArgument: it is not JSON.
        """
        try:
            return msgspec.json.decode(await self.body())
        except (ValueError, RecursionError):
            raise InvalidArgument("body: is not valid JSON.", field="body") from None
