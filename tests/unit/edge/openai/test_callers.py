"""Who may speak OpenAI's dialect: holders of access tokens and of API keys."""

import asyncio
from typing import Any

import httpx
import openai
import pytest

from runtime.errors import Unauthenticated, Unavailable
from runtime.testing import Clock, Issuer
from services.edge.callers import Callers
from tests.unit.edge.openai.behind import API_KEY, Auth

HELLO: Any = [{"role": "user", "content": "Hello"}]


async def test_an_api_key_is_exchanged_once_for_many_requests(edge: str, auth: Auth) -> None:
    async with openai.AsyncOpenAI(base_url=edge, api_key=API_KEY, max_retries=0) as client:
        ask = client.chat.completions.create
        answers = await asyncio.gather(*(ask(model="fast", messages=HELLO) for _ in range(5)))
        await client.models.list()
    assert {answer.choices[0].message.content for answer in answers} == {"Hello there"}
    assert auth.exchanges == 1


@pytest.mark.parametrize("api_key", ["plk_nonsense", "sk-nonsense", "a.b.c"])
async def test_a_key_that_opens_nothing_is_told(edge: str, api_key: str) -> None:
    async with openai.AsyncOpenAI(base_url=edge, api_key=api_key) as client:
        for ask in (client.models.list, lambda: client.chat.completions.create(model="fast", messages=HELLO)):
            with pytest.raises(openai.AuthenticationError) as raised:
                await ask()
            assert (raised.value.code, raised.value.type) == ("invalid_api_key", "invalid_request_error")
            assert api_key not in raised.value.message


async def test_who_shows_nothing_is_told(edge: str) -> None:
    async with httpx.AsyncClient() as http:
        answer = await http.post(f"{edge}/chat/completions", json={})
    assert (answer.status_code, answer.json()["error"]["code"]) == (401, "invalid_api_key")
    assert answer.headers["www-authenticate"] == "Bearer"


async def test_a_key_reaches_only_what_it_is_for(edge: str, auth: Auth) -> None:
    auth.audience = ["gateway"]
    async with openai.AsyncOpenAI(base_url=edge, api_key=API_KEY) as client:
        with pytest.raises(openai.AuthenticationError):
            await client.models.list()


async def test_a_token_is_exchanged_anew_before_it_ends() -> None:
    issuer, clock, asked = Issuer(), Clock(), []

    async def exchange(key: str) -> tuple[str, float]:
        asked.append(key)
        return issuer.token("u-1"), clock.now + 300

    callers = Callers(issuer.verifier("edge"), exchange, clock)
    for seconds, times in ((0, 1), (4, 1), (2, 2), (4, 2), (260, 3)):
        clock.advance(seconds)
        await callers.admit(f"Bearer {API_KEY}")
        assert len(asked) == times


async def test_a_revoked_key_opens_nothing_after_seconds() -> None:
    issuer, clock, revoked = Issuer(), Clock(), False

    async def exchange(key: str) -> tuple[str, float]:
        if revoked:
            raise Unauthenticated("No.")
        return issuer.token("u-1"), clock.now + 300

    callers = Callers(issuer.verifier("edge"), exchange, clock)
    await callers.admit(f"Bearer {API_KEY}")
    revoked = True
    clock.advance(5)
    for _ in range(2):
        with pytest.raises(Unauthenticated):
            await callers.admit(f"Bearer {API_KEY}")


async def test_while_auth_is_away_a_token_goes_on_to_its_end() -> None:
    issuer, clock, asked, away = Issuer(), Clock(), 0, False

    async def exchange(key: str) -> tuple[str, float]:
        nonlocal asked
        asked += 1
        if away:
            raise Unavailable("Away.")
        return issuer.token("u-1"), clock.now + 300

    callers = Callers(issuer.verifier("edge"), exchange, clock)
    await callers.admit(f"Bearer {API_KEY}")
    away = True
    for seconds, times in ((6, 2), (1, 2), (5, 3)):
        clock.advance(seconds)
        await callers.admit(f"Bearer {API_KEY}")
        assert asked == times
    clock.advance(300)
    with pytest.raises(Unavailable):
        await callers.admit(f"Bearer {API_KEY}")


async def test_a_refusal_is_not_remembered() -> None:
    issuer, answers = Issuer(), [Unauthenticated("No."), ("", 0.0)]
    answers[1] = (issuer.token("u-1"), 2**31)

    async def exchange(_: str) -> Any:
        answer = answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    callers = Callers(issuer.verifier("edge"), exchange)
    with pytest.raises(Unauthenticated):
        await callers.admit(f"Bearer {API_KEY}")
    await callers.admit(f"Bearer {API_KEY}")
