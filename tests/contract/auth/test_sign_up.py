"""Signing up makes a user, their organization and a session, once per e-mail address."""

import asyncio
import uuid

import pytest

from runtime.errors import AlreadyExists, InvalidArgument
from tests.contract.auth.conftest import PASSWORD, Auth, claims_of


async def test_a_new_user_owns_a_personal_organization(auth: Auth) -> None:
    session = await auth.sign_up("ada@example.org")
    user = session.user
    assert (user.email, user.role) == ("ada@example.org", "owner")
    assert uuid.UUID(user.id).version == uuid.UUID(user.org_id).version == 7
    assert user.create_time == user.last_sign_in_time
    row = await auth.owner.fetchrow("SELECT id, personal_of FROM auth.organization")
    assert row is not None
    assert (str(row["id"]), str(row["personal_of"])) == (user.org_id, user.id)


async def test_the_access_token_says_who_where_and_until_when(auth: Auth) -> None:
    session = await auth.sign_up("ada@example.org")
    claims = claims_of(session.access_token)
    now = int(auth.clock())
    assert claims == {
        "iss": "parley",
        "aud": "parley",
        "sub": session.user.id,
        "org": session.user.org_id,
        "role": "owner",
        "session_id": claims["session_id"],
        "email": "ada@example.org",
        "iat": now,
        "exp": now + 900,
        "jti": claims["jti"],
    }
    assert uuid.UUID(claims["session_id"]).version == 7
    assert session.expires_in.ToSeconds() == 900
    assert session.expire_time.ToSeconds() == now + 900


async def test_the_access_token_is_accepted_by_a_service_that_knows_only_the_published_keys(auth: Auth) -> None:
    session = await auth.sign_up()
    identity = await auth.verifier("data").verify(session.access_token)
    assert (identity.user_id, identity.org_id, identity.actor) == (session.user.id, session.user.org_id, None)


async def test_no_two_tokens_are_alike(auth: Auth) -> None:
    first, second = await auth.sign_up("a@example.org"), await auth.sign_up("b@example.org")
    assert claims_of(first.access_token)["jti"] != claims_of(second.access_token)["jti"]
    assert first.refresh_token.startswith("prt_")
    assert len(first.refresh_token) == len("prt_") + 43
    assert first.refresh_token != second.refresh_token


async def test_neither_password_nor_refresh_token_is_stored_as_it_is(auth: Auth) -> None:
    session = await auth.sign_up()
    stored = ""
    for table in ("user_account", "session", "refresh_token", "throttle"):
        stored += str([tuple(row) for row in await auth.owner.fetch(f"SELECT * FROM auth.{table}")])
    assert "$argon2id$" in stored
    assert PASSWORD not in stored
    assert session.refresh_token not in stored
    assert session.refresh_token.removeprefix("prt_") not in stored


@pytest.mark.parametrize("again", ["ada@example.org", "ADA@Example.ORG", "  ada@example.org\t"])
async def test_an_address_signs_up_once_however_it_is_written(auth: Auth, again: str) -> None:
    await auth.sign_up("Ada@example.org")
    with pytest.raises(AlreadyExists) as refused:
        await auth.sign_up(again)
    assert refused.value.code == "EMAIL_TAKEN"


async def test_of_many_who_sign_up_at_once_with_one_address_one_wins(auth: Auth) -> None:
    results = await asyncio.gather(
        *(auth.sign_up("race@example.org", address=f"192.0.2.{n}") for n in range(20)), return_exceptions=True
    )
    refused = [result for result in results if isinstance(result, BaseException)]
    assert len(refused) == 19
    assert {getattr(error, "code", repr(error)) for error in refused} == {"EMAIL_TAKEN"}
    for table in ("user_account", "organization", "membership", "session", "refresh_token"):
        assert await auth.owner.fetchval(f"SELECT count(*) FROM auth.{table}") == 1, table


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("email", ""),
        ("email", "   "),
        ("email", "ada"),
        ("email", "@example.org"),
        ("email", "ada@"),
        ("email", "ada@example"),
        ("email", "ada@example..org"),
        ("email", "ada@.org"),
        ("email", "ada@example.org."),
        ("email", "a da@example.org"),
        ("email", "ada@exam\nple.org"),
        ("email", "ada@b@example.org"),
        ("email", "ada\x00@example.org"),
        ("email", "ada\u200b@example.org"),
        ("email", "a" * 243 + "@example.org"),
        ("password", ""),
        ("password", "1234567"),
        ("password", "x" * 129),
        ("password", "nul\x00inside"),
        ("client_address", "nowhere"),
        ("client_address", "192.0.2.256"),
        ("client_address", "192.0.2.1:80"),
    ],
)
async def test_a_bad_field_is_named(auth: Auth, field: str, value: str) -> None:
    good = {"email": "ada@example.org", "password": PASSWORD, "client_address": "192.0.2.1"}
    fields = {**good, field: value}
    with pytest.raises(InvalidArgument) as refused:
        await auth.sign_up(fields["email"], fields["password"], fields["client_address"])
    assert refused.value.metadata == {"field": field}
    assert await auth.owner.fetchval("SELECT count(*) FROM auth.user_account") == 0


@pytest.mark.parametrize("password", ["12345678", "x" * 128, "ü" * 8, "  spaces count  ", "😀" * 8])
async def test_a_password_of_8_to_128_characters_opens_what_it_closed(auth: Auth, password: str) -> None:
    await auth.sign_up(password=password)
    assert (await auth.sign_in(password=password)).access_token


async def test_an_address_of_254_characters_is_an_address(auth: Auth) -> None:
    email = "a" * 242 + "@example.org"
    assert (await auth.sign_up(email)).user.email == email
