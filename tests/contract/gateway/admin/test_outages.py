"""What is known goes on while Postgres or Redis is away."""

from __future__ import annotations

import asyncio

import asyncpg
import pytest

from runtime import errors
from runtime.config import Secret
from tests.contract.gateway.admin.conftest import KEY, Operator, StartOperator
from tests.contract.gateway.conftest import MakeGateway
from tests.fakes.llm_provider import Fault, ScriptedProvider


async def test_while_postgres_is_away_names_stand_for_what_they_stood_for(start_operator: StartOperator) -> None:
    operator = await start_operator()
    await operator.create()
    await _shut(operator, allowed=False)

    with pytest.raises(errors.Unavailable):
        await operator.update(default_model="m")
    listed = {model.name for model in await operator.gateway.models()}
    route = operator.gateway.registry.resolve("mine/m")
    await _shut(operator, allowed=True)
    changed = await operator.update(default_model="m")

    assert "mine/m" in listed
    assert route.ranks[0][0].deployment.key.startswith("mine/m#")
    assert changed.default_model == "m"


async def test_without_postgres_a_gateway_begins_with_what_the_environment_says(
    make_gateway: MakeGateway, provider: ScriptedProvider, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("services.gateway.admin.keeper._FIRST_S", 0.1)
    gateway = await make_gateway(
        database_url=Secret("postgresql://parley_gateway:x@127.0.0.1:9/parley"), encryption_keys=Secret(KEY)
    )

    assert "openai/gpt-4o" in {model.name for model in await gateway.models()}


async def test_cooldowns_are_known_to_other_instances(
    start_operator: StartOperator, provider: ScriptedProvider, redis_server: str
) -> None:
    one = await start_operator(redis_url=Secret(redis_server))
    other = await start_operator(beside=one, redis_url=Secret(redis_server))
    await one.create(name="shared-cooldown")
    await one.alias("both", "shared-cooldown/m")
    async with asyncio.timeout(5):
        while not await _answered(other):  # noqa: ASYNC110 - Postgres tells it
            await asyncio.sleep(0.05)
    provider.script(Fault(status=429, retry_after="100"))

    with pytest.raises(errors.ResourceExhausted):
        await one.gateway.chat(model="both")
    async with asyncio.timeout(5):
        while await _answered(other):  # noqa: ASYNC110 - Redis tells it
            await asyncio.sleep(0.05)

    asked = len(provider.requests)
    with pytest.raises(errors.ResourceExhausted) as raised:
        await other.gateway.chat(model="both")
    assert raised.value.code == "PROVIDER_RATE_LIMITED"
    assert len(provider.requests) == asked


async def _answered(operator: Operator) -> bool:
    try:
        await operator.gateway.chat(model="both")
    except errors.ParleyError:
        return False
    return True


async def _shut(operator: Operator, *, allowed: bool) -> None:
    """Lets the gateway's role into its database, or throws it out."""
    owner = await asyncpg.connect(operator.stored.owner_url)
    try:
        name = await owner.fetchval("SELECT current_database()")
        await owner.execute(f'ALTER DATABASE "{name}" WITH CONNECTION LIMIT {-1 if allowed else 0}')
        if not allowed:
            await owner.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'parley_gateway' AND datname = $1",
                name,
            )
    finally:
        await owner.close()
