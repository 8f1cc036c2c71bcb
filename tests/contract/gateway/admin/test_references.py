"""Keys that are kept elsewhere: in the environment, in a file, in a vault."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from runtime import errors
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
    operator = await start_operator(secrets_every_s=0.1, secret_directories=(str(tmp_path),))
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
        ("env:NOT_SET_KEY", "the variable is not set"),
        ("file:/run/secrets/nowhere/at/all", "there is no such file"),
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


async def test_the_vault_s_token_may_be_in_a_file_and_replaced_there(
    start_operator: StartOperator, vault: FakeVault, tmp_path: Path
) -> None:
    (tmp_path / "token").write_text("wrong\n")
    environ = {"VAULT_ADDR": vault.environ["VAULT_ADDR"], "VAULT_TOKEN_FILE": str(tmp_path / "token")}
    operator = await start_operator(environ)
    await operator.create(api_key="vault:secret/models/openai#key")
    assert "status 403" in (await operator.test()).message

    (tmp_path / "token").write_text(f"{vault.token}\n")

    assert (await operator.test()).ok


async def test_what_the_server_itself_is_told_is_no_key(start_operator: StartOperator, tmp_path: Path) -> None:
    """Whoever decides where keys are sent must not have others sent there: by its name, beside it, or by a link."""
    own, keys = tmp_path / "own", tmp_path / "keys"
    for directory in (own, keys):
        directory.mkdir()
        (directory / "a").write_text("sk-a")
    (keys / "link").symlink_to(own / "a")
    environ = {"PARLEY_GATEWAY_ENCRYPTION_KEYS_FILE": str(own / "keys"), "PGPASS_KEY": "x", "PARLEY_X_KEY": "x"}
    operator = await start_operator(environ, secret_directories=("/",))
    for reference in (f"file:{own}/a", f"file:{own}/keys", f"file:{keys}/link", "env:PGPASS_KEY", "env:PARLEY_X_KEY"):
        with pytest.raises(errors.InvalidArgument) as raised:
            await operator.create(api_key=reference)
        assert raised.value.metadata["field"] == "api_key"
    await operator.create(api_key=f"file:{keys}/a")
    assert await key_of(operator) == "Bearer sk-a"


async def test_what_may_be_read_no_longer_is_not(start_operator: StartOperator) -> None:
    environ = {"MY_KEY": "sk-from-the-environment"}
    operator = await start_operator(environ)
    await operator.create(api_key="env:MY_KEY")
    stricter = await start_operator(environ, beside=operator, secret_variables=("THEIRS_*",))

    verdict = await stricter.test()

    assert (verdict.ok, verdict.reason) == (False, "PROVIDER_AUTH_FAILED")
    assert "settings" in verdict.message


async def test_a_key_that_no_header_can_hold_is_told_by_a_test_call(
    start_operator: StartOperator, vault: FakeVault
) -> None:
    vault.secrets["secret/models/openai"] = {"key": "sk-1\nx-admin: yes"}
    operator = await start_operator(vault.environ)
    await operator.create(api_key="vault:secret/models/openai#key")

    assert "line breaks" in (await operator.test()).message
