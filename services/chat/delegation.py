"""The credential a run works with: the user's own at first, then one that outlives it."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import structlog

from runtime.errors import ParleyError, PermissionDenied, Unauthenticated

if TYPE_CHECKING:
    from services.chat.ports import Auth

log = structlog.stdlib.get_logger()

_FIRST_PAUSE_S = 0.5
_LONGEST_PAUSE_S = 15.0


class Credential:
    """An access token that is exchanged for a delegated one beside the work.

    Args:
        auth: Who exchanges it.
        token: The user's own.
    """

    def __init__(self, auth: Auth, token: str) -> None:
        self._auth = auth
        self._own = token
        self.token = token
        """The best token there is."""

    async def exchange(self) -> None:
        """Returns once there is a delegated token, or none is to be had; while auth is away the user's own goes on serving."""
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
