"""API keys: told once, kept as hashes, good for what their scopes say, until they are revoked."""

import asyncio
from typing import Any

import pytest

from parley.auth.v1 import auth_pb2
from runtime.channel import unary
from runtime.errors import InvalidArgument, NotFound, PermissionDenied, ResourceExhausted, Unauthenticated
from runtime.identity import InvalidToken
from services.auth.api_keys import WORKING_MAX
from tests.contract.auth.conftest import DAY_S, Auth, StartAuth, claims_of

ALL = {"auth", "chat", "data", "edge", "gateway"}


async def create(
    auth: Auth, token: str, name: str = "ci", scopes: tuple[str, ...] = ("chat",), ttl_s: float | None = None
) -> auth_pb2.CreateApiKeyResponse:
    request = auth_pb2.CreateApiKeyRequest(name=name, scopes=scopes)
    if ttl_s is not None:
        request.ttl.FromMilliseconds(int(ttl_s * 1000))
    response: auth_pb2.CreateApiKeyResponse = await unary(auth.stub.CreateApiKey, request, timeout_s=20, token=token)
    return response


async def listed(auth: Auth, token: str, **fields: Any) -> auth_pb2.ListApiKeysResponse:
    request = auth_pb2.ListApiKeysRequest(**fields)
    response: auth_pb2.ListApiKeysResponse = await unary(auth.stub.ListApiKeys, request, timeout_s=20, token=token)
    return response


async def revoke(auth: Auth, token: str, key_id: str) -> auth_pb2.ApiKey:
    request = auth_pb2.RevokeApiKeyRequest(api_key_id=key_id)
    response: auth_pb2.RevokeApiKeyResponse = await unary(auth.stub.RevokeApiKey, request, timeout_s=20, token=token)
    return response.api_key


async def access(auth: Auth, secret: str) -> auth_pb2.ExchangeApiKeyResponse:
    request = auth_pb2.ExchangeApiKeyRequest(secret=secret)
    response: auth_pb2.ExchangeApiKeyResponse = await unary(auth.stub.ExchangeApiKey, request, timeout_s=20)
    return response


async def is_refused(auth: Auth, secret: str) -> None:
    with pytest.raises(Unauthenticated) as refused:
        await access(auth, secret)
    assert (refused.value.code, refused.value.metadata) == ("INVALID_API_KEY", {})


async def test_a_key_is_told_once_and_kept_as_a_hash(auth: Auth) -> None:
    token = (await auth.sign_up()).access_token
    made = await create(auth, token, " my laptop ")
    stored = await auth.owner.fetchrow("SELECT * FROM auth.api_key")
    assert stored is not None
    assert made.secret.startswith("plk_")
    assert len(made.secret) == 53
    assert made.secret not in str(dict(stored))
    assert made.secret[12:] not in str(dict(stored))
    page = await listed(auth, token)
    assert list(page.api_keys) == [made.api_key]
    assert (made.api_key.name, made.api_key.prefix) == ("my laptop", made.secret[:12])
    assert not any(made.api_key.HasField(moment) for moment in ("expire_time", "last_used_time", "revoke_time"))
    assert made.secret not in str(page)


@pytest.mark.parametrize(
    ("scopes", "audience", "role"),
    [
        (("models",), {"edge", "gateway"}, "member"),
        (("chat",), ALL, "member"),
        (("models", "chat"), ALL, "member"),
        (("admin",), ALL, "owner"),
    ],
)
async def test_scopes_decide_which_services_accept_it_and_as_what(
    auth: Auth, scopes: tuple[str, ...], audience: set[str], role: str
) -> None:
    session = await auth.sign_up()
    made = await create(auth, session.access_token, scopes=scopes)
    given = await access(auth, made.secret)
    now = int(auth.clock())
    claims = claims_of(given.access_token)
    assert claims == {
        "iss": "parley",
        "aud": sorted(audience),
        "sub": session.user.id,
        "org": session.user.org_id,
        "role": role,
        "session_id": made.api_key.id,
        "api_key_id": made.api_key.id,
        "scope": " ".join(sorted(scopes)),
        "iat": now,
        "exp": now + 300,
        "jti": claims["jti"],
    }
    assert given.expire_time.ToSeconds() == now + 300
    for service in ALL:
        if service in audience:
            assert (await auth.verifier(service).verify(given.access_token)).user_id == session.user.id
        else:
            with pytest.raises(InvalidToken):
                await auth.verifier(service).verify(given.access_token)


