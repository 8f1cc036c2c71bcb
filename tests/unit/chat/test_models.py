"""The list of models is remembered, and no turn but the first waits for it; what is not in it the gateway is asked about."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Sequence
from dataclasses import replace
from typing import Any

import pytest

from runtime.errors import NotFound, ParleyError, Unavailable, Unimplemented
from runtime.testing import Clock
from services.chat.asking import Model, ModelCall, ModelDelta
from services.chat.domain import UnknownModel
from services.chat.models import Models

MINI = Model("mini", "openai", "mini", default=False, context_window_tokens=2, max_output_tokens=1)
FAST = Model("fast", "openai", "mini", default=True, context_window_tokens=1, max_output_tokens=1)


class Listing:
    """The part of a gateway that lists models."""

    def __init__(self, *models: Model) -> None:
        self.models: list[Model] = list(models)
        self.away = False
        self.reads = 0
        self.unlisted: list[Model] = []
        self.asked: list[str] = []
        self.failure: ParleyError | None = None

    async def list_models(self, *, token: str) -> Sequence[Model]:
        self.reads += 1
        if self.away:
            raise Unavailable("away")
        return list(self.models)

    async def get_model(self, name: str, *, token: str) -> Model:
        self.asked.append(name)
        if self.failure is not None:
            raise self.failure
        for model in self.unlisted:
            if model.name == name:
                return model
        raise NotFound.of("MODEL_NOT_FOUND", "There is none.")

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


async def test_a_listed_model_is_found_by_its_name_and_the_default_by_none() -> None:
    gateway = Listing(FAST)
    models = await loaded(gateway, Clock(1000))
    for name in ("", "fast"):
        assert await models.find(name, token="t") is FAST
    assert gateway.asked == []


async def test_what_a_name_stands_for_that_is_not_listed_is_asked_once_a_list() -> None:
    """Be it a bare name, a model of a provider that is there, or one that is newer than the list."""
    gateway, clock = Listing(FAST), Clock(1000)
    gateway.unlisted = [MINI]
    models = await loaded(gateway, clock)
    for _ in range(3):
        assert await models.find("mini", token="t") == replace(MINI, listed=False)
    assert gateway.asked == ["mini"]
    clock.advance(120)
    await models.find("fast", token="t")
    async with asyncio.timeout(5):
        while gateway.reads < 2:  # noqa: ASYNC110 - a task of the models'
            await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert await models.find("mini", token="t") is not None
    assert gateway.asked == ["mini", "mini"]


async def test_a_name_that_stands_for_nothing_is_refused() -> None:
    models = await loaded(Listing(FAST), Clock(1000))
    with pytest.raises(UnknownModel):
        await models.find("no-such-model", token="t")


async def test_a_gateway_that_cannot_be_asked_refuses_nothing() -> None:
    """The call will tell; so it is with one that is older than the question."""
    for failure in (Unavailable("away"), Unimplemented("what?")):
        gateway = Listing(FAST)
        models = await loaded(gateway, Clock(1000))
        gateway.failure = failure
        assert await models.find("mini", token="t") is None


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
