"""What has expired goes; what may still matter stays; any number of instances may sweep at once."""

import asyncio

import pytest

from runtime.errors import Unauthenticated
from tests.contract.auth.conftest import DAY_S, Auth, StartAuth


async def counts(auth: Auth) -> dict[str, int]:
    tables = ("session", "refresh_token", "throttle", "user_account")
    return {table: await auth.owner.fetchval(f"SELECT count(*) FROM auth.{table}") for table in tables}


async def test_nothing_that_lives_is_removed(auth: Auth) -> None:
    session = await auth.sign_up()
    await auth.refresh(session.refresh_token)
    before = await counts(auth)
    await auth.upkeep.once()
    assert await counts(auth) == before


async def test_a_session_that_was_not_refreshed_for_a_month_goes(auth: Auth) -> None:
    await auth.sign_up()
    auth.clock.advance(29 * DAY_S)
    living = await auth.sign_in()
    auth.clock.advance(2 * DAY_S)
    await auth.upkeep.once()
    assert await counts(auth) == {"session": 1, "refresh_token": 1, "throttle": 0, "user_account": 1}
    assert (await auth.refresh(living.refresh_token)).access_token


async def test_a_spent_token_stays_as_long_as_it_could_be_reused(auth: Auth) -> None:
    session = await auth.sign_up()
    successor = await auth.refresh(session.refresh_token)
    auth.clock.advance(29 * DAY_S)
    await auth.upkeep.once()
    with pytest.raises(Unauthenticated):
        await auth.refresh(session.refresh_token)
    with pytest.raises(Unauthenticated):
        await auth.refresh(successor.refresh_token)


async def test_a_revoked_session_goes_when_no_token_of_it_lives(auth: Auth) -> None:
    session = await auth.sign_up()
    await auth.sign_out(session.access_token)
    await auth.upkeep.once()
    assert (await counts(auth))["session"] == 1
    auth.clock.advance(3601)
    await auth.upkeep.once()
    assert (await counts(auth))["session"] == (await counts(auth))["refresh_token"] == 0


async def test_counters_go_when_they_no_longer_count(auth: Auth) -> None:
    for _ in range(5):
        with pytest.raises(Unauthenticated):
            await auth.sign_in()
    auth.clock.advance(929)
    await auth.upkeep.once()
    assert (await counts(auth))["throttle"] == 1
    auth.clock.advance(10)
    await auth.upkeep.once()
    assert (await counts(auth))["throttle"] == 0


async def test_more_than_a_batch_goes_in_one_round_of_several_instances(start_auth: StartAuth) -> None:
    one = await start_auth()
    other = await start_auth(beside=one)
    await one.sign_up()
    await one.owner.execute(
        "INSERT INTO auth.refresh_token (sha256, session_id, issued_at, expires_at)"
        " SELECT sha256(n::text::bytea), s.id, s.created_at, s.created_at FROM generate_series(1, 2500) AS n, auth.session AS s"
    )
    one.clock.advance(1)
    await asyncio.gather(one.upkeep.once(), other.upkeep.once())
    await one.upkeep.once()  # rows one instance held are skipped by the other
    assert (await counts(one))["refresh_token"] == 1


async def test_every_instance_sweeps_by_itself(start_auth: StartAuth) -> None:
    auth = await start_auth(upkeep_every_s=0.01)
    await auth.sign_up()
    auth.clock.advance(40 * DAY_S)
    async with auth.upkeep.running(), asyncio.timeout(10):
        while (await counts(auth))["session"]:  # noqa: ASYNC110 - a row of a database cannot be awaited
            await asyncio.sleep(0.01)
