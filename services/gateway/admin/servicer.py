"""protobuf to providers and aliases and back; no rules here."""

from __future__ import annotations

from typing import TYPE_CHECKING

from parley.gateway.v1 import provider_pb2 as pb
from parley.gateway.v1 import provider_pb2_grpc
from runtime.permissions import require
from runtime.validation import decode_page_token, encode_page_token, page_size
from runtime.wellknown import seconds
from services.gateway.admin.providers import Changes
from services.gateway.admin.records import SECRET_SETTINGS, ProviderRecord
from services.gateway.admin.references import masked
from services.gateway.domain import Timeouts
from services.gateway.providers.aliases import Alias, AliasTarget

if TYPE_CHECKING:
    from services.gateway.admin.aliases import Aliases
    from services.gateway.admin.providers import Providers
    from services.gateway.providers.names import Defaults

PROVIDERS = pb.DESCRIPTOR.services_by_name["ProviderService"].full_name
ALIASES = pb.DESCRIPTOR.services_by_name["AliasService"].full_name

_PERMISSION = "gateway:admin"
_PAGE = 50


class ProviderServicer(provider_pb2_grpc.ProviderServiceServicer):
    """Serves `ProviderService`."""

    def __init__(self, providers: Providers) -> None:
        self._providers = providers

    async def CreateProvider(self, request: pb.CreateProviderRequest, context: object) -> pb.CreateProviderResponse:
        """See the contract."""
        require(_PERMISSION)
        record = await self._providers.create(_record(request.provider))
        return pb.CreateProviderResponse(provider=_provider(record, await self._providers.defaults()))

    async def GetProvider(self, request: pb.GetProviderRequest, context: object) -> pb.GetProviderResponse:
        """See the contract."""
        require(_PERMISSION)
        record = await self._providers.get(request.name)
        return pb.GetProviderResponse(provider=_provider(record, await self._providers.defaults()))

    async def ListProviders(self, request: pb.ListProvidersRequest, context: object) -> pb.ListProvidersResponse:
        """See the contract."""
        require(_PERMISSION)
        after, limit = _page(request.page_token, request.page_size)
        records, more = await self._providers.list(after=after, limit=limit)
        defaults = await self._providers.defaults()
        return pb.ListProvidersResponse(
            providers=[_provider(record, defaults) for record in records],
            next_page_token=encode_page_token(records[-1].name) if more else "",
        )

    async def UpdateProvider(self, request: pb.UpdateProviderRequest, context: object) -> pb.UpdateProviderResponse:
        """See the contract."""
        require(_PERMISSION)
        record = await self._providers.update(request.name, _changes(request))
        return pb.UpdateProviderResponse(provider=_provider(record, await self._providers.defaults()))

    async def DeleteProvider(self, request: pb.DeleteProviderRequest, context: object) -> pb.DeleteProviderResponse:
        """See the contract."""
        require(_PERMISSION)
        await self._providers.delete(request.name)
        return pb.DeleteProviderResponse()

    async def SetDefaultProvider(
        self, request: pb.SetDefaultProviderRequest, context: object
    ) -> pb.SetDefaultProviderResponse:
        """See the contract."""
        require(_PERMISSION)
        await self._providers.set_default(request.name, embeddings=request.embeddings)
        return pb.SetDefaultProviderResponse()

    async def TestProvider(self, request: pb.TestProviderRequest, context: object) -> pb.TestProviderResponse:
        """See the contract."""
        require(_PERMISSION)
        verdict = await self._providers.test(request.name, request.model)
        response = pb.TestProviderResponse(ok=not verdict.reason, reason=verdict.reason, message=verdict.message)
        if response.ok:
            response.first_token.FromMicroseconds(int(verdict.first_token_s * 1e6))
        return response


