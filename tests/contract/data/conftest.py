"""The data service on a database of its own, for all tests of a module."""

from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import asyncpg
import pytest

from tests.contract.data.person import Person, Service, serving


@pytest.fixture(scope="module")
async def stored(module_database: Callable[..., Awaitable[Any]]) -> Any:
    """The migrated database: `url` as the service's role, `owner_url` as the role that policies do not bind."""
    return await module_database("data")


@pytest.fixture(scope="module")
async def service(stored: Any) -> AsyncIterator[Service]:
    async with serving(stored.url) as running:
        yield running


@pytest.fixture
def person(service: Service) -> Person:
    """A new user with nothing stored."""
    return service.person()


@pytest.fixture
def claimer(service: Service) -> Person:
    """A service that speaks for itself."""
    return service.claimer()


@pytest.fixture
async def owner(stored: Any) -> AsyncIterator[asyncpg.Connection]:
    """A connection that policies do not bind, to look behind them."""
    connection = await asyncpg.connect(stored.owner_url)
    yield connection
    await connection.close()


@pytest.fixture
async def nothing_to_claim(owner: asyncpg.Connection) -> None:
    """Claims look across users: a test that asks for this begins with no run of anybody's."""
    await owner.execute("DELETE FROM chat.conversation")