async def test_use_is_noted_to_the_minute(auth: Auth) -> None:
    token = (await auth.sign_up()).access_token
    made = await create(auth, token)
    auth.clock.advance(60 - auth.clock() % 60)
    minute = int(auth.clock())
    for _ in range(3):
        await access(auth, made.secret)
        auth.clock.advance(15)
    [key] = (await listed(auth, token)).api_keys
    assert key.last_used_time.ToSeconds() == minute
    auth.clock.advance(60)
    await access(auth, made.secret)
    [key] = (await listed(auth, token)).api_keys
    assert key.last_used_time.ToSeconds() == minute + 60


async def test_a_revoked_key_gives_nothing_and_what_it_gave_ends(auth: Auth) -> None:
    token = (await auth.sign_up()).access_token
    made = await create(auth, token)
    given = await access(auth, made.secret)
    first = await revoke(auth, token, made.api_key.id)
    auth.clock.advance(10)
    again = await revoke(auth, token, made.api_key.id)
    assert first.revoke_time == again.revoke_time
    assert first.HasField("revoke_time")
    await is_refused(auth, made.secret)
    with pytest.raises(Unauthenticated) as refused:
        await auth.exchange(given.access_token)
    assert refused.value.code == "SESSION_ENDED"
    auth.clock.advance(300)
    with pytest.raises(InvalidToken):
        await auth.verifier("data").verify(given.access_token)


async def test_a_key_ends_with_its_life_and_so_does_its_token(auth: Auth) -> None:
    token = (await auth.sign_up()).access_token
    made = await create(auth, token, ttl_s=120)
    end = int(auth.clock()) + 120
    assert made.api_key.expire_time.ToSeconds() == end
    assert (await access(auth, made.secret)).expire_time.ToSeconds() == end
    auth.clock.advance(121)
    await is_refused(auth, made.secret)


async def test_a_key_ends_when_its_user_leaves_the_organization(auth: Auth) -> None:
    session = await auth.sign_up()
    made = await create(auth, session.access_token)
    await auth.owner.execute("DELETE FROM auth.membership WHERE user_id = $1", session.user.id)
    await is_refused(auth, made.secret)


async def test_an_admin_key_is_no_more_than_its_user_now_is(auth: Auth) -> None:
    session = await auth.sign_up()
    made = await create(auth, session.access_token, scopes=("admin",))
    given = await access(auth, made.secret)
    await auth.owner.execute("UPDATE auth.membership SET role = 'member' WHERE user_id = $1", session.user.id)
    assert claims_of((await access(auth, made.secret)).access_token)["role"] == "member"
    assert claims_of((await auth.exchange(given.access_token)).access_token)["role"] == "member"


async def test_a_key_outlives_the_session_it_was_made_in(auth: Auth) -> None:
    session = await auth.sign_up()
    made = await create(auth, session.access_token)
    await auth.sign_out(session.access_token)
    assert (await access(auth, made.secret)).access_token


async def test_a_session_that_has_ended_makes_no_key(auth: Auth) -> None:
    """Its access token lives on for minutes; a key would live on for years."""
    session = await auth.sign_up()
    await auth.sign_out(session.access_token)
    with pytest.raises(Unauthenticated) as refused:
        await create(auth, session.access_token)
    assert refused.value.code == "SESSION_ENDED"


async def test_a_service_may_act_for_a_key_as_the_key_may(auth: Auth) -> None:
    """A run that a key has started outlives the key's access token like any other."""
    session = await auth.sign_up()
    made = await create(auth, session.access_token)
    delegated = claims_of((await auth.exchange((await access(auth, made.secret)).access_token)).access_token)
    assert (delegated["sub"], delegated["role"], delegated["act"]) == (session.user.id, "member", {"sub": "chat"})
    assert (delegated["session_id"], delegated["api_key_id"]) == (made.api_key.id, made.api_key.id)


async def test_a_key_makes_shows_and_revokes_no_keys(auth: Auth) -> None:
    session = await auth.sign_up()
    made = await create(auth, session.access_token, scopes=("admin",))
    token = (await access(auth, made.secret)).access_token
    for attempt in (
        create(auth, token),
        listed(auth, token),
        revoke(auth, token, made.api_key.id),
        auth.sign_out(token),
    ):
        with pytest.raises(PermissionDenied) as refused:
            await attempt
        assert refused.value.code == "SESSION_NEEDED"
    assert (await auth.current_user(token)).id == session.user.id


async def test_a_key_is_its_owner_s_alone(auth: Auth) -> None:
    ada, bob = await auth.sign_up("ada@example.org"), await auth.sign_up("bob@example.org")
    made = await create(auth, ada.access_token)
    assert not (await listed(auth, bob.access_token)).api_keys
    with pytest.raises(NotFound) as refused:
        await revoke(auth, bob.access_token, made.api_key.id)
    assert refused.value.code == "API_KEY_NOT_FOUND"
    await access(auth, made.secret)


