"""Only a token that auth signed, for this service, and that still lives, speaks for a user."""

import asyncio
import base64
import json
from typing import Any

import jwt
import pytest

from parley.auth.v1 import auth_pb2, auth_pb2_grpc
from runtime.channel import open_channel
from runtime.context import credential
from runtime.errors import Unauthenticated, Unavailable
from runtime.identity import Verifier, remote_keys
from runtime.server import Servicer
from runtime.testing import Clock, Issuer, loopback
from tests.channels import connected


def unsigned(claims: dict[str, object], kid: str) -> str:
    def part(value: dict[str, object]) -> str:
        return base64.urlsafe_b64encode(json.dumps(value).encode()).decode().rstrip("=")

    return f"{part({'alg': 'none', 'kid': kid})}.{part(claims)}."


async def test_a_good_token_gives_its_claims() -> None:
    issuer = Issuer()
    identity = await issuer.verifier("data").verify(issuer.token("u", org="o", role="admin", session_id="s"))
    assert (identity.user_id, identity.org_id, identity.role, identity.session_id, identity.actor) == (
        "u",
        "o",
        "admin",
        "s",
        None,
    )


async def test_a_delegated_token_is_for_its_audience_alone() -> None:
    issuer = Issuer()
    token = issuer.token("u", aud=["data", "gateway"], act={"sub": "chat"})
    assert (await issuer.verifier("data").verify(token)).actor == "chat"
    with pytest.raises(Unauthenticated):
        await issuer.verifier("auth").verify(token)


@pytest.mark.parametrize(
    "change",
    [
        {"exp": 1},
        {"iss": "other"},
        {"aud": "other"},
        {"sub": 7},
        {"org": None},
        {"role": []},
        {"session_id": {}},
        {"act": "chat"},
    ],
    ids=str,
)
async def test_a_claim_that_is_wrong_is_refused(change: dict[str, Any]) -> None:
    issuer = Issuer()
    with pytest.raises(Unauthenticated):
        await issuer.verifier("data").verify(issuer.token(**change))


@pytest.mark.parametrize("missing", ["exp", "iat", "iss", "aud", "sub", "org", "role", "session_id"])
async def test_a_claim_that_is_missing_is_refused(missing: str) -> None:
    issuer = Issuer()
    claims = jwt.decode(issuer.token(), options={"verify_signature": False})
    del claims[missing]
    token = jwt.encode(claims, issuer._key, algorithm="EdDSA", headers={"kid": issuer.kid})
    with pytest.raises(Unauthenticated):
        await issuer.verifier("data").verify(token)


async def test_forged_tokens_are_refused() -> None:
    issuer, stranger = Issuer(), Issuer()
    claims = jwt.decode(issuer.token(), options={"verify_signature": False})
    good = issuer.token()
    header, body, signature = good.split(".")
    forged = [
        stranger.token(),
        unsigned(claims, issuer.kid),
        jwt.encode(claims, json.loads(issuer.jwks())["keys"][0]["x"], algorithm="HS256", headers={"kid": issuer.kid}),
        f"{header}.{body}.{signature[:-4]}AAAA",
        f"{header}.{body}.",
        "",
        "a.b.c",
        "é.é.é",
        "x" * 10_000,
    ]
    for token in forged:
        with pytest.raises(Unauthenticated):
            await issuer.verifier("data").verify(token)


async def test_a_token_that_was_good_ends_when_it_expires() -> None:
    issuer, clock = Issuer(), Clock()

    async def fetch() -> str:
        return issuer.jwks()

    verifier = Verifier(fetch, audience="data", clock=clock)
    token = issuer.token(ttl_s=900)
    await verifier.verify(token)
    clock.advance(899)
    await verifier.verify(token)
    clock.advance(10)
    with pytest.raises(Unauthenticated, match="has expired"):
        await verifier.verify(token)


async def test_a_new_key_is_found_when_its_id_is_first_seen() -> None:
    old, new, clock = Issuer("old"), Issuer("new"), Clock()
    published = [old]
    fetches = 0

    async def fetch() -> str:
        nonlocal fetches
        fetches += 1
        return json.dumps({"keys": [key for issuer in published for key in json.loads(issuer.jwks())["keys"]]})

    verifier = Verifier(fetch, audience="data", clock=clock)
    await verifier.verify(old.token())
    published.append(new)
    clock.advance(2)
    await verifier.verify(new.token())
    await verifier.verify(old.token())
    assert fetches == 2


