"""Guessing is slow: per account, whether it exists or not, and per address."""

import asyncio

import pytest

from runtime.errors import ParleyError, Unauthenticated
from tests.contract.auth.conftest import Auth, StartAuth
from tests.contract.auth.test_sign_in import checks


async def outcome(auth: Auth, **sign_in: str) -> str:
    """The reason a sign-in ends with; empty: it was good."""
    try:
        await auth.sign_in(**sign_in)
    except ParleyError as error:
        return error.code
    return ""


async def fail(auth: Auth, times: int, email: str = "ada@example.org", address: str = "192.0.2.1") -> None:
    for _ in range(times):
        with pytest.raises(Unauthenticated):
            await auth.sign_in(email, "not the password", address)


async def wait_of(auth: Auth, email: str = "ada@example.org", address: str = "192.0.2.1") -> float:
    """How long a sign-in is told to wait."""
    with pytest.raises(ParleyError) as refused:
        await auth.sign_in(email, "not the password", address)
    assert refused.value.code == "TOO_MANY_ATTEMPTS"
    assert refused.value.retry_after_s is not None
    return refused.value.retry_after_s


async def test_after_five_failures_even_the_right_password_has_to_wait(auth: Auth) -> None:
    await auth.sign_up()
    await fail(auth, 5)
    before = checks()
    assert await wait_of(auth) == pytest.approx(30, abs=0.001)
    assert await outcome(auth) == "TOO_MANY_ATTEMPTS"
    assert checks() == before
    auth.clock.advance(30)
    assert await outcome(auth) == ""


async def test_each_further_failure_doubles_the_wait_up_to_a_quarter_of_an_hour(auth: Auth) -> None:
    await fail(auth, 5)
    waits = []
    for _ in range(8):
        waits.append(round(await wait_of(auth)))
        auth.clock.advance(waits[-1])
        await fail(auth, 1)
    assert waits == [30, 60, 120, 240, 480, 900, 900, 900]


async def test_asking_while_waiting_does_not_lengthen_the_wait(auth: Auth) -> None:
    await fail(auth, 5)
    auth.clock.advance(20)
    for _ in range(5):
        assert round(await wait_of(auth)) == 10


async def test_the_answer_is_the_same_for_an_account_that_does_not_exist(auth: Auth) -> None:
    await auth.sign_up("known@example.org")
    answers: list[list[tuple[object, ...]]] = []
    for number, email in enumerate(("known@example.org", "unknown@example.org")):
        answers.append([])
        for _ in range(8):
            with pytest.raises(ParleyError) as refused:
                await auth.sign_in(email, "not the password", f"192.0.2.{number}")
            error = refused.value
            answers[-1].append((type(error), error.code, error.message, error.metadata, error.retry_after_s))
    assert answers[0] == answers[1]
    assert [answer[1] for answer in answers[0]] == ["INVALID_CREDENTIALS"] * 5 + ["TOO_MANY_ATTEMPTS"] * 3


async def test_of_many_guesses_at_once_no_more_than_five_are_checked(auth: Auth) -> None:
    await auth.sign_up()
    before = checks()
    guesses = (outcome(auth, password=f"guess number {n}", address=f"192.0.2.{n}") for n in range(30))
    outcomes = await asyncio.gather(*guesses)
    assert checks() - before == 5
    assert sorted(set(outcomes)) == ["INVALID_CREDENTIALS", "TOO_MANY_ATTEMPTS"]
    assert outcomes.count("INVALID_CREDENTIALS") == 5


async def test_instances_count_together(start_auth: StartAuth) -> None:
    one = await start_auth()
    other = await start_auth(beside=one)
    await fail(one, 3)
    await fail(other, 2)
    assert await wait_of(one) == await wait_of(other)


async def test_success_clears_the_account(auth: Auth) -> None:
    await auth.sign_up()
    for _ in range(4):
        await fail(auth, 4)
        assert await outcome(auth) == ""


async def test_failures_are_forgotten_after_a_quarter_of_an_hour(auth: Auth) -> None:
    for _ in range(3):
        await fail(auth, 4)
        auth.clock.advance(900)
    await fail(auth, 4)


