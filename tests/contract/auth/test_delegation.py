"""A service that proves itself may act for a user who is not there, and speak for itself, each within bounds."""

from typing import Any

import pytest
from google.protobuf.duration_pb2 import Duration
from structlog.testing import capture_logs

from parley.auth.v1 import auth_pb2
from runtime.channel import unary
from runtime.errors import InvalidArgument, NotFound, PermissionDenied, Unauthenticated
from runtime.identity import InvalidToken
from runtime.ids import uuid7
from runtime.permissions import PERMISSIONS
from tests.contract.auth.conftest import CHAT_KEY, Auth, claims_of

NIL = "00000000-0000-0000-0000-000000000000"
FOREIGN_AUDIENCES: list[tuple[str, ...]] = [(), ("auth",), ("parley",), ("data", "chat"), ("data", "data"), ("",)]
FOREIGN_LIVES = [0, -1, 0.5, 3600.001, 1e9]


async def delegate(
    auth: Auth,
    user_id: str,
    org_id: str,
    *,
    actor: str = "chat",
    actor_key: str = CHAT_KEY,
    audiences: tuple[str, ...] = ("data", "gateway"),
    ttl_s: float = 600,
    role_at_most: str = "",
) -> auth_pb2.DelegateTokenResponse:
    request = auth_pb2.DelegateTokenRequest(
        actor=actor,
        actor_key=actor_key,
        user_id=user_id,
        org_id=org_id,
        audiences=audiences,
        ttl=_duration(ttl_s),
        role_at_most=role_at_most,
    )
    response: auth_pb2.DelegateTokenResponse = await unary(auth.stub.DelegateToken, request, timeout_s=20)
    return response


async def issue(
    auth: Auth,
    *,
    actor: str = "chat",
    actor_key: str = CHAT_KEY,
    audiences: tuple[str, ...] = ("data",),
    ttl_s: float = 600,
) -> auth_pb2.IssueServiceTokenResponse:
    request = auth_pb2.IssueServiceTokenRequest(
        actor=actor, actor_key=actor_key, audiences=audiences, ttl=_duration(ttl_s)
    )
    response: auth_pb2.IssueServiceTokenResponse = await unary(auth.stub.IssueServiceToken, request, timeout_s=20)
    return response


async def test_a_delegated_token_says_what_an_exchanged_one_does_but_for_the_session(auth: Auth) -> None:
    user = (await auth.sign_up()).user
    delegated = await delegate(auth, user.id, user.org_id, ttl_s=600)
    claims, now = claims_of(delegated.access_token), int(auth.clock())
    assert claims == {
        "iss": "parley",
        "aud": ["data", "gateway"],
        "sub": user.id,
        "org": user.org_id,
        "role": "owner",
        "session_id": NIL,
        "act": {"sub": "chat"},
        "iat": now,
        "exp": now + 600,
        "jti": claims["jti"],
    }
    assert delegated.expire_time.ToSeconds() == now + 600


async def test_a_services_own_token_is_nobodys_and_carries_the_services_role(auth: Auth) -> None:
    issued = await issue(auth, ttl_s=3600)
    claims, now = claims_of(issued.access_token), int(auth.clock())
    assert claims == {
        "iss": "parley",
        "aud": ["data"],
        "sub": NIL,
        "org": NIL,
        "role": "service",
        "session_id": NIL,
        "act": {"sub": "chat"},
        "iat": now,
        "exp": now + 3600,
        "jti": claims["jti"],
    }
    assert issued.expire_time.ToSeconds() == now + 3600
    assert "run:claim" in PERMISSIONS[claims["role"]]


async def test_the_named_services_accept_the_tokens_and_no_others(auth: Auth) -> None:
    user = (await auth.sign_up()).user
    delegated = (await delegate(auth, user.id, user.org_id, audiences=("data",))).access_token
    own = (await issue(auth)).access_token
    acting, speaking = await auth.verifier("data").verify(delegated), await auth.verifier("data").verify(own)
    assert (acting.user_id, acting.org_id, acting.role, acting.actor) == (user.id, user.org_id, "owner", "chat")
    assert (speaking.user_id, speaking.org_id, speaking.role, speaking.actor) == (NIL, NIL, "service", "chat")
    for audience in ("gateway", "chat", "edge", "auth"):
        for token in (delegated, own):
            with pytest.raises(InvalidToken):
                await auth.verifier(audience).verify(token)


