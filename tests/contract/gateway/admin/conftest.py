"""The gateway with a database, and an operator who keeps providers and aliases in it."""

from __future__ import annotations

import base64
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

import pytest

from parley.gateway.v1 import provider_pb2 as pb
from parley.gateway.v1 import provider_pb2_grpc
from runtime.channel import open_channel, unary
from runtime.config import Secret
from tests.conftest import MakeDatabase, StoredDatabase
from tests.contract.gateway.conftest import Gateway, MakeGateway
from tests.fakes.llm_provider import ScriptedProvider

KEY = base64.b64encode(b"k" * 32).decode()
API_KEY = "sk-a-key-that-nobody-may-see-4f2a"


@dataclass
class Operator:
    """Somebody with the permission `gateway:admin`, at one instance of the gateway."""

    gateway: Gateway
    stored: StoredDatabase
    operator: bool = True

    async def call(self, service: str, method: str, request: Any) -> Any:
        claims: dict[str, Any] = {"operator": True} if self.operator else {}
        token = self.gateway.issuer.token(**claims)
        async with open_channel(self.gateway.address, pb.DESCRIPTOR) as channel:
            stub: Any = getattr(provider_pb2_grpc, f"{service}ServiceStub")(channel)
            return await unary(getattr(stub, method), request, timeout_s=30, token=token)

    async def create(self, provider: ScriptedProvider | None = None, **fields: Any) -> pb.Provider:
        base = f"{(provider or self.gateway.provider).base_url}/v1"
        given = {"name": "mine", "type": "openai-compatible", "base_url": base, "models": ["m"], "enabled": True}
        request = pb.CreateProviderRequest(provider=pb.Provider(**{**given, **fields}))
        answer: pb.CreateProviderResponse = await self.call("Provider", "CreateProvider", request)
        return answer.provider

    async def get(self, name: str = "mine") -> pb.Provider:
        answer: pb.GetProviderResponse = await self.call("Provider", "GetProvider", pb.GetProviderRequest(name=name))
        return answer.provider

    async def list(self, **fields: Any) -> pb.ListProvidersResponse:
        answer: pb.ListProvidersResponse = await self.call(
            "Provider", "ListProviders", pb.ListProvidersRequest(**fields)
        )
        return answer

    async def update(self, name: str = "mine", **fields: Any) -> pb.Provider:
        request = pb.UpdateProviderRequest(name=name, **fields)
        answer: pb.UpdateProviderResponse = await self.call("Provider", "UpdateProvider", request)
        return answer.provider

    async def delete(self, name: str = "mine") -> None:
        await self.call("Provider", "DeleteProvider", pb.DeleteProviderRequest(name=name))

    async def set_default(self, name: str, *, embeddings: bool = False) -> None:
        request = pb.SetDefaultProviderRequest(name=name, embeddings=embeddings)
        await self.call("Provider", "SetDefaultProvider", request)

    async def test(self, name: str = "mine", model: str = "") -> pb.TestProviderResponse:
        request = pb.TestProviderRequest(name=name, model=model)
        answer: pb.TestProviderResponse = await self.call("Provider", "TestProvider", request)
        return answer

    async def alias(self, name: str, *targets: str | pb.Target, method: str = "Create", **fields: Any) -> pb.Alias:
        """Creates an alias, or updates it."""
        spelt = [pb.Target(model=one) if isinstance(one, str) else one for one in targets]
        request = getattr(pb, f"{method}AliasRequest")(alias=pb.Alias(name=name, targets=spelt, **fields))
        answer = await self.call("Alias", f"{method}Alias", request)
        alias: pb.Alias = answer.alias
        return alias

    async def get_alias(self, name: str) -> pb.Alias:
        answer: pb.GetAliasResponse = await self.call("Alias", "GetAlias", pb.GetAliasRequest(name=name))
        return answer.alias

    async def list_aliases(self, **fields: Any) -> pb.ListAliasesResponse:
        answer: pb.ListAliasesResponse = await self.call("Alias", "ListAliases", pb.ListAliasesRequest(**fields))
        return answer

    async def delete_alias(self, name: str) -> None:
        await self.call("Alias", "DeleteAlias", pb.DeleteAliasRequest(name=name))


StartOperator = Callable[..., Awaitable[Operator]]
"""`await start_operator(environ, beside=other, **settings)`; `beside` shares the other's database."""


@pytest.fixture
async def start_operator(database: MakeDatabase, make_gateway: MakeGateway) -> StartOperator:
    async def start(
        environ: dict[str, str] | None = None, *, beside: Operator | None = None, **settings: Any
    ) -> Operator:
        stored = beside.stored if beside else await database("gateway")
        given = {"database_url": Secret(stored.url), "encryption_keys": Secret(KEY), "ollama_probe": False}
        return Operator(await make_gateway(environ or {}, **{**given, **settings}), stored)

    return start


@pytest.fixture
async def operator(start_operator: StartOperator) -> Operator:
    """An operator of a gateway that knows no provider yet."""
    return await start_operator()
