"""The credential a run works with: the user's own at first, then one that outlives it."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

import structlog

from runtime.errors import ParleyError, PermissionDenied, Unauthenticated

if TYPE_CHECKING:
    from collections.abc import Callable

    from services.chat.ports import Auth

log = structlog.stdlib.get_logger()

_EXCHANGE_AFTER_S = 1.0
_NEAR_END_S = 60.0
_FIRST_PAUSE_S = 0.5
_LONGEST_PAUSE_S = 15.0


class Credential:
    """An access token that is exchanged for a delegated one beside the work.

    Not at once, unless the user's token is about to end: the exchange would compete with the first token of the answer for the
    processors, and an answer that is short needs none.

    Args:
        auth: Who exchanges it.
        token: The user's own.
        expires_at: When that ends, in seconds since the epoch.
        clock: Seconds since the epoch.
    """

    def __init__(self, auth: Auth, token: str, *, expires_at: float, clock: Callable[[], float] = time.time) -> None:
        self._auth = auth
        self._own = token
        self._expires_at = expires_at
        self._clock = clock
        self.token = token
        """The best token there is."""

    async def exchange(self) -> None:
        """Returns once there is a delegated token, or none is to be had; while auth is away the user's own goes on serving."""
        if self._expires_at - self._clock() > _NEAR_END_S:
            await asyncio.sleep(_EXCHANGE_AFTER_S)
        pause_s = _FIRST_PAUSE_S
        while True:
            try:
                self.token = await self._auth.delegate(token=self._own)
            except (Unauthenticated, PermissionDenied) as error:
                log.warning("delegation_refused", reason=error.code)
                return
            except ParleyError as error:
                log.warning("delegation_delayed", reason=error.code)
                await asyncio.sleep(pause_s)
                pause_s = min(pause_s * 2, _LONGEST_PAUSE_S)
            else:
                return
