"""A refresh token is good once; two tabs may race; a thief ends the session."""

import asyncio

import pytest

from runtime.errors import InvalidArgument, ParleyError, Unauthenticated
from tests.contract.auth.conftest import DAY_S, Auth, StartAuth, claims_of


async def refused(auth: Auth, refresh_token: str) -> tuple[object, ...]:
    """Everything a caller learns from a refusal."""
    with pytest.raises(Unauthenticated) as raised:
        await auth.refresh(refresh_token)
    error: ParleyError = raised.value
    assert error.code == "INVALID_REFRESH_TOKEN"
    return type(error), error.code, error.message, error.metadata


async def test_refreshing_gives_new_credentials_of_the_same_session(auth: Auth) -> None:
    old = await auth.sign_up()
    auth.clock.advance(600)
    new = await auth.refresh(old.refresh_token)
    before, after = claims_of(old.access_token), claims_of(new.access_token)
    assert {name for name in before if before[name] != after[name]} == {"iat", "exp", "jti"}
    assert after["exp"] == int(auth.clock()) + 900
    assert new.refresh_token != old.refresh_token
    assert new.user == old.user
    assert await auth.current_user(new.access_token) == old.user


async def test_a_chain_of_refreshes_goes_on(auth: Auth) -> None:
    session = await auth.sign_up()
    for _ in range(5):
        auth.clock.advance(3600)
        session = await auth.refresh(session.refresh_token)
    assert (await auth.current_user(session.access_token)).email == "ada@example.org"


async def test_a_spent_token_is_honoured_for_ten_seconds(auth: Auth) -> None:
    session = await auth.sign_up()
    first = await auth.refresh(session.refresh_token)
    auth.clock.advance(9.9)
    second = await auth.refresh(session.refresh_token)
    assert first.refresh_token != second.refresh_token
    assert claims_of(first.access_token)["session_id"] == claims_of(second.access_token)["session_id"]
    auth.clock.advance(60)
    for tab in (first, second):
        assert (await auth.refresh(tab.refresh_token)).access_token


async def test_the_grace_counts_from_the_first_use(auth: Auth) -> None:
    session = await auth.sign_up()
    await auth.refresh(session.refresh_token)
    auth.clock.advance(6)
    await auth.refresh(session.refresh_token)
    auth.clock.advance(6)
    await refused(auth, session.refresh_token)


async def test_later_reuse_revokes_the_session(auth: Auth) -> None:
    session = await auth.sign_up()
    successor = await auth.refresh(session.refresh_token)
    auth.clock.advance(10.1)
    await refused(auth, session.refresh_token)
    await refused(auth, successor.refresh_token)
    assert await auth.owner.fetchval("SELECT count(*) FROM auth.session WHERE revoked_at IS NOT NULL") == 1


async def test_reuse_leaves_other_sessions_alone(auth: Auth) -> None:
    stolen, other = await auth.sign_up(), await auth.sign_in()
    await auth.refresh(stolen.refresh_token)
    auth.clock.advance(60)
    await refused(auth, stolen.refresh_token)
    assert (await auth.refresh(other.refresh_token)).access_token


async def test_many_tabs_that_refresh_at_once_all_go_on(start_auth: StartAuth) -> None:
    """Over two instances: what serializes them is the database."""
    one = await start_auth()
    other = await start_auth(beside=one)
    session = await one.sign_up()
    results = await asyncio.gather(*((one, other)[n % 2].refresh(session.refresh_token) for n in range(20)))
    assert len({result.refresh_token for result in results}) == 20
    assert {claims_of(result.access_token)["session_id"] for result in results} == {
        claims_of(session.access_token)["session_id"]
    }
    assert await one.owner.fetchval("SELECT count(*) FROM auth.refresh_token WHERE spent_at IS NULL") == 20
    assert await one.owner.fetchval("SELECT count(*) FROM auth.session WHERE revoked_at IS NULL") == 1


