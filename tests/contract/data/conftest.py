"""The data service on a database of its own, for all tests of a module."""

from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

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
