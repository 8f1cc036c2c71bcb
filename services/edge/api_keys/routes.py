"""API keys: create, list, revoke."""

from uuid import UUID

from fastapi import APIRouter, Response
from pydantic import BaseModel

from parley.auth.v1 import auth_pb2
from services.edge.api_keys.shapes import ApiKey, ApiKeyPage, MadeApiKey, NewApiKey
from services.edge.calls import SignedInRoute
from services.edge.clients import Services
from services.edge.conversations.routes import PageSize, PageToken
from services.edge.description import BEARER, responses


class ApiKeyRoutes:
    """The paths below `/v1/api-keys`.

    Args:
        services: The services behind.
    """

    def __init__(self, services: Services) -> None:
        self._services = services
        self._auth = services.auth

    def routers(self) -> list[APIRouter]:
        """Returns the routes."""
        router = APIRouter(route_class=SignedInRoute, tags=["API keys"])
        many, one = "/v1/api-keys", "/v1/api-keys/{api_key_id}"
        router.add_api_route(
            many,
            self.create,
            methods=["POST"],
            status_code=201,
            response_model=MadeApiKey,
            summary="Create an API key",
            responses=responses(403, 429, body=True),
            openapi_extra=BEARER,
        )
        router.add_api_route(
            many,
            self.list_page,
            methods=["GET"],
            response_model=ApiKeyPage,
            summary="List API keys",
            responses=responses(403),
            openapi_extra=BEARER,
        )
        router.add_api_route(
            one,
            self.revoke,
            methods=["DELETE"],
            response_model=ApiKey,
            summary="Revoke an API key",
            responses=responses(403, 404),
            openapi_extra=BEARER,
        )
        return [router]

    async def create(self, body: NewApiKey) -> Response:
        """Creates a key that acts as the caller, in the caller's organization. The key itself is told here and never again."""
        request = auth_pb2.CreateApiKeyRequest(name=body.name, scopes=body.scopes)
        if body.expires_in is not None:
            request.ttl.seconds = body.expires_in
        response = await self._services.call(self._auth.CreateApiKey, request)
        made = MadeApiKey(**ApiKey.of(response.api_key).model_dump(), key=response.secret)
        return _answer(made, 201)

    async def list_page(self, page_size: PageSize = 0, page_token: PageToken = "") -> Response:
        """Lists the caller's keys, the youngest first; those that have ended, for another 90 days."""
        request = auth_pb2.ListApiKeysRequest(page_size=page_size, page_token=page_token)
        response = await self._services.call(self._auth.ListApiKeys, request)
        keys = [ApiKey.of(key) for key in response.api_keys]
        return _answer(ApiKeyPage(api_keys=keys, next_page_token=response.next_page_token))

    async def revoke(self, api_key_id: UUID) -> Response:
        """Revokes a key; what it has opened ends within five minutes. Again it changes nothing."""
        request = auth_pb2.RevokeApiKeyRequest(api_key_id=str(api_key_id))
        response = await self._services.call(self._auth.RevokeApiKey, request)
        return _answer(ApiKey.of(response.api_key))


def _answer(shape: BaseModel, status: int = 200) -> Response:
    return Response(shape.model_dump_json(), status, media_type="application/json")
