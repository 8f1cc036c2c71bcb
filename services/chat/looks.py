"""Looks at what is stored, shared by all who want to know the same at about the same time."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Any, Generic, NamedTuple, TypeVar

from runtime.errors import PermissionDenied, Unauthenticated

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine, Hashable

V = TypeVar("V")

RECENT_S = 1.0
"""How old a look may be for somebody who only looks now and then."""


class _Look(NamedTuple, Generic[V]):
    began_at: float
    task: asyncio.Task[V]


class Looks(Generic[V]):
    """One look at a time of each kind: any number of silent watchers cost data no more than one of them.

    What is looked at with one caller's rights is told only to callers for whom it would be the same: the key says who they are.
    """

    def __init__(self) -> None:
        self._looks: dict[Hashable, _Look[V]] = {}

    async def share(self, key: Hashable, look: Callable[[], Coroutine[Any, Any, V]], *, since: float) -> V:
        """Returns what a look tells that has begun at a moment or later: one that somebody else has begun, or this one.

        Args:
            key: What is looked at, and by whom.
            look: Looks.
            since: The moment, by `time.monotonic`.

        Raises: whatever the look raises. Where it was refused since the credential of whoever began it is no good any more, it is begun anew.
        """
        found = self._looks.get(key)
        if found is None or found.began_at < since:
            return await self._begin(key, look)
        try:
            return await asyncio.shield(found.task)
        except (Unauthenticated, PermissionDenied):
            return await look()

    def _begin(self, key: Hashable, look: Callable[[], Coroutine[Any, Any, V]]) -> Awaitable[V]:
        task = asyncio.create_task(look())
        begun = self._looks[key] = _Look(time.monotonic(), task)
        task.add_done_callback(lambda _: self._ended(key, begun))
        # Whoever began it may go; the others stay.
        return asyncio.shield(task)

    def _ended(self, key: Hashable, look: _Look[V]) -> None:
        if not look.task.cancelled():
            look.task.exception()  # seen: nobody may be there any more to take it
        asyncio.get_running_loop().call_later(RECENT_S, self._forget, key, look)

    def _forget(self, key: Hashable, look: _Look[V]) -> None:
        if self._looks.get(key) is look:
            del self._looks[key]
