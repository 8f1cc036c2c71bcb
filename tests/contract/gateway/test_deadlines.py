"""Each deadline ends in a reason of its own, and comes from the alias, the provider or the gateway; a call may only shorten it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
import structlog

from parley.gateway.v1 import gateway_pb2 as pb
from runtime.errors import DeadlineExceeded
from services.gateway.domain import Timeouts
from tests.contract.gateway.conftest import Gateway, MakeGateway, Reply
from tests.fakes.llm_provider import Answer, ScriptedProvider, Stall

SHORT_S = 0.1
LONG_S = 1000.0
# Far more than the short ones take, far less than the long ones.
ENOUGH_S = 10.0

SILENT = Stall(headers=False)
STALLING = Stall(after=2)
ENDLESS = Answer(chunks=["on "] * 2000, delay_s=0.01)
KINDS: dict[str, tuple[Stall | Answer, Callable[[float], Timeouts]]] = {
    "FIRST_TOKEN_TIMEOUT": (SILENT, lambda s: Timeouts(first_token_s=s)),
    "STREAM_STALLED": (STALLING, lambda s: Timeouts(gap_s=s)),
    "RUN_TIMEOUT": (ENDLESS, lambda s: Timeouts(total_s=s)),
}


@pytest.fixture(params=KINDS)
def reason(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def patient(**settings: Any) -> dict[str, Any]:
    """Settings of a gateway that by itself waits for longer than any test."""
    return {"first_token_timeout_s": LONG_S, "gap_timeout_s": LONG_S, "total_timeout_s": LONG_S, **settings}


async def told(gateway: Gateway, reply: Reply | None = None, **fields: Any) -> str:
    """The reason a call ends with."""
    async with asyncio.timeout(ENOUGH_S):
        with pytest.raises(DeadlineExceeded) as raised:
            await gateway.chat(reply, **fields)
    return raised.value.code


async def still_waits(gateway: Gateway, **fields: Any) -> None:
    """Fails where a call ends by itself within several times the short deadline."""
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(6 * SHORT_S):
            await gateway.chat(**fields)


async def test_an_alias_s_deadline_comes_before_its_provider_s(
    make_gateway: MakeGateway, provider: ScriptedProvider, reason: str
) -> None:
    behaviour, waits = KINDS[reason]
    gateway = await make_gateway(**patient(timeouts={"fast": waits(SHORT_S), "openai": waits(LONG_S)}))
    provider.script(behaviour, times=3)

    assert await told(gateway) == reason
    assert await told(gateway, model="fast") == reason
    await still_waits(gateway, model="openai/gpt-4o-mini")
    await provider.until(lambda: len(provider.closed_early) == 3)


async def test_a_provider_s_deadline_comes_before_the_gateway_s(
    make_gateway: MakeGateway, provider: ScriptedProvider, reason: str
) -> None:
    behaviour, waits = KINDS[reason]
    gateway = await make_gateway(**patient(timeouts={"openai": waits(SHORT_S), "power": waits(LONG_S)}))
    provider.script(behaviour, times=4)

    for model in ("fast", "gpt-4o", "openai/not-listed"):
        assert await told(gateway, model=model) == reason
    await still_waits(gateway, model="power")


async def test_the_gateway_s_deadlines_hold_where_nobody_has_others(
    make_gateway: MakeGateway, provider: ScriptedProvider, reason: str
) -> None:
    behaviour, waits = KINDS[reason]
    short = waits(SHORT_S)
    own = {f"{name}_timeout_s": getattr(short, f"{name}_s") or LONG_S for name in ("first_token", "gap", "total")}
    gateway = await make_gateway(**own, timeouts={"fast": waits(LONG_S)})
    provider.script(behaviour, times=2)

    assert await told(gateway, model="power") == reason
    await still_waits(gateway, model="fast")


async def test_an_alias_s_other_deadlines_are_its_provider_s(
    make_gateway: MakeGateway, provider: ScriptedProvider
) -> None:
    """Each of the three is looked up by itself."""
    timeouts = {"fast": Timeouts(first_token_s=LONG_S), "openai": Timeouts(gap_s=SHORT_S)}
    gateway = await make_gateway(**patient(timeouts=timeouts))
    provider.script(STALLING)

    assert await told(gateway) == "STREAM_STALLED"


async def test_a_call_may_shorten_a_deadline(
    make_gateway: MakeGateway, provider: ScriptedProvider, reason: str
) -> None:
    behaviour, waits = KINDS[reason]
    gateway = await make_gateway(**patient(timeouts={"fast": waits(LONG_S)}))
    provider.script(behaviour)

    assert await told(gateway, timeouts=_wanted(waits(SHORT_S))) == reason


async def test_a_call_may_not_lengthen_a_deadline(
    make_gateway: MakeGateway, provider: ScriptedProvider, reason: str
) -> None:
    behaviour, waits = KINDS[reason]
    gateway = await make_gateway(**patient(timeouts={"fast": waits(SHORT_S)}))
    provider.script(behaviour)

    assert await told(gateway, timeouts=_wanted(waits(LONG_S))) == reason


@pytest.mark.parametrize("name", ["openai", "anthropic"])
@pytest.mark.parametrize(("after", "expected"), [(0, "FIRST_TOKEN_TIMEOUT"), (2, "STREAM_STALLED")])
async def test_signs_of_life_are_no_answer(
    make_gateway: MakeGateway,
    provider: ScriptedProvider,
    name: str,
    after: int,
    expected: str,
) -> None:
    """A provider that keeps its connection warm and says nothing has stalled all the same."""
    short = Timeouts(first_token_s=5 * SHORT_S, gap_s=5 * SHORT_S)
    base = {"openai": f"{provider.base_url}/v1", "anthropic": provider.base_url}[name]
    environ = {f"{name.upper()}_API_KEY": "k", f"{name.upper()}_BASE_URL": base}
    gateway = await make_gateway(environ, **patient(timeouts={name: short}))
    provider.script(Stall(after=after, ping_s=SHORT_S / 5))

    assert await told(gateway) == expected


async def test_a_name_that_is_neither_alias_nor_provider_is_told_to_the_operator(make_gateway: MakeGateway) -> None:
    with structlog.testing.capture_logs() as lines:
        await make_gateway(timeouts={"fsat": Timeouts(gap_s=1), "openai": Timeouts(gap_s=1)})

    assert [line["name"] for line in lines if line["event"] == "timeouts_not_used"] == ["fsat"]


def _wanted(timeouts: Timeouts) -> pb.Timeouts:
    spelt = pb.Timeouts()
    spelt.first_token.FromMilliseconds(int(timeouts.first_token_s * 1000))
    spelt.gap.FromMilliseconds(int(timeouts.gap_s * 1000))
    spelt.total.FromMilliseconds(int(timeouts.total_s * 1000))
    return spelt