class AliasServicer(provider_pb2_grpc.AliasServiceServicer):
    """Serves `AliasService`."""

    def __init__(self, aliases: Aliases) -> None:
        self._aliases = aliases

    async def CreateAlias(self, request: pb.CreateAliasRequest, context: object) -> pb.CreateAliasResponse:
        """See the contract."""
        require(_PERMISSION)
        await self._aliases.create(_alias(request.alias), default=request.alias.default)
        return pb.CreateAliasResponse(alias=await self._read(request.alias.name))

    async def GetAlias(self, request: pb.GetAliasRequest, context: object) -> pb.GetAliasResponse:
        """See the contract."""
        require(_PERMISSION)
        return pb.GetAliasResponse(alias=await self._read(request.name))

    async def ListAliases(self, request: pb.ListAliasesRequest, context: object) -> pb.ListAliasesResponse:
        """See the contract."""
        require(_PERMISSION)
        after, limit = _page(request.page_token, request.page_size)
        aliases, more, defaults = await self._aliases.list(after=after, limit=limit)
        return pb.ListAliasesResponse(
            aliases=[self._spelt(alias, defaults) for alias in aliases],
            next_page_token=encode_page_token(aliases[-1].name) if more else "",
        )

    async def UpdateAlias(self, request: pb.UpdateAliasRequest, context: object) -> pb.UpdateAliasResponse:
        """See the contract."""
        require(_PERMISSION)
        await self._aliases.update(_alias(request.alias), default=request.alias.default)
        return pb.UpdateAliasResponse(alias=await self._read(request.alias.name))

    async def DeleteAlias(self, request: pb.DeleteAliasRequest, context: object) -> pb.DeleteAliasResponse:
        """See the contract."""
        require(_PERMISSION)
        await self._aliases.delete(request.name)
        return pb.DeleteAliasResponse()

    async def _read(self, name: str) -> pb.Alias:
        return self._spelt(*await self._aliases.get(name))

    def _spelt(self, alias: Alias, defaults: Defaults) -> pb.Alias:
        return pb.Alias(
            name=alias.name,
            targets=[pb.Target(model=t.model, weight=t.weight, rank=t.rank) for t in alias.targets],
            timeouts=_spelt_timeouts(alias.timeouts),
            default=self._aliases.is_default(alias.name, defaults),
            origin=pb.ORIGIN_STORED if alias.stored else pb.ORIGIN_ENVIRONMENT,
        )


def _page(token: str, size: int) -> tuple[str, int]:
    after = decode_page_token(token, parts=1)[0] if token else ""
    return after, page_size(size, default=_PAGE)


def _record(given: pb.Provider) -> ProviderRecord:
    return ProviderRecord(
        name=given.name,
        type=given.type,
        base_url=given.base_url,
        api_key=given.api_key,
        settings=dict(given.settings),
        models=tuple(given.models),
        default_model=given.default_model,
        embedding_model=given.embedding_model,
        timeouts=_timeouts(given.timeouts),
        enabled=given.enabled,
    )


def _changes(request: pb.UpdateProviderRequest) -> Changes:
    return Changes(
        base_url=request.base_url if request.HasField("base_url") else None,
        api_key=request.api_key if request.HasField("api_key") else None,
        settings=dict(request.settings.values) if request.HasField("settings") else None,
        models=tuple(request.models.names) if request.HasField("models") else None,
        default_model=request.default_model if request.HasField("default_model") else None,
        embedding_model=request.embedding_model if request.HasField("embedding_model") else None,
        timeouts=_timeouts(request.timeouts) if request.HasField("timeouts") else None,
        enabled=request.enabled if request.HasField("enabled") else None,
    )


def _provider(record: ProviderRecord, defaults: Defaults) -> pb.Provider:
    spelt = pb.Provider(
        name=record.name,
        type=record.type,
        base_url=record.base_url,
        api_key=masked(record.api_key),
        settings={name: masked(v) if name in SECRET_SETTINGS else v for name, v in record.settings.items()},
        models=record.models,
        default_model=record.default_model,
        embedding_model=record.embedding_model,
        timeouts=_spelt_timeouts(record.timeouts),
        enabled=record.enabled,
        default=record.name == defaults.provider,
        default_embeddings=record.name == defaults.embeddings,
        origin=pb.ORIGIN_STORED if record.stored else pb.ORIGIN_ENVIRONMENT,
    )
    if record.created_at is not None:
        spelt.create_time.FromDatetime(record.created_at)
    if record.updated_at is not None:
        spelt.update_time.FromDatetime(record.updated_at)
    return spelt


def _alias(given: pb.Alias) -> Alias:
    targets = tuple(AliasTarget(one.model, one.weight or 1, one.rank) for one in given.targets)
    return Alias(given.name, targets, _timeouts(given.timeouts), stored=True)


def _timeouts(given: pb.ProviderTimeouts) -> Timeouts:
    return Timeouts(
        seconds("timeouts.first_token", given.first_token),
        seconds("timeouts.gap", given.gap),
        seconds("timeouts.total", given.total),
    )


def _spelt_timeouts(timeouts: Timeouts) -> pb.ProviderTimeouts:
    spelt = pb.ProviderTimeouts()
    for name in ("first_token", "gap", "total"):
        if value := getattr(timeouts, f"{name}_s"):
            getattr(spelt, name).FromMicroseconds(round(value * 1e6))
    return spelt
