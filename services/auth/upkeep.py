"""The periodic job: rotates keys that are due, removes what has expired; any number of instances may run it at once."""

from __future__ import annotations

import asyncio
import contextlib
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Protocol

import structlog

from runtime.errors import ParleyError
from runtime.stopping import stop
from services.auth.api_keys import KEPT_AFTER_END
from services.auth.delegation import DELEGATED_LIFE_MAX
from services.auth.domain import REFRESH_TOKEN_LIFE

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

log = structlog.stdlib.get_logger()

_BATCH = 1000
"""Rows removed by one statement: short transactions, so that nobody waits for one."""
_FIRST_RETRY_S = 0.1
_LONGEST_RETRY_S = 2.0


class Keys(Protocol):
    """The signing keys."""

    async def rotate_if_due(self) -> None:
        """Publishes the next key when its time has come."""

    async def jwks(self) -> str:
        """Reads the keys."""


class Remains(Protocol):
    """What has expired; each method removes one batch and returns how many rows that were."""

    async def remove_refresh_tokens(self, expired_before: datetime, most: int) -> int:
        """Removes refresh tokens."""

    async def remove_sessions(self, revoked_before: datetime, refreshed_before: datetime, most: int) -> int:
        """Removes sessions."""

    async def remove_attempts(self, ended_before: datetime, most: int) -> int:
        """Removes counters of attempts."""

    async def remove_api_keys(self, ended_before: datetime, most: int) -> int:
        """Removes API keys."""

    async def remove_signing_keys(self, retired_before: datetime) -> int:
        """Removes signing keys."""


class Upkeep:
    """Does the job now and then.

    Args:
        keys: The signing keys.
        remains: Where expired rows are.
        every_s: Pause between two rounds.
        clock: Seconds since the epoch.
    """

    def __init__(
        self,
        keys: Keys,
        remains: Remains,
        *,
        every_s: float,
        clock: Callable[[], float],
    ) -> None:
        self._keys = keys
        self._remains = remains
        self._every_s = every_s
        self._clock = clock

    async def prepare(self) -> None:
        """Waits for the database and sees to it that there is a signing key, and that it can be read.

        Raises: ConfigError: the keys are encrypted under another key than this instance was given.
        """
        pause_s = _FIRST_RETRY_S
        while True:
            try:
                await self._keys.rotate_if_due()
                await self._keys.jwks()
            except ParleyError as error:
                log.warning("waiting_for_database", reason=error.code)
                await asyncio.sleep(pause_s)
                pause_s = min(_LONGEST_RETRY_S, pause_s * 2)
            else:
                return

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Runs rounds for the length of the block."""
        task = asyncio.create_task(self._go_on())
        try:
            yield
        finally:
            await stop(task)

    async def once(self) -> None:
        """Does one round.

        Raises: Unavailable, Conflict: the next round will do.
        """
        await self._keys.rotate_if_due()
        now = datetime.fromtimestamp(self._clock(), UTC)
        remains = self._remains
        # A session is kept until no token of it can live, so that "revoked" stays known for as long as it matters.
        revoked, refreshed = now - DELEGATED_LIFE_MAX, now - REFRESH_TOKEN_LIFE - timedelta(hours=1)
        removed = {
            "refresh_tokens": await _all(lambda: remains.remove_refresh_tokens(now, _BATCH)),
            "sessions": await _all(lambda: remains.remove_sessions(revoked, refreshed, _BATCH)),
            "api_keys": await _all(lambda: remains.remove_api_keys(now - KEPT_AFTER_END, _BATCH)),
            "attempts": await _all(lambda: remains.remove_attempts(now, _BATCH)),
            "signing_keys": await remains.remove_signing_keys(now),
        }
        if any(removed.values()):
            log.info("expired_removed", **removed)

    async def _go_on(self) -> None:
        while True:
            await asyncio.sleep(self._every_s)
            try:
                await self.once()
            except ParleyError as error:
                log.warning("upkeep_postponed", reason=error.code)
            except Exception:
                log.exception("upkeep_failed")


async def _all(remove: Callable[[], Awaitable[int]]) -> int:
    total = 0
    while removed := await remove():
        total += removed
        if removed < _BATCH:
            break
    return total
