"""Dead letters: list them, put one back into the queue, drop one."""

from uuid import UUID

from fastapi import APIRouter, Response

from parley.chat.v1 import chat_pb2
from services.edge.calls import SignedInRoute
from services.edge.clients import Services
from services.edge.conversations.routes import PageSize, PageToken
from services.edge.dead_letters.shapes import DeadLetter, DeadLetterPage
from services.edge.description import BEARER, responses
from services.edge.runs.shapes import Run


class DeadLetterRoutes:
    """The paths below `/v1/admin/dead-letters`.

    Args:
        services: The services behind.
    """

    def __init__(self, services: Services) -> None:
        self._services = services
        self._chat = services.chat

    def routers(self) -> list[APIRouter]:
        """Returns the routes."""
        router = APIRouter(route_class=SignedInRoute, tags=["Dead letters"])
        many, one = "/v1/admin/dead-letters", "/v1/admin/dead-letters/{run_id}"
        router.add_api_route(
            many,
            self.list_page,
            methods=["GET"],
            response_model=DeadLetterPage,
            summary="List dead letters",
            responses=responses(403),
            openapi_extra=BEARER,
        )
        router.add_api_route(
            one + "/retry",
            self.retry,
            methods=["POST"],
            response_model=Run,
            summary="Retry a dead letter",
            responses=responses(403, 404),
            openapi_extra=BEARER,
        )
        router.add_api_route(
            one,
            self.drop,
            methods=["DELETE"],
            status_code=204,
            summary="Drop a dead letter",
            responses=responses(403, 404),
            openapi_extra=BEARER,
        )
        return [router]

    async def list_page(self, page_size: PageSize = 0, page_token: PageToken = "") -> Response:
        """Lists the background runs of the organization that were given up, the newest first; 50 to a page by default. Needs `run:admin`."""
        message = chat_pb2.ListDeadLettersRequest(page_size=page_size, page_token=page_token)
        response = await self._services.call(self._chat.ListDeadLetters, message)
        page = DeadLetterPage(
            dead_letters=[DeadLetter.of(one) for one in response.dead_letters],
            next_page_token=response.next_page_token,
        )
        return Response(page.model_dump_json(), media_type="application/json")

    async def retry(self, run_id: UUID) -> Response:
        """Puts a dead letter back into the queue, with all its tries before it. Needs `run:admin`."""
        message = chat_pb2.RetryDeadLetterRequest(run_id=str(run_id))
        response = await self._services.call(self._chat.RetryDeadLetter, message)
        return Response(Run.of(response.run).model_dump_json(), media_type="application/json")

    async def drop(self, run_id: UUID) -> Response:
        """Takes a dead letter off the list; its run stays failed. Needs `run:admin`."""
        message = chat_pb2.DropDeadLetterRequest(run_id=str(run_id))
        await self._services.call(self._chat.DropDeadLetter, message)
        return Response(status_code=204)
