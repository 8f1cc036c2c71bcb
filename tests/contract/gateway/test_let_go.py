"""What a call was asked, which may be megabytes, is let go of with its end, and not when the garbage collector comes by."""

from __future__ import annotations

import asyncio
import contextlib
import gc
from collections.abc import Iterator
from typing import Any

import pytest

from runtime.channel import stream
from runtime.errors import ParleyError
from services.gateway.domain import Call
from tests.contract.gateway.conftest import Gateway, MakeGateway
from tests.fakes.llm_provider import Answer, Cut, Fault, Stall


@pytest.fixture(autouse=True)
def no_collector() -> Iterator[None]:
    gc.collect()
    gc.disable()
    _OTHERS[:] = calls()
    yield
    _OTHERS.clear()
    gc.enable()


# Of modules that were loaded before, as other tests are.
_OTHERS: list[Call] = []


def calls() -> list[Call]:
    return [each for each in gc.get_objects() if type(each) is Call]


def held() -> int:
    return len(calls()) - len(_OTHERS)


async def nothing_is_held() -> None:
    async with asyncio.timeout(5):
        while held():  # noqa: ASYNC110 - it is told by no event
            await asyncio.sleep(0.05)


def responses(gateway: Gateway) -> contextlib.aclosing[Any]:
    """Calls as chat does: for as long as it takes."""
    return contextlib.aclosing(stream(gateway.stub.Chat, gateway.request(), token=gateway.issuer.token()))


@pytest.mark.parametrize(
    "behaviours",
    [[Answer()], [Fault(status=400)], [Cut(after=0), Cut(after=0)], [Cut(after=3)], [Stall(after=3)]],
    ids=["whole", "refused", "cut-twice", "cut", "stalled"],
)
async def test_when_it_ends_by_itself(make_gateway: MakeGateway, behaviours: list[Any]) -> None:
    gateway = await make_gateway(mux=True, gap_timeout_s=0.2, retries=1)
    gateway.provider.script(*behaviours)

    with contextlib.suppress(ParleyError):
        async with responses(gateway) as answer:
            async for _ in answer:
                pass

    await nothing_is_held()


async def test_when_its_caller_leaves(make_gateway: MakeGateway) -> None:
    gateway = await make_gateway(mux=True)
    gateway.provider.script(Stall(after=3))

    async with responses(gateway) as answer:
        async for _ in answer:
            assert held()
            break

    await nothing_is_held()
