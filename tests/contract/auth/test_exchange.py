"""A service that proves itself may act for a user for a while, before the services it names."""

import base64

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from parley.auth.v1 import auth_pb2
from runtime.channel import unary
from runtime.errors import InvalidArgument, ParleyError, PermissionDenied, Unauthenticated
from runtime.identity import InvalidToken
from services.auth.signing import Seal
from tests.contract.auth.conftest import CHAT_KEY, ENCRYPTION_KEY, Auth, claims_of


async def test_the_token_names_user_actor_and_audience(auth: Auth) -> None:
    session = await auth.sign_up()
    delegated = await auth.exchange(session.access_token, ttl_s=600)
    own, claims, now = claims_of(session.access_token), claims_of(delegated.access_token), int(auth.clock())
    assert claims == {
        "iss": "parley",
        "aud": ["data", "gateway"],
        "sub": session.user.id,
        "org": session.user.org_id,
        "role": "owner",
        "session_id": own["session_id"],
        "act": {"sub": "chat"},
        "iat": now,
        "exp": now + 600,
        "jti": claims["jti"],
    }
    assert delegated.expire_time.ToSeconds() == now + 600


async def test_the_named_services_accept_it_and_no_others(auth: Auth) -> None:
    session = await auth.sign_up()
    delegated = await auth.exchange(session.access_token, audiences=("data",))
    assert (await auth.verifier("data").verify(delegated.access_token)).actor == "chat"
    for audience in ("gateway", "chat", "edge", "auth"):
        with pytest.raises(InvalidToken):
            await auth.verifier(audience).verify(delegated.access_token)


async def test_it_outlives_the_users_token_and_then_ends(auth: Auth) -> None:
    session = await auth.sign_up()
    delegated = await auth.exchange(session.access_token, ttl_s=3600)
    verifier = auth.verifier("data")
    auth.clock.advance(3590)
    with pytest.raises(InvalidToken):
        await verifier.verify(session.access_token)
    await verifier.verify(delegated.access_token)
    auth.clock.advance(20)
    with pytest.raises(InvalidToken):
        await verifier.verify(delegated.access_token)


@pytest.mark.parametrize(
    ("actor", "actor_key"),
    [
        ("chat", ""),
        ("chat", "wrong"),
        ("chat", CHAT_KEY + "x"),
        ("chat", CHAT_KEY[:-1]),
        ("chat", "ключ"),
        ("", CHAT_KEY),
        ("edge", CHAT_KEY),
        ("edge", ""),
        ("Chat", CHAT_KEY),
    ],
)
async def test_who_does_not_prove_to_be_a_known_actor_is_refused(auth: Auth, actor: str, actor_key: str) -> None:
    session = await auth.sign_up()
    with pytest.raises(PermissionDenied) as refused:
        await auth.exchange(session.access_token, actor=actor, actor_key=actor_key)
    assert (refused.value.code, refused.value.metadata) == ("ACTOR_REFUSED", {})


async def test_a_delegated_token_is_none_for_auth(auth: Auth) -> None:
    session = await auth.sign_up()
    delegated = await auth.exchange(session.access_token)
    with pytest.raises(Unauthenticated):
        await auth.exchange(delegated.access_token)
    with pytest.raises(Unauthenticated):
        await auth.sign_out(delegated.access_token)


@pytest.mark.parametrize(
    "audiences", [(), ("auth",), ("data", "chat"), ("parley",), ("data", "data"), ("",), ("data",) * 50]
)
async def test_only_data_and_gateway_can_be_the_audience(auth: Auth, audiences: tuple[str, ...]) -> None:
    session = await auth.sign_up()
    with pytest.raises(InvalidArgument) as refused:
        await auth.exchange(session.access_token, audiences=audiences)
    assert refused.value.metadata == {"field": "audiences"}


@pytest.mark.parametrize("ttl_s", [0, -1, 0.5, 3600.001, 1e9])
async def test_a_life_is_between_a_second_and_an_hour(auth: Auth, ttl_s: float) -> None:
    session = await auth.sign_up()
    with pytest.raises(InvalidArgument) as refused:
        await auth.exchange(session.access_token, ttl_s=ttl_s)
    assert refused.value.metadata == {"field": "ttl"}


@pytest.mark.parametrize(("seconds", "nanos"), [(2**62, 0), (1, 2_000_000_000), (60, -1)])
async def test_a_life_that_is_no_duration_is_refused(auth: Auth, seconds: int, nanos: int) -> None:
    """Beyond what the Duration type allows: a caller can send it all the same."""
    session = await auth.sign_up()
    request = auth_pb2.ExchangeTokenRequest(actor="chat", actor_key=CHAT_KEY, audiences=["data"])
    request.ttl.seconds, request.ttl.nanos = seconds, nanos
    with pytest.raises(InvalidArgument) as refused:
        await unary(auth.stub.ExchangeToken, request, timeout_s=10, token=session.access_token)
    assert refused.value.metadata == {"field": "ttl"}


async def test_a_revoked_session_gives_no_token(auth: Auth) -> None:
    session = await auth.sign_up()
    await auth.sign_out(session.access_token)
    with pytest.raises(ParleyError) as refused:
        await auth.exchange(session.access_token)
    assert isinstance(refused.value, Unauthenticated)
    assert refused.value.code == "SESSION_ENDED"


async def test_a_token_that_acts_for_a_user_cannot_be_exchanged_again(auth: Auth) -> None:
    """Not even one meant for auth itself, such as this one, signed with the real key."""
    session = await auth.sign_up()
    row = await auth.owner.fetchrow("SELECT kid, private_key FROM auth.signing_key")
    assert row is not None
    private = Seal(base64.b64decode(ENCRYPTION_KEY)).open(row["kid"], row["private_key"])
    claims = {**claims_of(session.access_token), "aud": ["auth"], "act": {"sub": "chat"}}
    key = Ed25519PrivateKey.from_private_bytes(private)
    token = jwt.encode(claims, key, algorithm="EdDSA", headers={"kid": row["kid"]})
    with pytest.raises(PermissionDenied) as refused:
        await auth.exchange(token)
    assert refused.value.code == "ACTOR_REFUSED"
