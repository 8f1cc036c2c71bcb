"""Tasks that run beside the service and end with it."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Coroutine

_PATIENCE_S = 0.2


@contextlib.asynccontextmanager
async def running(*work: Coroutine[Any, Any, None]) -> AsyncIterator[None]:
    """Runs work that never ends by itself for the length of the block."""
    tasks = [asyncio.create_task(coroutine) for coroutine in work]
    try:
        yield
    finally:
        while tasks:
            for task in tasks:
                # Again and again: the Redis client turns a cancellation that meets the end of one of its waits into a mere timeout.
                task.cancel()
            await asyncio.wait(tasks, timeout=_PATIENCE_S)
            tasks = [task for task in tasks if not task.done()]
