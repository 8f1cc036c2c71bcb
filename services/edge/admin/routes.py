"""Providers and aliases: add, look at, change, remove, try."""

from typing import Any

from fastapi import APIRouter, Response
from pydantic import BaseModel

from parley.gateway.v1 import provider_pb2 as pb
from parley.gateway.v1 import provider_pb2_grpc
from services.edge.admin.shapes import (
    Alias,
    AliasBody,
    AliasPage,
    DefaultProvider,
    NewAlias,
    NewProvider,
    Provider,
    ProviderChange,
    ProviderPage,
    Trial,
)
from services.edge.calls import SignedInRoute
from services.edge.clients import Services
from services.edge.conversations.routes import PageSize, PageToken
from services.edge.description import BEARER, responses

_CREATED, _NOTHING = 201, 204


class ProviderRoutes:
    """The paths below `/v1/admin/providers`; all need `gateway:admin`.

    Args:
        services: The services behind.
        providers: Stub of ProviderService.
    """

    def __init__(self, services: Services, providers: "provider_pb2_grpc.ProviderServiceAsyncStub") -> None:
        self._services = services
        self._providers = providers

    def routers(self) -> list[APIRouter]:
        """Returns the routes."""
        router = APIRouter(route_class=SignedInRoute, tags=["Providers"])
        many, one = "/v1/admin/providers", "/v1/admin/providers/{name}"
        add = router.add_api_route
        add(
            many,
            self.create,
            methods=["POST"],
            status_code=_CREATED,
            summary="Add a provider",
            **_gives(Provider, 409, body=True),
        )
        add(many, self.list_page, methods=["GET"], summary="List providers", **_gives(ProviderPage))
        default = _gives(None, 404, 409, body=True)
        add(
            "/v1/admin/default-provider",
            self.set_default,
            methods=["PUT"],
            status_code=_NOTHING,
            summary="Set the default provider",
            **default,
        )
        add(
            "/v1/admin/default-embeddings-provider",
            self.set_default_embeddings,
            methods=["PUT"],
            status_code=_NOTHING,
            summary="Set the default provider of embeddings",
            **default,
        )
        add(one, self.get, methods=["GET"], summary="Get a provider", **_gives(Provider, 404))
        add(one, self.update, methods=["PATCH"], summary="Change a provider", **_gives(Provider, 404, 409, body=True))
        add(
            one,
            self.delete,
            methods=["DELETE"],
            status_code=_NOTHING,
            summary="Remove a provider",
            **_gives(None, 404, 409),
        )
        add(one + "/test", self.test, methods=["POST"], summary="Try a provider", **_gives(Trial, 404))
        return [router]

    async def create(self, new: NewProvider) -> Response:
        """Adds a provider. Its key is encrypted, and never told again."""
        told = await self._call("CreateProvider", pb.CreateProviderRequest(provider=new.message()))
        return _json(Provider.of(told.provider), _CREATED)

    async def list_page(self, page_size: PageSize = 0, page_token: PageToken = "") -> Response:
        """Lists providers by name, those of the environment too; 50 to a page by default."""
        told = await self._call("ListProviders", pb.ListProvidersRequest(page_size=page_size, page_token=page_token))
        return _json(
            ProviderPage(providers=list(map(Provider.of, told.providers)), next_page_token=told.next_page_token)
        )

    async def get(self, name: str) -> Response:
        """Returns one provider, its secrets masked."""
        told = await self._call("GetProvider", pb.GetProviderRequest(name=name))
        return _json(Provider.of(told.provider))

    async def update(self, name: str, change: ProviderChange) -> Response:
        """Changes a provider; what is left out stays, and so do secrets that are sent back masked."""
        told = await self._call("UpdateProvider", change.message(name))
        return _json(Provider.of(told.provider))

    async def delete(self, name: str) -> Response:
        """Removes a provider; calls under way finish."""
        await self._call("DeleteProvider", pb.DeleteProviderRequest(name=name))
        return Response(status_code=_NOTHING)

    async def set_default(self, default: DefaultProvider) -> Response:
        """Makes a provider the one that answers calls which name neither model nor alias."""
        await self._call("SetDefaultProvider", pb.SetDefaultProviderRequest(name=default.name))
        return Response(status_code=_NOTHING)

    async def set_default_embeddings(self, default: DefaultProvider) -> Response:
        """Makes a provider the one that makes vectors where no model is named."""
        await self._call("SetDefaultProvider", pb.SetDefaultProviderRequest(name=default.name, embeddings=True))
        return Response(status_code=_NOTHING)

    async def test(self, name: str, model: str = "") -> Response:
        """Makes one small call and tells whether the provider works, and if not, why."""
        told = await self._call("TestProvider", pb.TestProviderRequest(name=name, model=model))
        first_token_s = told.first_token.ToNanoseconds() / 1e9
        return _json(Trial(ok=told.ok, code=told.reason.lower(), detail=told.message, first_token_s=first_token_s))

    async def _call(self, method: str, request: Any) -> Any:
        return await self._services.call(getattr(self._providers, method), request)


