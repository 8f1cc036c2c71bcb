"""Whom an alias asks, in which order, and whom after that."""

from __future__ import annotations

import asyncio
import contextlib
import email.utils
import time
from collections import Counter
from collections.abc import AsyncIterator
from typing import Any

import pytest

from runtime import errors
from runtime.config import Secret
from services.gateway.domain import Timeouts
from services.gateway.providers.aliases import Alias, AliasTarget
from services.gateway.providers.provider import Provider, Wire
from services.gateway.providers.registry import Stored
from tests.contract.gateway.conftest import Gateway, MakeGateway, Reply
from tests.fakes.llm_provider import Answer, Cut, Fault, ScriptedProvider, Stall, StreamError

NO_TIMEOUTS = Timeouts()


@pytest.fixture
async def other() -> AsyncIterator[ScriptedProvider]:
    async with ScriptedProvider(default=Answer(text="the other one")) as provider:
        yield provider


@pytest.fixture
async def both(make_gateway: MakeGateway, provider: ScriptedProvider, other: ScriptedProvider) -> Gateway:
    """`first/m`, then `other/m`, behind the alias `both`."""
    return await two(make_gateway, provider, other)


async def two(
    make_gateway: MakeGateway,
    provider: ScriptedProvider,
    other: ScriptedProvider,
    *targets: AliasTarget,
    timeouts: Timeouts = NO_TIMEOUTS,
    **settings: Any,
) -> Gateway:
    servers = {"first": f"{provider.base_url}/v1", "other": f"{other.base_url}/v1"}
    gateway = await make_gateway({}, compatible=servers, **settings)
    chosen = targets or (AliasTarget("first/m"), AliasTarget("other/m", rank=1))
    await gateway.registry.change(Stored(aliases=[Alias("both", chosen, timeouts, stored=True)]))
    return gateway


async def failure(gateway: Gateway, reply: Reply | None = None, **fields: Any) -> errors.ParleyError:
    with pytest.raises(errors.ParleyError) as raised:
        await gateway.chat(reply, model="both", **fields)
    return raised.value


@pytest.mark.parametrize(
    "fault",
    [
        Fault(status=503),
        Fault(status=401),
        Fault(status=404),
        Fault(status=429, retry_after="1000"),
        Fault(status=400, code="context_length_exceeded"),
        Fault(status=200, body="<html>", content_type="text/html"),
        StreamError(after=0),
        Cut(after_bytes=3),
    ],
    ids=lambda fault: f"{type(fault).__name__}-{getattr(fault, 'status', '')}-{getattr(fault, 'code', '')}",
)
async def test_the_next_rank_answers_what_the_first_cannot(
    both: Gateway, provider: ScriptedProvider, other: ScriptedProvider, fault: Any
) -> None:
    provider.script(fault)

    reply = await both.chat(model="both")

    assert reply.text == "the other one"
    assert (len(provider.requests), len(other.requests)) == (1, 1)


async def test_a_request_that_is_refused_as_such_is_refused_once(
    both: Gateway, provider: ScriptedProvider, other: ScriptedProvider
) -> None:
    provider.script(Fault(status=400))

    assert (await failure(both)).code == "REQUEST_REJECTED"
    assert not other.requests


async def test_a_silent_target_leaves_time_for_the_next(
    make_gateway: MakeGateway, provider: ScriptedProvider, other: ScriptedProvider
) -> None:
    gateway = await two(make_gateway, provider, other, timeouts=Timeouts(first_token_s=2))
    provider.script(Stall(headers=False))

    reply = await gateway.chat(model="both")

    assert reply.text == "the other one"
    await provider.until(lambda: provider.closed_early)


async def test_after_the_first_visible_token_nobody_else_is_asked(
    both: Gateway, provider: ScriptedProvider, other: ScriptedProvider
) -> None:
    provider.script(Cut(after=2))
    reply = Reply()

    assert (await failure(both, reply)).code == "PROVIDER_UNAVAILABLE"
    assert reply.text
    assert not other.requests


async def test_a_caller_who_allows_it_gets_the_answer_anew(both: Gateway, provider: ScriptedProvider) -> None:
    provider.script(Cut(after=2))

    reply = await both.chat(model="both", allow_reset=True)

    assert reply.begun_anew == ["Hello from"]
    assert reply.text == "the other one"
    assert reply.started is not None
    assert reply.started.provider == "other"


async def test_one_that_stalls_is_left_for_another_where_that_is_allowed(
    make_gateway: MakeGateway, provider: ScriptedProvider, other: ScriptedProvider
) -> None:
    gateway = await two(make_gateway, provider, other, timeouts=Timeouts(gap_s=0.2))
    provider.script(Stall(after=1))

    reply = await gateway.chat(model="both", allow_reset=True)

    assert (reply.begun_anew, reply.text) == (["Hello"], "the other one")


