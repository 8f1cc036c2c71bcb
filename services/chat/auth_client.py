"""Auth as the domain sees it."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from parley.auth.v1 import auth_pb2, auth_pb2_grpc
from runtime.channel import unary
from runtime.identity import remote_keys

if TYPE_CHECKING:
    from collections.abc import Callable

    import grpc


_NAME = "chat"
_LIFE_S = 3600
_SERVICE_LIFE_S = 300
_SERVICE_FRESH_S = 5.0


class AuthClient:
    """`Auth` over gRPC.

    Args:
        channel: To the auth service.
        actor_key: What proves this service.
        timeout_s: Longest wait for an answer.
        clock: Seconds that only grow.
    """

    def __init__(
        self,
        channel: grpc.aio.Channel,
        *,
        actor_key: str,
        timeout_s: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._stub = auth_pb2_grpc.AuthServiceStub(channel)
        self._actor_key = actor_key
        self._timeout_s = timeout_s
        self._clock = clock
        self._service_token = ""
        self._service_token_until = float("-inf")

    async def delegate(self, *, token: str) -> str:
        """Returns a token with which this service acts for the user for up to an hour."""
        request = auth_pb2.ExchangeTokenRequest(actor=_NAME, actor_key=self._actor_key, audiences=["data", "gateway"])
        request.ttl.FromSeconds(_LIFE_S)
        response = await unary(self._stub.ExchangeToken, request, timeout_s=self._timeout_s, token=token)
        access_token: str = response.access_token
        return access_token

    async def delegate_for(self, user_id: str, org_id: str, *, role_at_most: str) -> str:
        """Returns a token with which this service acts for a user who is not there, for up to an hour, with no more than a role."""
        request = auth_pb2.DelegateTokenRequest(
            actor=_NAME,
            actor_key=self._actor_key,
            user_id=user_id,
            org_id=org_id,
            audiences=["data", "gateway"],
            role_at_most=role_at_most,
        )
        request.ttl.FromSeconds(_LIFE_S)
        response = await unary(self._stub.DelegateToken, request, timeout_s=self._timeout_s, token="")
        return str(response.access_token)

    async def service_token(self) -> str:
        """Returns a token with which this service speaks for itself; the last one while it is fresh.

        It ends with its use, not with its life: that auth is away must be known before a run is claimed whose token only auth can give.
        """
        now = self._clock()
        if now > self._service_token_until:
            request = auth_pb2.IssueServiceTokenRequest(actor=_NAME, actor_key=self._actor_key, audiences=["data"])
            request.ttl.FromSeconds(_SERVICE_LIFE_S)
            response = await unary(self._stub.IssueServiceToken, request, timeout_s=self._timeout_s, token="")
            self._service_token, self._service_token_until = str(response.access_token), now + _SERVICE_FRESH_S
        return self._service_token

    async def jwks(self) -> str:
        """Returns the public keys of access tokens as JSON text."""
        return await remote_keys(self._stub.GetJwks, auth_pb2.GetJwksRequest())