async def test_callers_who_come_while_the_keys_are_being_fetched_wait_for_them() -> None:
    """The first second of a service's life: many calls at once, and one fetch under way for all of them."""
    issuer, fetches, asked, answered = Issuer(), 0, asyncio.Event(), asyncio.Event()

    async def fetch() -> str:
        nonlocal fetches
        fetches += 1
        asked.set()
        await answered.wait()
        return issuer.jwks()

    verifier = Verifier(fetch, audience="data")
    callers = [asyncio.create_task(verifier.verify(issuer.token("user-0")))]
    await asked.wait()
    callers += [asyncio.create_task(verifier.verify(issuer.token(f"user-{number}"))) for number in range(1, 5)]
    await asyncio.sleep(0)
    answered.set()
    identities = await asyncio.gather(*callers)
    assert [identity.user_id for identity in identities] == [f"user-{number}" for number in range(5)]
    assert fetches == 1


async def test_unknown_key_ids_do_not_flood_auth() -> None:
    issuer, clock, fetches = Issuer(), Clock(), 0

    async def fetch() -> str:
        nonlocal fetches
        fetches += 1
        return issuer.jwks()

    verifier = Verifier(fetch, audience="data", clock=clock)
    await verifier.verify(issuer.token())
    for number in range(20):
        with pytest.raises(Unauthenticated):
            await verifier.verify(Issuer(f"unknown-{number}").token())
    assert fetches == 1


async def test_known_keys_serve_on_while_auth_is_away() -> None:
    issuer, clock, away = Issuer(), Clock(), False

    async def fetch() -> str:
        if away:
            raise Unavailable("auth is away")
        return issuer.jwks()

    verifier = Verifier(fetch, audience="data", clock=clock)
    await verifier.verify(issuer.token())
    away = True
    clock.advance(400)
    await verifier.verify(issuer.token())
    cold = Verifier(fetch, audience="data", clock=clock)
    with pytest.raises(Unavailable):
        await cold.verify(issuer.token())


@pytest.mark.parametrize(
    "entry",
    [
        None,
        7,
        {},
        {"kid": "k"},
        {"kid": "k", "kty": "RSA", "n": "AQ", "e": "AQ"},
        {"kid": "k", "kty": "OKP", "crv": "Ed25519", "x": 5},
        {"kid": ["k"], "kty": "OKP", "crv": "Ed25519", "x": "A" * 43},
    ],
    ids=str,
)
async def test_a_key_that_cannot_be_read_is_left_out(entry: object) -> None:
    issuer = Issuer()

    async def fetch() -> str:
        return json.dumps({"keys": [entry, *json.loads(issuer.jwks())["keys"]]})

    assert (await Verifier(fetch, audience="data").verify(issuer.token("u"))).user_id == "u"


@pytest.mark.parametrize("answer", ["", "[]", "{}", '{"keys": null}'])
async def test_known_keys_serve_on_when_the_answer_is_no_key_set(answer: str) -> None:
    issuer, clock = Issuer(), Clock()
    answers = [issuer.jwks(), answer]

    async def fetch() -> str:
        return answers.pop(0)

    verifier = Verifier(fetch, audience="data", clock=clock)
    await verifier.verify(issuer.token("u"))
    clock.advance(2)
    with pytest.raises(Unauthenticated):
        await verifier.verify(Issuer("unknown").token())
    assert not answers
    assert (await verifier.verify(issuer.token("v"))).user_id == "v"


async def test_keys_are_asked_for_without_the_caller_s_credential() -> None:
    """It would only be shown to one more service, and auth would refuse one that has ended."""
    shown: list[Any] = []

    class Keys(auth_pb2_grpc.AuthServiceServicer):
        async def GetJwks(self, request: auth_pb2.GetJwksRequest, context: Any) -> auth_pb2.GetJwksResponse:
            shown.append(dict(context.invocation_metadata()).get("authorization"))
            return auth_pb2.GetJwksResponse(jwks_json="{}")

    servicer = Servicer(
        auth_pb2_grpc.add_AuthServiceServicer_to_server, Keys(), "parley.auth.v1.AuthService", ("GetJwks",)
    )
    token = credential.set("the caller's own")
    try:
        async with (
            loopback("auth", servicer) as address,
            connected(open_channel(address, auth_pb2.DESCRIPTOR)) as channel,
        ):
            stub = auth_pb2_grpc.AuthServiceStub(channel)
            assert await remote_keys(stub.GetJwks, auth_pb2.GetJwksRequest()) == "{}"
    finally:
        credential.reset(token)
    assert shown == [None]


async def test_a_token_is_kept_once_for_all_that_comes_with_it() -> None:
    issuer = Issuer()
    verifier, token = issuer.verifier("data"), issuer.token("u")
    again = "".join(token)
    assert verifier.kept(token) is token, "it is not known yet"
    await verifier.verify(token)
    await verifier.verify(again)
    assert verifier.kept(again) is token
