"""Identity over HTTP: sessions in GoTrue's shapes, and tokens that are not what they should be."""

import asyncio
import base64
import json
import time
import uuid
from typing import Any

import asyncpg
import httpx
import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from runtime.testing import Issuer
from services.auth.signing import Seal
from tests.e2e.person import Person
from tests.e2e.system import System

UNKNOWN = "0193f000-0000-7000-8000-000000000000"


@pytest.fixture
async def http(stack: System) -> Any:
    async with httpx.AsyncClient(base_url=stack.edge_url, timeout=30) as client:
        yield client


@pytest.fixture
async def signer(stack: System) -> tuple[str, Ed25519PrivateKey]:
    """The key auth really signs with, and its id: only so can a token be wrong in one thing alone."""
    connection = await asyncpg.connect(stack.stack.database_url)
    try:
        row = await connection.fetchrow("SELECT kid, private_key FROM auth.signing_key ORDER BY activates_at LIMIT 1")
    finally:
        await connection.close()
    assert row is not None
    encryption_key = base64.b64decode((stack.stack.home.secrets / "auth_encryption_key").read_text())
    return row["kid"], Ed25519PrivateKey.from_private_bytes(Seal(encryption_key).open(row["kid"], row["private_key"]))


def unverified(token: str) -> dict[str, Any]:
    return jwt.decode(token, options={"verify_signature": False})


def code(answer: httpx.Response) -> tuple[int, str]:
    assert answer.headers["content-type"] == "application/problem+json"
    return answer.status_code, answer.json()["code"]


async def test_a_session_has_the_members_that_gotrues_clients_read(person: Person) -> None:
    session = person.session
    assert session.keys() == {"access_token", "token_type", "expires_in", "expires_at", "refresh_token", "user"}
    assert session["token_type"] == "bearer"
    assert abs(session["expires_at"] - time.time() - session["expires_in"]) < 60
    user = session["user"]
    assert user.keys() == {
        "id",
        "aud",
        "role",
        "email",
        "created_at",
        "last_sign_in_at",
        "app_metadata",
        "user_metadata",
    }
    assert (user["aud"], user["role"], user["email"]) == ("authenticated", "authenticated", person.email)
    assert user["app_metadata"]["org_role"] == "owner"
    assert uuid.UUID(user["app_metadata"]["org_id"]).version == 7
    assert user["created_at"].endswith("Z")


async def test_the_access_token_says_who_where_and_in_which_session(person: Person) -> None:
    claims = unverified(person.access_token)
    assert claims["sub"] == person.session["user"]["id"]
    assert claims["org"] == person.session["user"]["app_metadata"]["org_id"]
    assert {"role", "session_id", "exp", "iat", "iss", "aud"} <= claims.keys()


async def test_who_has_signed_up_can_sign_in(person: Person, http: httpx.AsyncClient) -> None:
    body = {"email": person.email, "password": person.password}
    answer = await http.post("/auth/v1/token?grant_type=password", json=body)
    assert answer.status_code == 200
    assert answer.json()["user"]["id"] == person.session["user"]["id"]


async def test_what_supabase_js_sends_beside_is_ignored(http: httpx.AsyncClient, person: Person) -> None:
    """It sends a captcha object, a redirect and its anonymous key as bearer; the answer to a wrong password has what it reads."""
    headers = {
        "apikey": "anon",
        "authorization": "Bearer anon",
        "x-client-info": "supabase-js/2",
        "x-supabase-api-version": "2024-01-01",
    }
    body: dict[str, Any] = {
        "email": person.email,
        "password": person.password,
        "data": {},
        "gotrue_meta_security": {},
        "code_challenge": None,
    }
    answer = await http.post("/auth/v1/token?grant_type=password&redirect_to=x", json=body, headers=headers)
    assert answer.status_code == 200
    body["password"] = "wrong password"
    answer = await http.post("/auth/v1/token?grant_type=password", json=body, headers=headers)
    assert answer.status_code == 400
    problem = answer.json()
    assert problem["error_code"] == problem["code"] == "invalid_credentials"
    assert problem["msg"] == problem["detail"]


async def test_an_unknown_address_and_a_wrong_password_get_the_same_answer(
    person: Person, http: httpx.AsyncClient
) -> None:
    answers = []
    for email in (person.email, "nobody@example.com"):
        answer = await http.post(
            "/auth/v1/token?grant_type=password", json={"email": email, "password": "wrong password"}
        )
        answers.append((answer.status_code, {**answer.json(), "request_id": ""}))
    assert answers[0] == answers[1]


async def test_an_address_can_be_taken_only_once(person: Person, http: httpx.AsyncClient) -> None:
    answer = await http.post("/auth/v1/signup", json={"email": person.email.upper(), "password": person.password})
    assert code(answer) == (409, "email_taken")


async def test_a_refresh_gives_new_credentials_for_the_same_session(person: Person, http: httpx.AsyncClient) -> None:
    answer = await http.post(
        "/auth/v1/token?grant_type=refresh_token", json={"refresh_token": person.session["refresh_token"]}
    )
    assert answer.status_code == 200
    renewed = answer.json()
    assert renewed["refresh_token"] != person.session["refresh_token"]
    assert unverified(renewed["access_token"])["session_id"] == unverified(person.access_token)["session_id"]


