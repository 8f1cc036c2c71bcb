"""API keys: what the paths ask of auth, and how they tell what it answers."""

from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest

from parley.auth.v1 import auth_pb2, auth_pb2_grpc
from runtime.errors import PermissionDenied
from runtime.server import Servicer
from runtime.testing import Issuer, loopback
from services.edge.app import build
from services.edge.clients import connect
from services.edge.config import EdgeConfig
from services.edge.operation.readiness import Readiness
from services.edge.streams import Streams

KEY_ID = "0193f000-0000-7000-8000-000000000001"


class Auth(auth_pb2_grpc.AuthServiceServicer):
    def __init__(self) -> None:
        self.asked: list[Any] = []

    @staticmethod
    def _key(name: str) -> auth_pb2.ApiKey:
        key = auth_pb2.ApiKey(id=KEY_ID, name=name, prefix="plk_12345678", scopes=["models"])
        key.create_time.FromSeconds(1_760_000_000)
        return key

    async def CreateApiKey(self, request: Any, context: Any) -> auth_pb2.CreateApiKeyResponse:
        self.asked.append(request)
        if request.name == "forbidden":
            raise PermissionDenied.of("SESSION_NEEDED", "An API key makes no API keys.")
        return auth_pb2.CreateApiKeyResponse(api_key=self._key(request.name), secret="plk_secret")

    async def ListApiKeys(self, request: Any, context: Any) -> auth_pb2.ListApiKeysResponse:
        self.asked.append(request)
        return auth_pb2.ListApiKeysResponse(api_keys=[self._key("one")], next_page_token="more")

    async def RevokeApiKey(self, request: Any, context: Any) -> auth_pb2.RevokeApiKeyResponse:
        self.asked.append(request)
        key = self._key("one")
        key.revoke_time.FromSeconds(1_760_000_100)
        return auth_pb2.RevokeApiKeyResponse(api_key=key)


@pytest.fixture
def auth() -> Auth:
    return Auth()


@pytest.fixture
async def http(auth: Auth) -> AsyncIterator[httpx.AsyncClient]:
    """A signed-in caller of the edge."""
    issuer, nowhere = Issuer(), "127.0.0.1:1"
    serving = Servicer(auth_pb2_grpc.add_AuthServiceServicer_to_server, auth, "parley.auth.v1.AuthService")
    async with loopback("auth", serving, verifier=issuer.verifier("auth")) as address:
        config = EdgeConfig(listen=nowhere, auth_address=address, data_address=nowhere, chat_address=nowhere)
        async with connect(config) as services:
            streams = Streams(limit=1, heartbeat_s=15, stalled_reader_s=60)
            app = build(config, services, issuer.verifier("edge"), streams, Readiness({}))
            transport = httpx.ASGITransport(app)
            headers = {"authorization": f"Bearer {issuer.token('u-1')}"}
            async with httpx.AsyncClient(transport=transport, base_url="http://edge", headers=headers) as client:
                yield client


async def test_a_key_is_told_when_it_is_made(http: httpx.AsyncClient, auth: Auth) -> None:
    answer = await http.post("/v1/api-keys", json={"name": "ci", "scopes": ["models", "chat"], "expires_in": 3600})
    assert answer.status_code == 201
    assert answer.json() == {
        "id": KEY_ID,
        "name": "ci",
        "prefix": "plk_12345678",
        "scopes": ["models"],
        "created_at": "2025-10-09T08:53:20Z",
        "expires_at": None,
        "last_used_at": None,
        "revoked_at": None,
        "key": "plk_secret",
    }
    [asked] = auth.asked
    assert (asked.name, list(asked.scopes), asked.ttl.seconds) == ("ci", ["models", "chat"], 3600)


async def test_a_key_calls_models_and_does_not_end_unless_that_is_said(http: httpx.AsyncClient, auth: Auth) -> None:
    await http.post("/v1/api-keys", json={"name": "ci"})
    [asked] = auth.asked
    assert list(asked.scopes) == ["models"]
    assert not asked.HasField("ttl")


async def test_keys_are_listed_without_their_secrets(http: httpx.AsyncClient, auth: Auth) -> None:
    answer = await http.get("/v1/api-keys", params={"page_size": 7, "page_token": "here"})
    assert [key["name"] for key in answer.json()["api_keys"]] == ["one"]
    assert "key" not in answer.json()["api_keys"][0]
    assert answer.json()["next_page_token"] == "more"
    assert (auth.asked[0].page_size, auth.asked[0].page_token) == (7, "here")


async def test_a_key_is_revoked(http: httpx.AsyncClient, auth: Auth) -> None:
    answer = await http.delete(f"/v1/api-keys/{KEY_ID}")
    assert (answer.status_code, answer.json()["revoked_at"]) == (200, "2025-10-09T08:55:00Z")
    assert auth.asked[0].api_key_id == KEY_ID


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({}, "name"),
        ({"name": ""}, "name"),
        ({"name": "a\x00"}, "name"),
        ({"name": "x", "scopes": ["everything"]}, "scopes.0"),
        ({"name": "x", "scopes": []}, "scopes"),
        ({"name": "x", "expires_in": 1}, "expires_in"),
        ({"name": "x", "more": 1}, "more"),
    ],
)
async def test_what_is_wrong_is_named(http: httpx.AsyncClient, auth: Auth, body: dict[str, Any], field: str) -> None:
    answer = await http.post("/v1/api-keys", json=body)
    assert (answer.status_code, answer.json()["field"]) == (400, field)
    assert auth.asked == []


async def test_who_may_not_is_told(http: httpx.AsyncClient) -> None:
    answer = await http.post("/v1/api-keys", json={"name": "forbidden"})
    assert (answer.status_code, answer.json()["code"]) == (403, "session_needed")
