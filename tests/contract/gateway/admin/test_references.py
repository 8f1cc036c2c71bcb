"""Keys that are kept elsewhere: in the environment, in a file, in a vault."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.contract.gateway.admin.conftest import Operator, StartOperator
from tests.fakes.llm_provider import ScriptedProvider
from tests.fakes.vault import FakeVault


@pytest.fixture
async def vault() -> AsyncIterator[FakeVault]:
    async with FakeVault() as vault:
        vault.secrets["secret/models/openai"] = {"key": "sk-from-the-vault", "other": 7}
        yield vault


async def key_of(operator: Operator) -> str:
    """The key a call is made with."""
    await operator.gateway.chat(model="mine/m")
    return operator.gateway.provider.requests[-1].headers.get("authorization", "")


async def test_a_key_may_be_in_the_environment(start_operator: StartOperator) -> None:
    operator = await start_operator({"MY_KEY": "sk-from-the-environment"})

    made = await operator.create(api_key="env:MY_KEY")

    assert made.api_key == "env:MY_KEY"
    assert await key_of(operator) == "Bearer sk-from-the-environment"


async def test_a_key_in_a_file_may_be_replaced_there(start_operator: StartOperator, tmp_path: Path) -> None:
    operator = await start_operator(secrets_every_s=0.1)
    (tmp_path / "key").write_text("sk-first\n")
    await operator.create(api_key=f"file:{tmp_path}/key")
    before = await key_of(operator)

    (tmp_path / "key").write_text("sk-second\n")
    async with asyncio.timeout(10):
        while await key_of(operator) != "Bearer sk-second":  # noqa: ASYNC110 - another's task reads it
            await asyncio.sleep(0.02)

    assert before == "Bearer sk-first"


@pytest.mark.parametrize("path", ["secret/models/openai", "secret/data/models/openai"])
async def test_a_key_may_be_in_a_vault(start_operator: StartOperator, vault: FakeVault, path: str) -> None:
    operator = await start_operator(vault.environ)

    made = await operator.create(api_key=f"vault:{path}#key")

    assert made.api_key == f"vault:{path}#key"
    assert await key_of(operator) == "Bearer sk-from-the-vault"
    assert vault.reads == ["secret/data/models/openai"]


async def test_calls_do_not_ask_the_vault(start_operator: StartOperator, vault: FakeVault) -> None:
    operator = await start_operator(vault.environ)
    await operator.create(api_key="vault:secret/models/openai#key")
    asked = len(vault.reads)

    for _ in range(5):
        await key_of(operator)

    assert len(vault.reads) == asked


async def test_while_the_vault_is_away_the_known_key_goes_on(start_operator: StartOperator, vault: FakeVault) -> None:
    operator = await start_operator(vault.environ)
    await operator.create(api_key="vault:secret/models/openai#key")

    vault.broken = True
    await operator.update(default_model="m")

    assert await key_of(operator) == "Bearer sk-from-the-vault"


async def test_the_vault_s_token_is_renewed_before_it_ends(start_operator: StartOperator, vault: FakeVault) -> None:
    operator = await start_operator(vault.environ, secrets_every_s=0.1)
    await operator.create(api_key="vault:secret/models/openai#key")

    vault.ttl = 40
    async with asyncio.timeout(10):
        while not vault.renewed:  # noqa: ASYNC110 - another's task renews it
            await asyncio.sleep(0.02)

    assert vault.ttl == 100


@pytest.mark.parametrize(
    ("reference", "words"),
    [
        ("env:NOT_SET", "the variable is not set"),
        ("file:/nowhere/at/all", "there is no such file"),
        ("vault:secret/nothing#key", "status 404"),
        ("vault:secret/models/openai#missing", "no such field"),
        ("vault:secret/models/openai#other", "no such field"),
    ],
)
async def test_a_reference_that_leads_to_nothing_is_told_by_a_test_call(
    start_operator: StartOperator, vault: FakeVault, provider: ScriptedProvider, reference: str, words: str
) -> None:
    operator = await start_operator(vault.environ)
    await operator.create(api_key=reference)
    await operator.create(name="other")

    verdict = await operator.test()

    assert (verdict.ok, verdict.reason) == (False, "PROVIDER_AUTH_FAILED")
    assert words in verdict.message
    await operator.gateway.chat(model="other/m")
    assert len(provider.requests) == 1


async def test_a_vault_that_refuses_our_token(start_operator: StartOperator, vault: FakeVault) -> None:
    operator = await start_operator({**vault.environ, "VAULT_TOKEN": "wrong"})
    await operator.create(api_key="vault:secret/models/openai#key")

    verdict = await operator.test()

    assert "status 403" in verdict.message
