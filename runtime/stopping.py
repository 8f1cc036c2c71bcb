"""Ends a task for sure."""

from __future__ import annotations

import asyncio
from typing import Any

import structlog

log = structlog.stdlib.get_logger()

_AGAIN_S = 1.0


async def stop(task: asyncio.Task[Any]) -> None:
    """Cancels a task until it has ended: drivers of stores swallow a cancellation that meets a timeout of their own.

    It is told again once a second, so what it does to clean up takes less. What it ended with is logged.
    """
    while not task.done():
        task.cancel()
        await asyncio.wait([task], timeout=_AGAIN_S)
    if not task.cancelled() and (error := task.exception()) is not None:
        log.error("unforeseen_error", exc_info=error)