@pytest.mark.parametrize(
    "change",
    [
        lambda secret: "",
        lambda secret: secret[:-1],
        lambda secret: secret + "x",
        lambda secret: secret.swapcase(),
        lambda secret: "prt_" + secret[4:],
        lambda secret: secret[:20] + ("a" if secret[20] != "a" else "b") + secret[21:],
        lambda secret: "plk_" + "é" * 49,
        lambda secret: "plk_" + "\x00" * 49,
        lambda secret: secret * 10_000,
    ],
    ids=range(9),
)
async def test_what_is_no_key_is_refused_like_one_that_is_unknown(auth: Auth, change: Any) -> None:
    made = await create(auth, (await auth.sign_up()).access_token)
    await is_refused(auth, change(made.secret))


async def test_an_unknown_key_of_the_right_form_is_refused(auth: Auth) -> None:
    made = await create(auth, (await auth.sign_up()).access_token)
    await auth.owner.execute("DELETE FROM auth.api_key")
    await is_refused(auth, made.secret)


@pytest.mark.parametrize(
    ("field", "asked"),
    [
        ("name", {"name": ""}),
        ("name", {"name": " "}),
        ("name", {"name": "x" * 101}),
        ("name", {"name": "a\x00b"}),
        ("scopes", {"scopes": ()}),
        ("scopes", {"scopes": ("everything",)}),
        ("scopes", {"scopes": ("chat", "chat")}),
        ("ttl", {"ttl_s": 0}),
        ("ttl", {"ttl_s": 59.9}),
        ("ttl", {"ttl_s": 3651 * DAY_S}),
    ],
)
async def test_a_broken_rule_is_told_by_field(auth: Auth, field: str, asked: dict[str, Any]) -> None:
    with pytest.raises(InvalidArgument) as refused:
        await create(auth, (await auth.sign_up()).access_token, **asked)
    assert refused.value.metadata == {"field": field}


async def test_keys_that_work_are_bounded_also_when_they_are_made_at_once(start_auth: StartAuth) -> None:
    one = await start_auth()
    other = await start_auth(beside=one)
    token = (await one.sign_up()).access_token
    for _ in range(WORKING_MAX - 3):
        await create(one, token)
    results = await asyncio.gather(
        *(create(auth, token) for auth in (one, other) for _ in range(4)), return_exceptions=True
    )
    made = [result for result in results if isinstance(result, auth_pb2.CreateApiKeyResponse)]
    refused = [result for result in results if isinstance(result, ResourceExhausted)]
    assert (len(made), len(refused)) == (3, 5)
    assert {error.code for error in refused} == {"TOO_MANY_API_KEYS"}
    await revoke(one, token, made[0].api_key.id)
    await create(one, token)


async def test_lists_are_paged_youngest_first(auth: Auth) -> None:
    token = (await auth.sign_up()).access_token
    names = [(await create(auth, token, f"key {number}")).api_key.name for number in range(5)]
    seen, page_token, pages = [], "", 0
    while pages == 0 or page_token:
        page = await listed(auth, token, page_size=2, page_token=page_token)
        seen += [key.name for key in page.api_keys]
        page_token, pages = page.next_page_token, pages + 1
    assert (seen, pages) == (names[::-1], 3)


@pytest.mark.parametrize(
    ("field", "fields"),
    [("page_size", {"page_size": 101}), ("page_size", {"page_size": -1}), ("page_token", {"page_token": "nonsense"})],
)
async def test_a_page_that_cannot_be_is_refused(auth: Auth, field: str, fields: dict[str, Any]) -> None:
    with pytest.raises(InvalidArgument) as refused:
        await listed(auth, (await auth.sign_up()).access_token, **fields)
    assert refused.value.metadata == {"field": field}


async def test_what_ended_long_ago_is_removed(auth: Auth) -> None:
    session = await auth.sign_up()
    revoked = await create(auth, session.access_token, "revoked")
    await create(auth, session.access_token, "expired", ttl_s=60)
    await create(auth, session.access_token, "working")
    await revoke(auth, session.access_token, revoked.api_key.id)
    auth.clock.advance(89 * DAY_S)
    await auth.upkeep.once()
    assert await auth.owner.fetchval("SELECT count(*) FROM auth.api_key") == 3
    auth.clock.advance(2 * DAY_S)
    await auth.upkeep.once()
    assert await auth.owner.fetchval("SELECT string_agg(name, ' ') FROM auth.api_key") == "working"