async def test_when_everybody_fails_all_are_asked_again_after_a_pause(
    both: Gateway, provider: ScriptedProvider, other: ScriptedProvider
) -> None:
    provider.script(Fault(status=503))
    other.script(Fault(status=502))

    reply = await both.chat(model="both")

    assert reply.finished is not None
    assert len(provider.requests) + len(other.requests) == 3


async def test_weights_share_the_calls_of_a_rank(
    make_gateway: MakeGateway, provider: ScriptedProvider, other: ScriptedProvider
) -> None:
    gateway = await two(
        make_gateway, provider, other, AliasTarget("first/m", weight=3), AliasTarget("other/m", weight=1)
    )

    await asyncio.gather(*(gateway.chat(model="both") for _ in range(120)))

    counts = Counter(first=len(provider.requests), other=len(other.requests))
    # 90 and 30 on average; further off than this only once in a million.
    assert 8 <= counts["other"] <= 56, counts


@pytest.mark.parametrize("form", ["seconds", "date"])
async def test_who_asks_for_time_is_left_alone_by_all_calls(
    both: Gateway, provider: ScriptedProvider, other: ScriptedProvider, form: str
) -> None:
    after = "100" if form == "seconds" else email.utils.formatdate(time.time() + 100, usegmt=True)
    provider.script(Fault(status=429, retry_after=after))

    replies = [await both.chat(model="both") for _ in range(5)]

    assert {reply.text for reply in replies} == {"the other one"}
    assert len(provider.requests) == 1


async def test_who_alone_could_answer_and_wants_none_is_not_asked(
    make_gateway: MakeGateway, provider: ScriptedProvider, other: ScriptedProvider
) -> None:
    gateway = await two(make_gateway, provider, other, AliasTarget("first/m"))
    provider.script(Fault(status=429, retry_after="100"))

    first, second = await failure(gateway), await failure(gateway)

    assert (first.code, second.code) == ("PROVIDER_RATE_LIMITED", "PROVIDER_RATE_LIMITED")
    assert second.retry_after_s is not None
    assert 90 < second.retry_after_s <= 100
    assert len(provider.requests) == 1


async def test_what_one_account_is_refused_another_may_have(
    make_gateway: MakeGateway, provider: ScriptedProvider
) -> None:
    """A new key is not held to what its predecessor was told."""
    described: dict[str, Any] = {"system": "own", "dialect": "openai", "wire": Wire.OPENAI, "models": ("m",)}
    keys = [
        Provider(name="own", base_url=f"{provider.base_url}/v1", api_key=Secret(key), **described) for key in ("a", "b")
    ]
    gateway = await make_gateway({})
    await gateway.registry.change(Stored(providers=keys[:1]))
    provider.script(Fault(status=429, retry_after="100"))
    with pytest.raises(errors.ResourceExhausted):
        await gateway.chat(model="own/m")

    await gateway.registry.change(Stored(providers=keys[1:]))

    assert (await gateway.chat(model="own/m")).finished is not None


async def test_who_fails_again_and_again_is_asked_last(
    both: Gateway, provider: ScriptedProvider, other: ScriptedProvider
) -> None:
    provider.script(Fault(status=503), times=1000)

    for _ in range(6):
        assert (await both.chat(model="both")).text == "the other one"

    assert len(provider.requests) == 3
    other.script(Fault(status=503))
    provider.reset()
    assert (await both.chat(model="both")).text == "Hello from the scripted provider."


async def test_aliases_may_stand_for_aliases(
    make_gateway: MakeGateway, provider: ScriptedProvider, other: ScriptedProvider
) -> None:
    gateway = await two(make_gateway, provider, other)
    inner = Alias("inner", (AliasTarget("other/inner"),), stored=True)
    outer = Alias("outer", (AliasTarget("inner"), AliasTarget("first/m", rank=1)), stored=True)
    await gateway.registry.change(Stored(aliases=[outer, inner]))

    await gateway.chat(model="outer")

    assert other.requests[0].body["model"] == "inner"


async def test_an_alias_that_leads_back_to_itself_leads_nowhere(
    make_gateway: MakeGateway, provider: ScriptedProvider, other: ScriptedProvider
) -> None:
    gateway = await two(make_gateway, provider, other)
    there, back = Alias("there", (AliasTarget("back"),)), Alias("back", (AliasTarget("there"),))
    await gateway.registry.change(Stored(aliases=[there, back]))

    for name in ("there", "back"):
        with pytest.raises(errors.NotFound):
            await gateway.chat(model=name)


async def test_a_caller_who_leaves_is_no_failure_of_the_provider(both: Gateway, provider: ScriptedProvider) -> None:
    provider.script(Stall(headers=False), times=4)
    for place in range(4):
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(0.3):
                await both.chat(model="both")
        await provider.until(lambda place=place: len(provider.closed_early) > place)  # type: ignore[misc]

    assert (await both.chat(model="both")).text == "Hello from the scripted provider."
