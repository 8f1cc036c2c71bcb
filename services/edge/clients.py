"""Channels to the services behind the edge."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import grpc

from parley.auth.v1 import auth_pb2, auth_pb2_grpc
from parley.chat.v1 import chat_pb2, chat_pb2_grpc
from parley.data.v1 import data_pb2, data_pb2_grpc
from parley.gateway.v1 import gateway_pb2, gateway_pb2_grpc, provider_pb2_grpc, usage_pb2_grpc
from runtime.channel import open_channel, unary
from runtime.identity import remote_keys

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from services.edge.config import EdgeConfig


@dataclass(frozen=True)
class Services:
    """The services behind the edge.

    Attributes:
        auth: Stub of AuthService.
        conversations: Stub of ConversationService.
        runs: Stub of RunService, of which the edge reads what is stored.
        chat: Stub of ChatService.
        gateway: Stub of GatewayService; None where models are not called directly.
        usage: Stub of UsageService, of the gateway as the two that follow.
        providers: Stub of ProviderService.
        aliases: Stub of AliasService.
        channels: The channels this instance cannot do without, by name of the service.
        timeout_s: Longest wait for a unary answer.
    """

    auth: auth_pb2_grpc.AuthServiceAsyncStub
    conversations: data_pb2_grpc.ConversationServiceAsyncStub
    runs: data_pb2_grpc.RunServiceAsyncStub
    chat: chat_pb2_grpc.ChatServiceAsyncStub
    gateway: gateway_pb2_grpc.GatewayServiceAsyncStub | None
    channels: dict[str, grpc.aio.Channel]
    timeout_s: float
    usage: usage_pb2_grpc.UsageServiceAsyncStub | None = None
    providers: provider_pb2_grpc.ProviderServiceAsyncStub | None = None
    aliases: provider_pb2_grpc.AliasServiceAsyncStub | None = None

    async def call(self, method: Any, request: Any) -> Any:
        """Calls a unary method as the caller of the request at hand.

        Raises: whatever the service raised.
        """
        return await unary(method, request, timeout_s=self.timeout_s)

    async def jwks(self) -> str:
        """Returns the public keys of access tokens as JSON text."""
        return await remote_keys(self.auth.GetJwks, auth_pb2.GetJwksRequest())

    async def exchange(self, api_key: str) -> tuple[str, float]:
        """Returns an access token for an API key, and when it ends, seconds since the epoch.

        Raises: Unauthenticated: the key opens nothing.
        """
        request = auth_pb2.ExchangeApiKeyRequest(secret=api_key)
        response = await unary(self.auth.ExchangeApiKey, request, timeout_s=self.timeout_s, token="")
        return response.access_token, response.expire_time.ToNanoseconds() / 1e9


@contextlib.asynccontextmanager
async def connect(config: EdgeConfig) -> AsyncIterator[Services]:
    """Opens the channels; connecting happens at the first call."""
    async with (
        open_channel(config.auth_address, auth_pb2.DESCRIPTOR, idempotent=["ExchangeApiKey", "RevokeApiKey"]) as auth,
        open_channel(
            config.data_address,
            data_pb2.DESCRIPTOR,
            idempotent=["SearchConversations", "SelectBranch", "UpdateConversation"],
            mux=True,
        ) as data,
        open_channel(config.chat_address, chat_pb2.DESCRIPTOR, idempotent=["CancelRun"], mux=True) as chat,
        contextlib.AsyncExitStack() as more,
    ):
        gateway = usage = providers = aliases = None
        if config.gateway_address:
            opened = open_channel(config.gateway_address, gateway_pb2.DESCRIPTOR, idempotent=["Embed"], mux=True)
            channel = await more.enter_async_context(opened)
            gateway = gateway_pb2_grpc.GatewayServiceStub(channel)
            usage = usage_pb2_grpc.UsageServiceStub(channel)
            providers = provider_pb2_grpc.ProviderServiceStub(channel)
            aliases = provider_pb2_grpc.AliasServiceStub(channel)
        yield Services(
            auth=auth_pb2_grpc.AuthServiceStub(auth),
            conversations=data_pb2_grpc.ConversationServiceStub(data),
            runs=data_pb2_grpc.RunServiceStub(data),
            chat=chat_pb2_grpc.ChatServiceStub(chat),
            gateway=gateway,
            channels={"auth": auth, "data": data, "chat": chat},
            timeout_s=config.call_timeout_s,
            usage=usage,
            providers=providers,
            aliases=aliases,
        )
