"""Signing in opens a session for whoever knows the password, and tells nobody else anything."""

import asyncio

import pytest
from prometheus_client import REGISTRY

from runtime.errors import InvalidArgument, NotFound, ParleyError, ResourceExhausted, Unauthenticated
from tests.contract.auth.conftest import PASSWORD, Auth, StartAuth, claims_of


def checks() -> float:
    """How many passwords were compared with a hash so far."""
    results = (
        REGISTRY.get_sample_value("parley_auth_password_checks_total", {"result": r}) for r in ("right", "wrong")
    )
    return sum(result or 0 for result in results)


async def test_each_sign_in_is_a_session_of_its_own(auth: Auth) -> None:
    first = await auth.sign_up()
    auth.clock.advance(100)
    second = await auth.sign_in()
    assert claims_of(first.access_token)["session_id"] != claims_of(second.access_token)["session_id"]
    assert (second.user.id, second.user.org_id, second.user.role) == (first.user.id, first.user.org_id, "owner")
    assert second.user.create_time == first.user.create_time
    assert second.user.last_sign_in_time.ToSeconds() - first.user.last_sign_in_time.ToSeconds() == 100
    assert await auth.current_user(first.access_token) == second.user


async def test_the_address_may_be_written_otherwise(auth: Auth) -> None:
    await auth.sign_up("ada@example.org")
    assert (await auth.sign_in("  ADA@example.org ")).user.email == "ada@example.org"


async def test_an_unknown_address_and_a_wrong_password_are_not_told_apart(auth: Auth) -> None:
    """Same status, reason, message and metadata, and the same work: one hash is compared either way."""
    await auth.sign_up("known@example.org")
    answers: list[tuple[object, ...]] = []
    for email in ("known@example.org", "unknown@example.org"):
        before = checks()
        with pytest.raises(ParleyError) as refused:
            await auth.sign_in(email, "not the password")
        error = refused.value
        answers.append((type(error), error.code, error.message, error.metadata, error.retry_after_s, checks() - before))
    assert answers[0] == answers[1]
    assert answers[0][:2] == (Unauthenticated, "INVALID_CREDENTIALS")
    assert answers[0][-1] == 1


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("email", ""),
        ("email", "ada"),
        ("email", "a" * 243 + "@example.org"),
        ("password", ""),
        ("password", "x" * 129),
        ("password", "nul\x00inside"),
        ("client_address", "nowhere"),
    ],
)
async def test_a_bad_field_is_named(auth: Auth, field: str, value: str) -> None:
    await auth.sign_up()
    good = {"email": "ada@example.org", "password": PASSWORD, "client_address": "192.0.2.1"}
    fields = {**good, field: value}
    with pytest.raises(InvalidArgument) as refused:
        await auth.sign_in(fields["email"], fields["password"], fields["client_address"])
    assert refused.value.metadata == {"field": field}


async def test_a_hash_made_with_other_parameters_is_made_anew_at_sign_in(start_auth: StartAuth) -> None:
    before = await start_auth(hash_iterations=1)
    await before.sign_up()
    after = await start_auth(beside=before, hash_iterations=2)
    stored = "SELECT password_hash FROM auth.user_account"
    with pytest.raises(Unauthenticated):
        await after.sign_in(password="not the password")
    assert ",t=1," in await after.owner.fetchval(stored)
    await after.sign_in()
    renewed = await after.owner.fetchval(stored)
    assert ",t=2," in renewed
    await after.sign_in()
    assert await after.owner.fetchval(stored) == renewed


async def test_more_passwords_than_may_wait_are_refused_and_do_not_count_as_attempts(start_auth: StartAuth) -> None:
    auth = await start_auth(hash_threads=1, hash_queue=0, hash_memory_kib=32_768, account_attempts=50)
    await auth.sign_up()
    results = await asyncio.gather(*(auth.sign_in() for _ in range(20)), return_exceptions=True)
    refused = [result for result in results if isinstance(result, BaseException)]
    assert refused
    assert all(isinstance(error, ResourceExhausted) and error.code == "BUSY" for error in refused)
    assert all(isinstance(error, ResourceExhausted) and error.retry_after_s == 1 for error in refused)
    assert (
        await auth.owner.fetchval("SELECT coalesce(sum(attempts), 0) FROM auth.throttle WHERE kind <> 'sign_up'") == 0
    )
    assert (await auth.sign_in()).access_token


async def test_signing_out_ends_the_session_and_may_be_repeated(auth: Auth) -> None:
    gone, kept = await auth.sign_up(), await auth.sign_in()
    await auth.sign_out(gone.access_token)
    await auth.sign_out(gone.access_token)
    with pytest.raises(Unauthenticated) as refused:
        await auth.refresh(gone.refresh_token)
    assert refused.value.code == "INVALID_REFRESH_TOKEN"
    assert (await auth.refresh(kept.refresh_token)).access_token


async def test_what_speaks_for_a_user_needs_a_token(auth: Auth) -> None:
    for call in (auth.sign_out, auth.current_user, auth.exchange):
        for token in ("", "a.b.c"):
            with pytest.raises(Unauthenticated):
                await call(token)


async def test_an_access_token_ends_after_fifteen_minutes(auth: Auth) -> None:
    session = await auth.sign_up()
    auth.clock.advance(899)
    await auth.current_user(session.access_token)
    auth.clock.advance(10)
    with pytest.raises(Unauthenticated):
        await auth.current_user(session.access_token)


async def test_a_deleted_user_is_not_found(auth: Auth) -> None:
    session = await auth.sign_up()
    await auth.owner.execute("DELETE FROM auth.user_account")
    with pytest.raises(NotFound) as refused:
        await auth.current_user(session.access_token)
    assert refused.value.code == "USER_NOT_FOUND"


async def test_a_new_role_is_in_the_next_token(auth: Auth) -> None:
    session = await auth.sign_up()
    await auth.owner.execute("UPDATE auth.membership SET role = 'member'")
    assert claims_of((await auth.refresh(session.refresh_token)).access_token)["role"] == "member"