async def test_two_tabs_may_refresh_at_once(person: Person, http: httpx.AsyncClient) -> None:
    body = {"refresh_token": person.session["refresh_token"]}
    answers = await asyncio.gather(*(http.post("/auth/v1/token?grant_type=refresh_token", json=body) for _ in range(2)))
    assert [answer.status_code for answer in answers] == [200, 200]


async def test_a_session_that_was_left_cannot_be_refreshed(person: Person, http: httpx.AsyncClient) -> None:
    assert (await person.http.post("/auth/v1/logout")).status_code == 204
    body = {"refresh_token": person.session["refresh_token"]}
    answer = await http.post("/auth/v1/token?grant_type=refresh_token", json=body)
    assert code(answer) == (400, "invalid_refresh_token")


async def test_signing_out_twice_is_signing_out(person: Person) -> None:
    """supabase-js signs out with a scope in the query."""
    for _ in range(2):
        assert (await person.http.post("/auth/v1/logout?scope=global")).status_code == 204


async def test_the_current_user_is_who_signed_in(person: Person) -> None:
    answer = await person.http.get("/auth/v1/user")
    assert answer.status_code == 200
    assert answer.json()["id"] == person.session["user"]["id"]


async def test_the_public_keys_verify_a_token(person: Person, http: httpx.AsyncClient) -> None:
    answer = await http.get("/.well-known/jwks.json")
    assert answer.headers["cache-control"] == "public, max-age=300"
    keys = {key["kid"]: key for key in answer.json()["keys"]}
    assert not any("d" in key for key in keys.values()), "a private key was published"
    kid = jwt.get_unverified_header(person.access_token)["kid"]
    jwt.decode(person.access_token, jwt.PyJWK(keys[kid], algorithm="EdDSA"), algorithms=["EdDSA"], audience="parley")


SIGN_UP, SIGN_IN = "/auth/v1/signup", "/auth/v1/token?grant_type=password"
REFRESH = "/auth/v1/token?grant_type=refresh_token"
GOOD = {"email": "ada@example.com", "password": "12345678"}


@pytest.mark.parametrize(
    ("path", "body", "field"),
    [
        (SIGN_UP, {}, "email"),
        (SIGN_UP, {"email": "a@b.example"}, "password"),
        (SIGN_UP, {**GOOD, "email": ""}, "email"),
        (SIGN_UP, {**GOOD, "email": "no address"}, "email"),
        (SIGN_UP, {**GOOD, "email": "a@b@c.example"}, "email"),
        (SIGN_UP, {**GOOD, "email": "a" * 250 + "@b.example"}, "email"),
        (SIGN_UP, {**GOOD, "email": 7}, "email"),
        (SIGN_UP, {**GOOD, "email": None}, "email"),
        (SIGN_UP, {**GOOD, "email": "nul\x00@example.com"}, "email"),
        (SIGN_UP, {**GOOD, "password": ""}, "password"),
        (SIGN_UP, {**GOOD, "password": "1234567"}, "password"),
        (SIGN_UP, {**GOOD, "password": "x" * 129}, "password"),
        (SIGN_UP, {**GOOD, "password": ["12345678"]}, "password"),
        (SIGN_IN, {}, "email"),
        (SIGN_IN, {"email": "ada@example.com"}, "password"),
        (SIGN_IN, {**GOOD, "password": 12345678}, "password"),
        (SIGN_IN, {**GOOD, "email": {"$ne": ""}}, "email"),
        (REFRESH, {}, "refresh_token"),
        (REFRESH, {"refresh_token": ""}, "refresh_token"),
        (REFRESH, {"refresh_token": 7}, "refresh_token"),
        (REFRESH, {"refresh_token": "x" * 1000}, "refresh_token"),
        ("/auth/v1/token", GOOD, "grant_type"),
        ("/auth/v1/token?grant_type=magic", GOOD, "grant_type"),
        (SIGN_UP, [], "body"),
        (SIGN_UP, "text", "body"),
        (SIGN_UP, None, "body"),
    ],
)
async def test_a_field_that_breaks_its_rule_is_named(
    http: httpx.AsyncClient, path: str, body: object, field: str
) -> None:
    answer = await http.post(path, content=json.dumps(body), headers={"content-type": "application/json"})
    assert code(answer) == (400, "invalid_argument")
    assert answer.json()["field"] == field


async def test_an_unknown_refresh_token_opens_nothing(http: httpx.AsyncClient) -> None:
    answer = await http.post(REFRESH, json={"refresh_token": "prt_" + "x" * 40})
    assert code(answer) == (400, "invalid_refresh_token")


def altered(token: str, part: int) -> str:
    """Returns the token with one character in the middle of one part changed."""
    parts = token.split(".")
    middle = len(parts[part]) // 2
    other = "A" if parts[part][middle] != "A" else "B"
    parts[part] = parts[part][:middle] + other + parts[part][middle + 1 :]
    return ".".join(parts)


