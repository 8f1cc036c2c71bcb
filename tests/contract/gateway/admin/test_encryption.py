"""Keys under which providers' keys are encrypted: replaced one after the other, and missing."""

from __future__ import annotations

import base64

import pytest

from parley.gateway.v1 import provider_pb2 as pb
from runtime import errors
from runtime.config import Secret
from services.gateway.admin.composition import reencrypt
from tests.contract.gateway.admin.conftest import API_KEY, KEY, StartOperator
from tests.contract.gateway.admin.test_providers import refused

OTHER_KEY = base64.b64encode(b"n" * 32).decode()


async def test_encryption_keys_are_replaced_one_after_the_other(start_operator: StartOperator) -> None:
    old = await start_operator()
    await old.create(api_key=API_KEY)

    both = await start_operator(beside=old, encryption_keys=Secret(f"{OTHER_KEY},{KEY}"))
    await both.gateway.chat(model="mine/m")
    changed = await reencrypt(old.stored.url, f"{OTHER_KEY}\n{KEY}")
    again = await reencrypt(old.stored.url, f"{OTHER_KEY}\n{KEY}")
    new = await start_operator(beside=old, encryption_keys=Secret(OTHER_KEY))
    await new.gateway.chat(model="mine/m")

    assert (changed, again) == (1, 0)
    assert new.gateway.provider.requests[-1].headers["authorization"] == f"Bearer {API_KEY}"


async def test_without_its_encryption_key_a_provider_is_off_and_the_others_answer(
    start_operator: StartOperator,
) -> None:
    operator = await start_operator()
    await operator.create(api_key=API_KEY)

    stranger = await start_operator(beside=operator, encryption_keys=Secret(OTHER_KEY))
    await stranger.create(name="other")

    await stranger.gateway.chat(model="other/m")
    await refused("MODEL_NOT_FOUND", "", stranger.gateway.chat(model="mine/m"))


async def test_keys_that_cannot_be_decrypted_are_not_written_over(start_operator: StartOperator) -> None:
    """Neither by a change that does not give them anew nor by encrypting anew: the right key may still be found."""
    operator = await start_operator()
    await operator.create(api_key=API_KEY)

    stranger = await start_operator(beside=operator, encryption_keys=Secret(OTHER_KEY))
    await refused("PROVIDER_LOCKED", "", stranger.update(models=pb.ProviderModels(names=["m", "n"])))
    with pytest.raises(errors.FailedPrecondition, match="mine"):
        await reencrypt(operator.stored.url, OTHER_KEY)
    verdict = await stranger.test()
    assert (verdict.ok, verdict.reason) == (False, "PROVIDER_AUTH_FAILED")
    assert "encryption key" in verdict.message

    again = await start_operator(beside=operator)
    await again.gateway.chat(model="mine/m")
    assert again.gateway.provider.requests[-1].headers["authorization"] == f"Bearer {API_KEY}"

    await stranger.update(api_key="sk-another-key-altogether")
    await stranger.gateway.chat(model="mine/m")
    assert again.gateway.provider.requests[-1].headers["authorization"] == "Bearer sk-another-key-altogether"