async def test_each_ends_when_it_said(auth: Auth) -> None:
    user = (await auth.sign_up()).user
    delegated = await delegate(auth, user.id, user.org_id, ttl_s=60)
    own = await issue(auth, ttl_s=60)
    auth.clock.advance(70)
    for token in (delegated.access_token, own.access_token):
        with pytest.raises(InvalidToken):
            await auth.verifier("data").verify(token)


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
        ("Chat", CHAT_KEY),
    ],
)
async def test_who_does_not_prove_to_be_a_known_actor_is_refused(auth: Auth, actor: str, actor_key: str) -> None:
    user = (await auth.sign_up()).user
    with pytest.raises(PermissionDenied) as refused:
        await delegate(auth, user.id, user.org_id, actor=actor, actor_key=actor_key)
    assert (refused.value.code, refused.value.metadata) == ("ACTOR_REFUSED", {})
    with pytest.raises(PermissionDenied) as refused:
        await issue(auth, actor=actor, actor_key=actor_key)
    assert (refused.value.code, refused.value.metadata) == ("ACTOR_REFUSED", {})


async def test_a_users_token_does_not_stand_in_for_the_key(auth: Auth) -> None:
    """The methods take no credential; one that is sent proves nothing."""
    session = await auth.sign_up()
    request = auth_pb2.DelegateTokenRequest(
        actor="chat", user_id=session.user.id, org_id=session.user.org_id, audiences=["data"], ttl=_duration(60)
    )
    with pytest.raises(PermissionDenied) as refused:
        await unary(auth.stub.DelegateToken, request, timeout_s=20, token=session.access_token)
    assert refused.value.code == "ACTOR_REFUSED"


async def test_nobody_acts_for_a_user_who_is_not_known(auth: Auth) -> None:
    user = (await auth.sign_up()).user
    for user_id, org_id in [(uuid7(), user.org_id), (NIL, user.org_id), (user.id, uuid7()), (NIL, NIL)]:
        with pytest.raises(NotFound) as refused:
            await delegate(auth, user_id, org_id)
        assert refused.value.code == "USER_NOT_FOUND"


async def test_nobody_acts_in_the_organization_of_others(auth: Auth) -> None:
    ada = (await auth.sign_up("ada@example.org")).user
    bob = (await auth.sign_up("bob@example.org")).user
    with pytest.raises(NotFound) as refused:
        await delegate(auth, ada.id, bob.org_id)
    assert refused.value.code == "USER_NOT_FOUND"


async def test_nobody_acts_for_a_user_who_has_left_the_organization(auth: Auth) -> None:
    user = (await auth.sign_up()).user
    await delegate(auth, user.id, user.org_id)
    await auth.owner.execute("DELETE FROM auth.membership WHERE user_id = $1", user.id)
    with pytest.raises(NotFound) as refused:
        await delegate(auth, user.id, user.org_id)
    assert refused.value.code == "USER_NOT_FOUND"


async def test_the_role_is_the_one_of_this_moment(auth: Auth) -> None:
    user = (await auth.sign_up()).user
    await auth.owner.execute("UPDATE auth.membership SET role = 'member' WHERE user_id = $1", user.id)
    delegated = await delegate(auth, user.id, user.org_id)
    assert claims_of(delegated.access_token)["role"] == "member"


@pytest.mark.parametrize(
    ("now", "at_most", "given"),
    [
        ("owner", "member", "member"),
        ("owner", "owner", "owner"),
        ("member", "owner", "member"),
        ("admin", "owner", "admin"),
        ("owner", "a role of tomorrow", "member"),
    ],
)
async def test_the_role_is_no_more_than_the_work_was_begun_with(auth: Auth, now: str, at_most: str, given: str) -> None:
    """Neither more than the user has by now."""
    user = (await auth.sign_up()).user
    await auth.owner.execute("UPDATE auth.membership SET role = $2 WHERE user_id = $1", user.id, now)
    delegated = await delegate(auth, user.id, user.org_id, role_at_most=at_most)
    assert claims_of(delegated.access_token)["role"] == given


