"""Converts between the contract and the domain."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

from parley.auth.v1 import auth_pb2, auth_pb2_grpc
from runtime.context import current_identity
from runtime.wellknown import seconds, timestamp
from services.auth.delegation import Wanted
from services.auth.domain import ACCESS_TOKEN_LIFE

if TYPE_CHECKING:
    from datetime import datetime

    from google.protobuf.timestamp_pb2 import Timestamp

    from services.auth.api_keys import ApiKey, ApiKeys
    from services.auth.delegation import Delegation
    from services.auth.domain import Credentials, Sessions, User
    from services.auth.signing import KeyRing

OPEN_METHODS = ("SignUp", "SignIn", "RefreshSession", "GetJwks", "DelegateToken", "IssueServiceToken", "ExchangeApiKey")
"""Methods without an access token; what proves the caller is in the request."""
_PEER = re.compile(r"ipv[46]:\[?(?P<address>[^\]]+?)\]?:\d+")
_THIS_MACHINE = "127.0.0.1"


class AuthServicer(auth_pb2_grpc.AuthServiceServicer):
    """`parley.auth.v1.AuthService`."""

    def __init__(self, sessions: Sessions, api_keys: ApiKeys, delegation: Delegation, keys: KeyRing) -> None:
        self._sessions = sessions
        self._api_keys = api_keys
        self._delegation = delegation
        self._keys = keys

    async def SignUp(self, request: auth_pb2.SignUpRequest, context: Any) -> auth_pb2.SignUpResponse:
        address = request.client_address or peer_address(context.peer())
        credentials = await self._sessions.sign_up(request.email, request.password, address)
        return auth_pb2.SignUpResponse(session=_session(credentials))

    async def SignIn(self, request: auth_pb2.SignInRequest, context: Any) -> auth_pb2.SignInResponse:
        address = request.client_address or peer_address(context.peer())
        credentials = await self._sessions.sign_in(request.email, request.password, address)
        return auth_pb2.SignInResponse(session=_session(credentials))

    async def RefreshSession(
        self, request: auth_pb2.RefreshSessionRequest, _context: Any
    ) -> auth_pb2.RefreshSessionResponse:
        credentials = await self._sessions.refresh(request.refresh_token)
        return auth_pb2.RefreshSessionResponse(session=_session(credentials))

    async def SignOut(self, _request: auth_pb2.SignOutRequest, _context: Any) -> auth_pb2.SignOutResponse:
        await self._sessions.sign_out(current_identity())
        return auth_pb2.SignOutResponse()

    async def GetCurrentUser(
        self, _request: auth_pb2.GetCurrentUserRequest, _context: Any
    ) -> auth_pb2.GetCurrentUserResponse:
        user = await self._sessions.current_user(current_identity())
        return auth_pb2.GetCurrentUserResponse(user=_user(user))

    async def GetJwks(self, _request: auth_pb2.GetJwksRequest, _context: Any) -> auth_pb2.GetJwksResponse:
        return auth_pb2.GetJwksResponse(jwks_json=await self._keys.jwks())

    async def ExchangeToken(
        self, request: auth_pb2.ExchangeTokenRequest, _context: Any
    ) -> auth_pb2.ExchangeTokenResponse:
        access_token, expires_at = await self._delegation.exchange(current_identity(), _wanted(request))
        return auth_pb2.ExchangeTokenResponse(access_token=access_token, expire_time=timestamp(expires_at))

    async def DelegateToken(
        self, request: auth_pb2.DelegateTokenRequest, _context: Any
    ) -> auth_pb2.DelegateTokenResponse:
        access_token, expires_at = await self._delegation.delegate(
            request.user_id, request.org_id, _wanted(request), role_at_most=request.role_at_most
        )
        return auth_pb2.DelegateTokenResponse(access_token=access_token, expire_time=timestamp(expires_at))

    async def IssueServiceToken(
        self, request: auth_pb2.IssueServiceTokenRequest, _context: Any
    ) -> auth_pb2.IssueServiceTokenResponse:
        access_token, expires_at = await self._delegation.issue(_wanted(request))
        return auth_pb2.IssueServiceTokenResponse(access_token=access_token, expire_time=timestamp(expires_at))

    async def CreateApiKey(self, request: auth_pb2.CreateApiKeyRequest, _context: Any) -> auth_pb2.CreateApiKeyResponse:
        ttl_s = seconds("ttl", request.ttl) if request.HasField("ttl") else None
        made = await self._api_keys.create(current_identity(), request.name, request.scopes, ttl_s)
        return auth_pb2.CreateApiKeyResponse(api_key=_api_key(made.api_key), secret=made.secret)

    async def ListApiKeys(self, request: auth_pb2.ListApiKeysRequest, _context: Any) -> auth_pb2.ListApiKeysResponse:
        page, token = await self._api_keys.page(current_identity(), request.page_size, request.page_token)
        return auth_pb2.ListApiKeysResponse(api_keys=map(_api_key, page), next_page_token=token)

    async def RevokeApiKey(self, request: auth_pb2.RevokeApiKeyRequest, _context: Any) -> auth_pb2.RevokeApiKeyResponse:
        key = await self._api_keys.revoke(current_identity(), request.api_key_id)
        return auth_pb2.RevokeApiKeyResponse(api_key=_api_key(key))

    async def ExchangeApiKey(
        self, request: auth_pb2.ExchangeApiKeyRequest, _context: Any
    ) -> auth_pb2.ExchangeApiKeyResponse:
        access_token, expires_at = await self._api_keys.exchange(request.secret)
        return auth_pb2.ExchangeApiKeyResponse(access_token=access_token, expire_time=timestamp(expires_at))


def peer_address(peer: str) -> str:
    """Returns the network address in gRPC's name of a peer, such as `ipv6:[::1]:5000`; a local socket is this machine."""
    match = _PEER.fullmatch(unquote(peer))
    return match["address"] if match else _THIS_MACHINE


def _wanted(
    request: auth_pb2.ExchangeTokenRequest | auth_pb2.DelegateTokenRequest | auth_pb2.IssueServiceTokenRequest,
) -> Wanted:
    return Wanted(request.actor, request.actor_key, tuple(request.audiences), seconds("ttl", request.ttl))


def _session(credentials: Credentials) -> auth_pb2.Session:
    session = auth_pb2.Session(
        access_token=credentials.access_token,
        expire_time=timestamp(credentials.expires_at),
        refresh_token=credentials.refresh_token,
        user=_user(credentials.user),
    )
    session.expires_in.FromTimedelta(ACCESS_TOKEN_LIFE)
    return session


def _user(user: User) -> auth_pb2.User:
    return auth_pb2.User(
        id=user.id,
        email=user.email,
        org_id=user.org_id,
        role=user.role,
        create_time=timestamp(user.created_at),
        last_sign_in_time=timestamp(user.last_sign_in_at),
    )


def _api_key(key: ApiKey) -> auth_pb2.ApiKey:
    return auth_pb2.ApiKey(
        id=key.id,
        name=key.name,
        prefix=key.prefix,
        scopes=key.scopes,
        create_time=timestamp(key.created_at),
        expire_time=_moment(key.expires_at),
        last_used_time=_moment(key.last_used_at),
        revoke_time=_moment(key.revoked_at),
    )


def _moment(moment: datetime | None) -> Timestamp | None:
    return timestamp(moment) if moment else None
