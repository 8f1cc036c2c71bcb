"""Who operates the platform: said by its command line, told by access tokens."""

from __future__ import annotations

from typing import Any

import jwt
import pytest

from runtime import postgres
from runtime.errors import InvalidArgument
from services.auth.domain import UserNotFound
from services.auth.operators import Operators
from services.auth.store import QUERIES, PostgresOperators
from tests.contract.auth.conftest import Auth
from tests.contract.auth.test_process import environment, start


def claims(access_token: str) -> dict[str, Any]:
    told: dict[str, Any] = jwt.decode(access_token, options={"verify_signature": False})
    return told


async def command(auth: Auth, *arguments: str) -> tuple[int, str]:
    process = await start(environment(auth.stored.url), "operator", *arguments)
    output, _ = await process.process.communicate()
    return process.process.returncode or 0, output.decode()


async def test_an_operators_tokens_say_so_from_the_next_one_on(auth: Auth) -> None:
    session = await auth.sign_up()
    assert "operator" not in claims(session.access_token)
    async with postgres.connect(auth.stored.url, QUERIES, max_connections=1) as database:
        lines: list[str] = []
        operators = Operators(PostgresOperators(database), lambda event, **_: lines.append(event))
        await operators.grant(" Ada@Example.org ")
        session = await auth.refresh(session.refresh_token)
        assert claims(session.access_token)["operator"] is True
        assert claims((await auth.sign_in()).access_token)["operator"] is True
        await operators.revoke("ada@example.org")
        assert "operator" not in claims((await auth.refresh(session.refresh_token)).access_token)
        assert lines == ["operator_granted", "operator_revoked"]
        with pytest.raises(UserNotFound):
            await operators.grant("nobody@example.org")
        with pytest.raises(InvalidArgument):
            await operators.grant("nobody")


async def test_no_delegated_token_says_so(auth: Auth) -> None:
    await auth.sign_up()
    async with postgres.connect(auth.stored.url, QUERIES, max_connections=1) as database:
        await Operators(PostgresOperators(database), lambda *_, **__: None).grant("ada@example.org")
    session = await auth.sign_in()
    delegated = await auth.exchange(session.access_token)
    assert "operator" not in claims(delegated.access_token)


async def test_the_command_line_grants_and_revokes(auth: Auth) -> None:
    await auth.sign_up()
    code, told = await command(auth, "grant", "ada@example.org")
    assert code == 0, told
    assert "ada@example.org is an operator" in told
    assert claims((await auth.sign_in()).access_token)["operator"] is True
    code, told = await command(auth, "revoke", "ada@example.org")
    assert (code, "operator" in claims((await auth.sign_in()).access_token)) == (0, False)
    assert "ada@example.org is no operator" in told


@pytest.mark.parametrize(
    ("arguments", "code"),
    [(["grant", "nobody@example.org"], 1), (["grant", "x"], 1), (["make", "a@b.c"], 2), (["grant"], 2)],
)
async def test_what_cannot_be_is_told(auth: Auth, arguments: list[str], code: int) -> None:
    ended, told = await command(auth, *arguments)
    assert ended == code
    assert "Traceback" not in told