async def test_many_late_reuses_at_once_are_all_refused(auth: Auth) -> None:
    session = await auth.sign_up()
    successor = await auth.refresh(session.refresh_token)
    auth.clock.advance(60)
    results = await asyncio.gather(*(auth.refresh(session.refresh_token) for _ in range(20)), return_exceptions=True)
    assert {getattr(result, "code", repr(result)) for result in results} == {"INVALID_REFRESH_TOKEN"}
    await refused(auth, successor.refresh_token)


async def test_a_reuse_beside_a_rotation_leaves_nothing_that_opens_the_session(auth: Auth) -> None:
    session = await auth.sign_up()
    successor = await auth.refresh(session.refresh_token)
    auth.clock.advance(60)
    results = await asyncio.gather(
        auth.refresh(successor.refresh_token), auth.refresh(session.refresh_token), return_exceptions=True
    )
    assert isinstance(results[1], Unauthenticated)
    for token in [session.refresh_token, successor.refresh_token] + [
        result.refresh_token for result in results if not isinstance(result, BaseException)
    ]:
        await refused(auth, token)


async def test_a_refresh_waits_for_a_revocation_under_way(auth: Auth) -> None:
    session = await auth.sign_up()
    blocked = "SELECT count(*) FROM pg_locks WHERE NOT granted"
    async with auth.owner.transaction():
        await auth.owner.execute("UPDATE auth.session SET revoked_at = created_at")
        refreshing = asyncio.create_task(auth.refresh(session.refresh_token))
        async with asyncio.timeout(10):
            while not await auth.owner.fetchval(blocked):  # noqa: ASYNC110 - a lock of the database cannot be awaited
                await asyncio.sleep(0.01)
    with pytest.raises(Unauthenticated):
        await refreshing


async def test_a_refresh_token_slides_thirty_days(auth: Auth) -> None:
    session = await auth.sign_up()
    for _ in range(3):
        auth.clock.advance(30 * DAY_S - 1)
        session = await auth.refresh(session.refresh_token)
    auth.clock.advance(30 * DAY_S)
    await refused(auth, session.refresh_token)


async def test_refusals_do_not_tell_why(auth: Auth) -> None:
    signed_out, expired, reused = await auth.sign_up(), await auth.sign_in(), await auth.sign_in()
    await auth.sign_out(signed_out.access_token)
    answers = [await refused(auth, signed_out.refresh_token), await refused(auth, "prt_" + "A" * 43)]
    await auth.refresh(reused.refresh_token)
    auth.clock.advance(60)
    answers.append(await refused(auth, reused.refresh_token))
    auth.clock.advance(30 * DAY_S)
    answers.append(await refused(auth, expired.refresh_token))
    assert len({str(answer) for answer in answers}) == 1


async def test_an_expired_token_that_was_spent_revokes_nothing(auth: Auth) -> None:
    session = await auth.sign_up()
    auth.clock.advance(DAY_S)
    successor = await auth.refresh(session.refresh_token)
    auth.clock.advance(29.5 * DAY_S)
    await refused(auth, session.refresh_token)
    assert (await auth.refresh(successor.refresh_token)).access_token


async def test_a_deleted_user_refreshes_nothing(auth: Auth) -> None:
    session = await auth.sign_up()
    await auth.owner.execute("DELETE FROM auth.user_account")
    await refused(auth, session.refresh_token)


async def test_who_left_the_organization_refreshes_nothing(auth: Auth) -> None:
    session = await auth.sign_up()
    await auth.owner.execute("DELETE FROM auth.membership")
    await refused(auth, session.refresh_token)


@pytest.mark.parametrize("token", ["", "x" * 513, "prt_\x00"])
async def test_what_cannot_be_a_refresh_token_is_named(auth: Auth, token: str) -> None:
    with pytest.raises(InvalidArgument) as raised:
        await auth.refresh(token)
    assert raised.value.metadata == {"field": "refresh_token"}


@pytest.mark.parametrize(
    "change", [str.lower, lambda token: token[:-1], lambda token: token + "A", lambda token: token[4:]]
)
async def test_almost_the_token_is_not_the_token(auth: Auth, change: object) -> None:
    session = await auth.sign_up()
    assert callable(change)
    await refused(auth, change(session.refresh_token))
    assert (await auth.refresh(session.refresh_token)).access_token