def encoded(value: dict[str, Any]) -> str:
    return base64.urlsafe_b64encode(json.dumps(value).encode()).decode().rstrip("=")


async def test_a_token_signed_by_auths_key_is_good(signer: tuple[str, Ed25519PrivateKey], person: Person) -> None:
    """The ground the refusals below stand on: what they change is all that is wrong."""
    kid, key = signer
    token = jwt.encode(unverified(person.access_token), key, algorithm="EdDSA", headers={"kid": kid})
    answer = await person.http.get("/v1/conversations", headers={"authorization": f"Bearer {token}"})
    assert answer.status_code == 200


@pytest.mark.parametrize(
    "wrong",
    [
        {"exp": 1},
        {"exp": "soon"},
        {"exp": None},
        {"iss": "somebody else"},
        {"aud": "another service"},
        {"aud": ["data", "gateway"]},
        {"sub": None},
        {"org": None},
        {"org": 7},
        {"session_id": None},
        {"act": "chat"},
    ],
    ids=str,
)
async def test_a_token_with_a_wrong_claim_is_refused(
    signer: tuple[str, Ed25519PrivateKey], person: Person, wrong: dict[str, Any]
) -> None:
    kid, key = signer
    claims = {name: value for name, value in {**unverified(person.access_token), **wrong}.items() if value is not None}
    token = jwt.encode(claims, key, algorithm="EdDSA", headers={"kid": kid})
    answer = await person.http.get("/v1/conversations", headers={"authorization": f"Bearer {token}"})
    assert code(answer) == (401, "invalid_token")
    assert answer.headers["www-authenticate"].startswith("Bearer")


async def test_forged_tokens_are_refused(person: Person, http: httpx.AsyncClient) -> None:
    good = person.access_token
    header, payload, signature = good.split(".")
    kid = jwt.get_unverified_header(good)["kid"]
    claims = unverified(good)
    forged = {
        "alg none, no signature": f"{encoded({'alg': 'none', 'typ': 'JWT'})}.{payload}.",
        "alg none with our kid": f"{encoded({'alg': 'none', 'typ': 'JWT', 'kid': kid})}.{payload}.",
        "alg none, old signature": f"{encoded({'alg': 'None', 'typ': 'JWT', 'kid': kid})}.{payload}.{signature}",
        "HMAC under the public key": jwt.encode(claims, "x" * 32, algorithm="HS256", headers={"kid": kid}),
        "somebody's key": Issuer().token(claims["sub"]),
        "somebody's key, our kid": Issuer(kid).token(claims["sub"]),
        "claims changed": altered(good, 1),
        "signature changed": altered(good, 2),
        "header changed": altered(good, 0),
        "no signature": f"{header}.{payload}.",
        "two parts": f"{header}.{payload}",
        "kid is a path": f"{encoded({'alg': 'EdDSA', 'kid': '../../etc/passwd'})}.{payload}.{signature}",
        "kid is a list": f"{encoded({'alg': 'EdDSA', 'kid': [kid]})}.{payload}.{signature}",
        "a word": "token",
        "very long": "x" * 20_000,
    }
    for name, token in forged.items():
        answer = await http.get("/v1/conversations", headers={"authorization": f"Bearer {token}"})
        assert code(answer) == (401, "invalid_token"), name


@pytest.mark.parametrize("header", [None, "", "Bearer", "Basic YTpi", "Token abc", "abc"])
async def test_without_a_bearer_token_nobody_comes_in(http: httpx.AsyncClient, header: str | None) -> None:
    headers = {} if header is None else {"authorization": header}
    answer = await http.get("/v1/conversations", headers=headers)
    assert code(answer) == (401, "unauthenticated")
    assert answer.headers["www-authenticate"] == "Bearer"


async def test_a_token_that_is_no_text_is_refused(http: httpx.AsyncClient) -> None:
    answer = await http.get("/v1/conversations", headers=[(b"authorization", b"Bearer \xff\xfe\xe2")])
    assert code(answer)[0] == 401


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", "/auth/v1/logout"),
        ("GET", "/auth/v1/user"),
        ("POST", "/v1/chat"),
        ("GET", "/v1/conversations"),
        ("POST", "/v1/conversations"),
        ("GET", f"/v1/conversations/{UNKNOWN}"),
        ("PATCH", f"/v1/conversations/{UNKNOWN}"),
        ("DELETE", f"/v1/conversations/{UNKNOWN}"),
        ("GET", f"/v1/conversations/{UNKNOWN}/messages"),
        ("POST", f"/v1/conversations/{UNKNOWN}/runs"),
        ("GET", f"/v1/runs/{UNKNOWN}"),
        ("POST", f"/v1/runs/{UNKNOWN}/cancel"),
        ("GET", f"/v1/runs/{UNKNOWN}/events"),
    ],
)
async def test_every_path_of_ones_own_needs_a_token_before_all_else(
    http: httpx.AsyncClient, method: str, path: str
) -> None:
    answer = await http.request(method, path, content=b"{not json", headers={"content-type": "text/plain"})
    assert code(answer) == (401, "unauthenticated")
