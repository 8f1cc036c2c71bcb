"""A run works with the user's token until there is a better one."""

from __future__ import annotations

import jwt
import pytest
import structlog.testing

from runtime.errors import ParleyError, PermissionDenied, Unauthenticated, Unavailable
from services.chat import delegation
from services.chat.delegation import Credential, Standing
from tests.unit.chat.turns import until


class Exchange:
    """Answers in turn: a token, or what it raises."""

    def __init__(self, *answers: str | ParleyError) -> None:
        self.answers = list(answers)

    async def delegate(self, *, token: str) -> str:
        assert token == "own"
        answer = self.answers.pop(0)
        if isinstance(answer, ParleyError):
            raise answer
        return answer

    async def delegate_for(self, user_id: str, org_id: str, *, role_at_most: str) -> str:
        raise NotImplementedError

    async def service_token(self) -> str:
        raise NotImplementedError


ENDED = 0.0


async def test_the_token_is_the_users_until_it_is_exchanged() -> None:
    credential = Credential(Exchange("delegated"), "own", expires_at=ENDED)
    assert credential.token == "own"
    await credential.exchange()
    assert credential.token == "delegated"


async def test_while_auth_is_away_the_exchange_is_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(delegation, "_FIRST_PAUSE_S", 0.001)
    credential = Credential(Exchange(Unavailable("away"), Unavailable("away"), "delegated"), "own", expires_at=ENDED)
    await credential.exchange()
    assert credential.token == "delegated"


@pytest.mark.parametrize("refusal", [Unauthenticated("ended"), PermissionDenied("no")])
async def test_a_refusal_is_final_and_the_users_token_goes_on(refusal: ParleyError) -> None:
    exchange = Exchange(refusal, "never asked for")
    credential = Credential(exchange, "own", expires_at=ENDED)
    await credential.exchange()
    assert (credential.token, len(exchange.answers)) == ("own", 1)


async def test_a_token_with_time_left_is_not_exchanged_in_the_first_moment(monkeypatch: pytest.MonkeyPatch) -> None:
    """The first token of the answer goes first; a token that is about to end cannot wait."""
    ending = Credential(Exchange("delegated"), "own", expires_at=30.0, clock=lambda: 0.0)
    lasting = Credential(Exchange("delegated"), "own", expires_at=900.0, clock=lambda: 0.0)
    lasting.keep()
    ending.keep()
    await until(lambda: ending.token == "delegated")
    assert lasting.token == "own"
    lasting.close()
    monkeypatch.setattr(delegation, "_EXCHANGE_AFTER_S", (0.001, 0.001))
    lasting.keep()
    await until(lambda: lasting.token == "delegated")


async def test_a_token_is_exchanged_a_minute_before_its_end_at_the_latest() -> None:
    soon = Credential(Exchange("delegated"), "own", expires_at=60.01, clock=lambda: 0.0)
    soon.keep()
    await until(lambda: soon.token == "delegated")


async def test_a_token_that_is_not_kept_any_more_stays_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(delegation, "_EXCHANGE_AFTER_S", (0.001, 0.001))
    left = Credential(Exchange("delegated"), "own", expires_at=900.0, clock=lambda: 0.0)
    kept = Credential(Exchange("delegated"), "own", expires_at=900.0, clock=lambda: 0.0)
    left.keep()
    left.close()
    kept.keep()
    await until(lambda: kept.token == "delegated")
    assert left.token == "own"


async def test_an_exchange_that_fails_as_nobody_foresaw_is_told_at_once() -> None:
    class Broken(Exchange):
        async def delegate(self, *, token: str) -> str:
            raise ZeroDivisionError

    credential = Credential(Broken(), "own", expires_at=ENDED)
    with structlog.testing.capture_logs() as lines:
        credential.keep()
        await until(lambda: bool(lines))
    assert [(line["event"], credential.token) for line in lines] == [("unforeseen_error", "own")]


async def test_a_token_for_somebody_who_is_away_is_replaced_again_and_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(delegation, "_FIRST_PAUSE_S", 0.001)
    given: list[str] = []

    class Giving(Exchange):
        async def delegate_for(self, user_id: str, org_id: str, *, role_at_most: str) -> str:
            if len(given) == 1:
                given.append("")
                raise Unavailable("away")
            given.append(signed(len(given)))
            return given[-1]

    standing = Standing(Giving(), "user", "org", signed(0), role_at_most="member", clock=lambda: 1_000.0)
    standing.keep()
    await until(lambda: len(given) >= 4)
    standing.close()
    assert standing.token == given[-1]


def signed(number: int) -> str:
    """Returns a token that is about to end."""
    claims = {"sub": "user", "org": "org", "role": "member", "session_id": "s", "exp": 1_030, "n": number}
    return jwt.encode(claims, "k" * 32, algorithm="HS256")
