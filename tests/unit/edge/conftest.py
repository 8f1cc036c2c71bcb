"""What tests over a real socket share."""

import asyncio
from collections.abc import Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import uvloop


@pytest.fixture(params=[asyncio.new_event_loop, uvloop.new_event_loop], ids=["asyncio", "uvloop"])
def run(request: pytest.FixtureRequest) -> Callable[[Coroutine[Any, Any, None]], None]:
    """Runs a test on a loop of its own, in whose callbacks nothing may be raised."""
    raised: list[Any] = []

    def within(work: Coroutine[Any, Any, None]) -> None:
        with asyncio.Runner(loop_factory=request.param) as runner:
            runner.get_loop().set_exception_handler(lambda _, what: raised.append(what))
            runner.run(work)

    def run(work: Coroutine[Any, Any, None]) -> None:
        with ThreadPoolExecutor(1) as thread:  # this one's loop is the session's
            thread.submit(within, work).result()
        assert raised == []

    return run
