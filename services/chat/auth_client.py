"""Auth as the domain sees it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from parley.auth.v1 import auth_pb2, auth_pb2_grpc
from runtime.channel import unary
from runtime.identity import remote_keys

if TYPE_CHECKING:
    import grpc


class AuthClient:
    """`Auth` over gRPC.

    Args:
        channel: To the auth service.
        actor_key: What proves this service.
        timeout_s: Longest wait for an answer.
    """

    def __init__(self, channel: grpc.aio.Channel, *, actor_key: str, timeout_s: float) -> None:
        self._stub = auth_pb2_grpc.AuthServiceStub(channel)
        self._actor_key = actor_key
        self._timeout_s = timeout_s

    async def delegate(self, *, token: str) -> str:
        """Returns a token with which this service acts for the user for up to an hour."""
        request = auth_pb2.ExchangeTokenRequest(actor="chat", actor_key=self._actor_key, audiences=["data", "gateway"])
        request.ttl.FromSeconds(3600)
        response = await unary(self._stub.ExchangeToken, request, timeout_s=self._timeout_s, token=token)
        access_token: str = response.access_token
        return access_token

    async def jwks(self) -> str:
        """Returns the public keys of access tokens as JSON text."""
        return await remote_keys(self._stub.GetJwks, auth_pb2.GetJwksRequest())
