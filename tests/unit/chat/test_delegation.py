"""A run works with the user's token until there is a better one."""

from __future__ import annotations

import pytest

from runtime.errors import ParleyError, PermissionDenied, Unauthenticated, Unavailable
from services.chat import delegation
from services.chat.delegation import Credential


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


async def test_the_token_is_the_users_until_it_is_exchanged() -> None:
    credential = Credential(Exchange("delegated"), "own")
    assert credential.token == "own"
    await credential.exchange()
    assert credential.token == "delegated"


async def test_while_auth_is_away_the_exchange_is_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(delegation, "_FIRST_PAUSE_S", 0.001)
    credential = Credential(Exchange(Unavailable("away"), Unavailable("away"), "delegated"), "own")
    await credential.exchange()
    assert credential.token == "delegated"


@pytest.mark.parametrize("refusal", [Unauthenticated("ended"), PermissionDenied("no")])
async def test_a_refusal_is_final_and_the_users_token_goes_on(refusal: ParleyError) -> None:
    exchange = Exchange(refusal, "never asked for")
    credential = Credential(exchange, "own")
    await credential.exchange()
    assert (credential.token, len(exchange.answers)) == ("own", 1)
