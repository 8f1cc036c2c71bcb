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
    waits: list[float] = []

    async def wait(seconds: float) -> None:
        waits.append(seconds)

    monkeypatch.setattr("services.chat.delegation.asyncio.sleep", wait)
    for left_s, pauses in ((900.0, [delegation._EXCHANGE_AFTER_S]), (30.0, [])):
        waits.clear()
        credential = Credential(Exchange("delegated"), "own", expires_at=left_s, clock=lambda: 0.0)
        await credential.exchange()
        assert (credential.token, waits) == ("delegated", pauses)
