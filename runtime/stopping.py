"""Ends a task for sure."""

from __future__ import annotations

import asyncio
from typing import Any

_AGAIN_S = 0.2


async def stop(task: asyncio.Task[Any]) -> None:
    """Cancels a task until it has ended: drivers of stores swallow a cancellation that meets a timeout of their own."""
    while not task.done():
        task.cancel()
        await asyncio.wait([task], timeout=_AGAIN_S)
    if not task.cancelled():
        task.exception()
