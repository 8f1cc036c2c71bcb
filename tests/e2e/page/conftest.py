"""People at the page, in a real browser."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from typing import TYPE_CHECKING

import pytest
from playwright.async_api import Browser, async_playwright

from tests.e2e.visitor import CHROMIUM, LAUNCH, Visitor
from tests.e2e.wire import Wire

if TYPE_CHECKING:
    from tests.e2e.system import System

Arrive = Callable[..., Awaitable[Visitor]]


@pytest.fixture(scope="session")
async def browser() -> AsyncIterator[Browser]:
    if not CHROMIUM.exists():
        pytest.skip(f"no Chromium at {CHROMIUM} (PARLEY_CHROMIUM names another)")
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(**LAUNCH)  # type: ignore[arg-type]
        yield browser
        await browser.close()


@pytest.fixture
async def wire(stack: System) -> AsyncIterator[Wire]:
    async with Wire(stack.edge_url) as wire:
        yield wire


@pytest.fixture
async def arrive(stack: System, browser: Browser) -> AsyncIterator[Arrive]:
    """Brings people to the page; at the end none of them may have seen it break its own policy."""
    visitors: list[Visitor] = []

    async def arrive(url: str = "", **context: object) -> Visitor:
        visitor = await Visitor.arrive(browser, url or stack.edge_url, **context)
        visitors.append(visitor)
        return visitor

    yield arrive
    for visitor in visitors:
        await visitor.leave()
    assert [said for visitor in visitors for said in visitor.violations] == []


@pytest.fixture
async def visitor(arrive: Arrive) -> Visitor:
    """Somebody who has just signed up."""
    visitor = await arrive()
    await visitor.sign_up()
    return visitor