async def test_a_user_who_has_signed_out_is_still_acted_for(auth: Auth) -> None:
    """Signing out ends a session, not the work that was asked for in it."""
    session = await auth.sign_up()
    await auth.sign_out(session.access_token)
    delegated = await delegate(auth, session.user.id, session.user.org_id)
    assert claims_of(delegated.access_token)["sub"] == session.user.id


@pytest.mark.parametrize(("field", "ids"), [("user_id", ("ada", NIL)), ("org_id", (NIL, "")), ("user_id", ("", ""))])
async def test_ids_are_uuids(auth: Auth, field: str, ids: tuple[str, str]) -> None:
    with pytest.raises(InvalidArgument) as refused:
        await delegate(auth, *ids)
    assert refused.value.metadata == {"field": field}


@pytest.mark.parametrize("audiences", FOREIGN_AUDIENCES)
async def test_audiences_are_those_on_offer(auth: Auth, audiences: tuple[str, ...]) -> None:
    user = (await auth.sign_up()).user
    with pytest.raises(InvalidArgument) as refused:
        await delegate(auth, user.id, user.org_id, audiences=audiences)
    assert refused.value.metadata == {"field": "audiences"}
    with pytest.raises(InvalidArgument) as refused:
        await issue(auth, audiences=audiences)
    assert refused.value.metadata == {"field": "audiences"}


async def test_a_service_calls_no_model_for_itself(auth: Auth) -> None:
    with pytest.raises(InvalidArgument) as refused:
        await issue(auth, audiences=("data", "gateway"))
    assert refused.value.metadata == {"field": "audiences"}


@pytest.mark.parametrize("ttl_s", FOREIGN_LIVES)
async def test_a_life_is_between_a_second_and_an_hour(auth: Auth, ttl_s: float) -> None:
    user = (await auth.sign_up()).user
    with pytest.raises(InvalidArgument) as refused:
        await delegate(auth, user.id, user.org_id, ttl_s=ttl_s)
    assert refused.value.metadata == {"field": "ttl"}
    with pytest.raises(InvalidArgument) as refused:
        await issue(auth, ttl_s=ttl_s)
    assert refused.value.metadata == {"field": "ttl"}


async def test_neither_token_is_one_for_auth(auth: Auth) -> None:
    user = (await auth.sign_up()).user
    for token in (
        (await delegate(auth, user.id, user.org_id)).access_token,
        (await issue(auth)).access_token,
    ):
        with pytest.raises(Unauthenticated) as refused:
            await auth.exchange(token)
        assert refused.value.code == "INVALID_TOKEN"


async def test_each_delegation_leaves_a_line_for_the_auditor_and_so_does_a_refusal(auth: Auth) -> None:
    user = (await auth.sign_up()).user
    with capture_logs() as lines:
        await delegate(auth, user.id, user.org_id, audiences=("data",))
        for actor in ("chat", "somebody\nelse"):
            with pytest.raises(PermissionDenied):
                await issue(auth, actor=actor, actor_key="a guess")
    assert [_audited(line) for line in lines if line["event"] in _AUDITED] == [
        {"event": "token_delegated", "actor": "chat", "user_id": user.id, "org_id": user.org_id, "audiences": "data"},
        {"event": "actor_refused", "actor": "chat"},
        {"event": "actor_refused", "actor": "unknown"},
    ]
    assert not any(secret in str(line) for line in lines for secret in (CHAT_KEY, "a guess"))


_AUDITED = {"token_delegated", "actor_refused"}


def _audited(line: Any) -> dict[str, str]:
    return {name: line[name] for name in ("event", "actor", "user_id", "org_id", "audiences") if name in line}


def _duration(seconds: float) -> Duration:
    duration = Duration()
    duration.FromMilliseconds(int(seconds * 1000))
    return duration
