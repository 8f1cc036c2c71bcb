"""The list of models is remembered, and no turn but the first waits for it unless it names what is not in it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Sequence
from typing import Any

import pytest

from runtime.errors import Unavailable
from runtime.testing import Clock
from services.chat.asking import Model, ModelCall, ModelDelta
from services.chat.domain import UnknownModel
from services.chat.models import Models

FAST = Model("fast", "openai", "mini", default=True, context_window_tokens=1, max_output_tokens=1)


class Listing:
    """The part of a gateway that lists models."""

    def __init__(self, *models: Model) -> None:
        self.models: list[Model] = list(models)
        self.away = False
        self.reads = 0

    async def list_models(self, *, token: str) -> Sequence[Model]:
        self.reads += 1
        if self.away:
            raise Unavailable("away")
        return list(self.models)

    def chat(self, call: ModelCall, *, token: str, tap: Any = None) -> AsyncGenerator[list[ModelDelta], None]:
        raise NotImplementedError


async def loaded(gateway: Listing, clock: Clock) -> Models:
    models = Models(gateway, clock)
    assert await models.find("fast", token="t") is FAST
    return models


async def test_the_first_turn_waits_for_the_list_and_none_waits_for_a_gateway_that_is_away() -> None:
    gateway = Listing(FAST)
    gateway.away = True
    models = Models(gateway, Clock(1000))
    assert await models.find("fast", token="t") is None
    gateway.away = False
    assert await models.find("fast", token="t") is None
    assert gateway.reads == 1  # not again at once


async def test_a_model_is_found_by_any_of_its_names() -> None:
    models = await loaded(Listing(FAST), Clock(1000))
    for name in ("", "fast", "mini"):
        assert await models.find(name, token="t") is FAST


async def test_a_name_that_is_not_listed_is_looked_up_once_more_and_then_refused() -> None:
    gateway, clock = Listing(FAST), Clock(1000)
    models = await loaded(gateway, clock)
    clock.advance(2)
    gateway.models.append(Model("new", "openai", "newer", default=False, context_window_tokens=2, max_output_tokens=1))
    found = await models.find("new", token="t")
    assert found is not None
    assert found.context_window_tokens == 2
    with pytest.raises(UnknownModel):
        await models.find("no-such-model", token="t")
    assert gateway.reads == 2  # not again within a second


async def test_any_model_of_a_known_provider_may_be_named() -> None:
    """A name's prefix need not be what traces call the provider."""
    listed = Model("azure/listed", "azure.ai.openai", "listed", False, 1, 1)
    models = await loaded(Listing(FAST, listed), Clock(1000))
    assert await models.find("azure/my-deployment", token="t") is None
    for name in ("nobody/anything", "azure.ai.openai/anything", "azure/", "azure"):
        with pytest.raises(UnknownModel):
            await models.find(name, token="t")


async def test_an_old_list_serves_while_the_gateway_is_away() -> None:
    gateway, clock = Listing(FAST), Clock(1000)
    models = await loaded(gateway, clock)
    gateway.away = True
    clock.advance(120)
    for _ in range(5):
        assert await models.find("fast", token="t") is FAST
        await asyncio.sleep(0)
    assert gateway.reads == 2  # each turn would try


async def test_without_a_list_nothing_is_refused() -> None:
    gateway = Listing()
    gateway.away = True
    models = Models(gateway, Clock(1000))
    assert await models.find("no-such-model", token="t") is None
