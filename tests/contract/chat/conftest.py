"""Chat among its neighbours, for all tests of a module, and one instance of it for each test."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from typing import Any

import pytest

from tests.contract.chat.world import Instance, Person, World


@pytest.fixture(scope="module")
async def neighbours(module_database: Callable[..., Awaitable[Any]], redis_server: str) -> AsyncIterator[World]:
    stored = await module_database("auth", "data")
    async with AsyncExitStack() as stack:
        world = World(stack, redis_server)
        await world.start(stored.urls, stored.owner_url)
        yield world
        await world.stop()


@pytest.fixture
def world(neighbours: World) -> World:
    neighbours.gateway.forget()
    return neighbours


@pytest.fixture
async def chat(world: World) -> AsyncIterator[Instance]:
    async with world.chat() as instance:
        yield instance


@pytest.fixture
async def ada(world: World) -> Person:
    return await world.person()


@pytest.fixture
async def bob(world: World) -> Person:
    return await world.person()