class AliasRoutes:
    """The paths below `/v1/admin/aliases`; all need `gateway:admin`.

    Args:
        services: The services behind.
        aliases: Stub of AliasService.
    """

    def __init__(self, services: Services, aliases: "provider_pb2_grpc.AliasServiceAsyncStub") -> None:
        self._services = services
        self._aliases = aliases

    def routers(self) -> list[APIRouter]:
        """Returns the routes."""
        router = APIRouter(route_class=SignedInRoute, tags=["Aliases"])
        many, one = "/v1/admin/aliases", "/v1/admin/aliases/{name}"
        add = router.add_api_route
        add(
            many,
            self.create,
            methods=["POST"],
            status_code=_CREATED,
            summary="Add an alias",
            **_gives(Alias, 404, 409, body=True),
        )
        add(many, self.list_page, methods=["GET"], summary="List aliases", **_gives(AliasPage))
        add(one, self.get, methods=["GET"], summary="Get an alias", **_gives(Alias, 404))
        add(one, self.update, methods=["PUT"], summary="Replace an alias", **_gives(Alias, 404, 409, body=True))
        add(
            one,
            self.delete,
            methods=["DELETE"],
            status_code=_NOTHING,
            summary="Remove an alias",
            **_gives(None, 404, 409),
        )
        return [router]

    async def create(self, new: NewAlias) -> Response:
        """Adds an alias."""
        told = await self._call("CreateAlias", pb.CreateAliasRequest(alias=new.message(new.name)))
        return _json(Alias.of(told.alias), _CREATED)

    async def list_page(self, page_size: PageSize = 0, page_token: PageToken = "") -> Response:
        """Lists aliases by name, those of the environment too; 50 to a page by default."""
        told = await self._call("ListAliases", pb.ListAliasesRequest(page_size=page_size, page_token=page_token))
        return _json(AliasPage(aliases=list(map(Alias.of, told.aliases)), next_page_token=told.next_page_token))

    async def get(self, name: str) -> Response:
        """Returns one alias."""
        told = await self._call("GetAlias", pb.GetAliasRequest(name=name))
        return _json(Alias.of(told.alias))

    async def update(self, name: str, body: AliasBody) -> Response:
        """Replaces what an alias stands for."""
        told = await self._call("UpdateAlias", pb.UpdateAliasRequest(alias=body.message(name)))
        return _json(Alias.of(told.alias))

    async def delete(self, name: str) -> Response:
        """Removes an alias."""
        await self._call("DeleteAlias", pb.DeleteAliasRequest(name=name))
        return Response(status_code=_NOTHING)

    async def _call(self, method: str, request: Any) -> Any:
        return await self._services.call(getattr(self._aliases, method), request)


def _gives(model: type[BaseModel] | None, *statuses: int, body: bool = False) -> dict[str, Any]:
    told: dict[str, Any] = {"responses": responses(403, *statuses, body=body), "openapi_extra": BEARER}
    return told | ({"response_model": model} if model is not None else {})


def _json(model: BaseModel, status: int = 200) -> Response:
    return Response(model.model_dump_json(), status, media_type="application/json")