async def test_an_account_is_forgiven_after_a_quiet_quarter_of_an_hour(auth: Auth) -> None:
    await fail(auth, 5)
    auth.clock.advance(30 + 900)
    await fail(auth, 5)
    assert round(await wait_of(auth)) == 30


async def test_other_accounts_are_not_slowed(auth: Auth) -> None:
    await auth.sign_up("grace@example.org")
    await fail(auth, 5, "ada@example.org")
    assert await outcome(auth, email="grace@example.org") == ""


async def test_an_address_that_fails_on_many_accounts_has_to_wait(start_auth: StartAuth) -> None:
    auth = await start_auth(address_attempts=6)
    await auth.sign_up("grace@example.org")
    for number in range(6):
        await fail(auth, 1, f"somebody{number}@example.org", "192.0.2.7")
    assert round(await wait_of(auth, "else@example.org", "192.0.2.7")) == 900
    assert await outcome(auth, email="grace@example.org", address="192.0.2.7") == "TOO_MANY_ATTEMPTS"
    assert await outcome(auth, email="grace@example.org", address="192.0.2.8") == ""
    auth.clock.advance(900)
    assert await outcome(auth, email="grace@example.org", address="192.0.2.7") == ""
    await fail(auth, 5, "else@example.org", "192.0.2.7")


async def test_success_does_not_count_for_the_address(start_auth: StartAuth) -> None:
    """People behind one address share it."""
    auth = await start_auth(address_attempts=3)
    await auth.sign_up()
    for _ in range(10):
        assert await outcome(auth) == ""


async def test_an_address_that_waits_cannot_lengthen_an_accounts_wait(start_auth: StartAuth) -> None:
    auth = await start_auth(address_attempts=2)
    await auth.sign_up("grace@example.org")
    await fail(auth, 2, "ada@example.org", "192.0.2.7")
    for _ in range(10):
        assert await outcome(auth, email="grace@example.org", address="192.0.2.7") == "TOO_MANY_ATTEMPTS"
    assert await outcome(auth, email="grace@example.org", address="192.0.2.8") == ""


@pytest.mark.parametrize(
    ("first", "second"),
    [("2001:db8::1", "2001:db8::ffff:2"), ("192.0.2.9", "::ffff:192.0.2.9")],
)
async def test_one_customers_addresses_count_as_one(start_auth: StartAuth, first: str, second: str) -> None:
    auth = await start_auth(address_attempts=1)
    await fail(auth, 1, "ada@example.org", first)
    assert round(await wait_of(auth, "grace@example.org", second)) == 900


async def test_without_an_address_the_peers_counts(start_auth: StartAuth) -> None:
    auth = await start_auth(address_attempts=1)
    await fail(auth, 1, "ada@example.org", "")
    assert round(await wait_of(auth, "grace@example.org", "127.0.0.1")) == 900


async def test_an_address_signs_up_twenty_times_an_hour(auth: Auth) -> None:
    for number in range(20):
        await auth.sign_up(f"user{number}@example.org")
    with pytest.raises(ParleyError) as refused:
        await auth.sign_up("one-more@example.org")
    assert refused.value.code == "TOO_MANY_ATTEMPTS"
    assert refused.value.retry_after_s == pytest.approx(3600, abs=0.001)
    await auth.sign_up("elsewhere@example.org", address="192.0.2.2")
    auth.clock.advance(3600)
    await auth.sign_up("one-more@example.org")


async def test_of_many_sign_ups_at_once_no_more_than_the_limit_are_let_in(start_auth: StartAuth) -> None:
    auth = await start_auth(sign_ups_per_hour=3)
    results = await asyncio.gather(
        *(auth.sign_up(f"user{number}@example.org") for number in range(15)), return_exceptions=True
    )
    assert [getattr(result, "code", "") for result in results].count("TOO_MANY_ATTEMPTS") == 12
    assert await auth.owner.fetchval("SELECT count(*) FROM auth.user_account") == 3


async def test_the_addresses_of_those_who_failed_are_not_kept(auth: Auth) -> None:
    await fail(auth, 1, "somebody@example.org", "192.0.2.77")
    stored = str([tuple(row) for row in await auth.owner.fetch("SELECT kind, key FROM auth.throttle")])
    assert "account" in stored
    assert "somebody" not in stored
    assert "192.0.2.77" not in stored
