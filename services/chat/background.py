"""Work that runs beside the service and ends with it."""

from __future__ import annotations

import asyncio
import contextlib
from functools import partial
from typing import TYPE_CHECKING, Any

import structlog

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

log = structlog.stdlib.get_logger()

_PATIENCE_S = 0.2
_PAUSE_S = 1.0


@contextlib.asynccontextmanager
async def running(*work: Callable[[], Awaitable[None]]) -> AsyncIterator[None]:
    """Runs work that never ends by itself for the length of the block; what breaks is logged and begun anew."""
    tasks = [asyncio.create_task(_go_on(each)) for each in work]
    try:
        yield
    finally:
        while tasks:
            for task in tasks:
                # Again and again: the Redis client has been seen to turn a cancellation that meets the end of a wait into a mere timeout.
                task.cancel()
            await asyncio.wait(tasks, timeout=_PATIENCE_S)
            tasks = [task for task in tasks if not task.done()]


def ended(task: asyncio.Task[Any]) -> asyncio.Future[None]:
    """Returns what to await until a task has ended, however that was: as `asyncio.wait` does, with a fraction of what that holds meanwhile."""
    waiter = asyncio.get_running_loop().create_future()
    task.add_done_callback(partial(_wake, waiter))
    return waiter


def _wake(waiter: asyncio.Future[None], _: object) -> None:
    if not waiter.done():
        waiter.set_result(None)


async def _go_on(work: Callable[[], Awaitable[None]]) -> None:
    while True:
        try:
            await work()
        except Exception:
            log.exception("unforeseen_error")
        await asyncio.sleep(_PAUSE_S)
