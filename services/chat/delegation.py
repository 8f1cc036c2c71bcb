"""The credential a run works with: the user's own at first, then one that outlives it."""

from __future__ import annotations

import asyncio
import random
import time
from typing import TYPE_CHECKING

import jwt
import structlog

from runtime.context import Identity
from runtime.errors import NotFound, ParleyError, PermissionDenied, Unauthenticated

if TYPE_CHECKING:
    from collections.abc import Callable

    from services.chat.ports import Auth

log = structlog.stdlib.get_logger()

_EXCHANGE_AFTER_S = (20.0, 40.0)
"""When most answers are over; spread, so that those who came as a crowd do not come to auth as one."""
_NEAR_END_S = 60.0
_FIRST_PAUSE_S = 0.5
_LONGEST_PAUSE_S = 15.0


class Credential:
    """An access token that is exchanged for a delegated one beside the work.

    Not at once, unless the user's token is about to end: the exchange would compete with the first tokens of answers for the
    processors, and an answer that is over by then needs none.

    Args:
        auth: Who exchanges it.
        token: The user's own.
        expires_at: When that ends, in seconds since the epoch.
        clock: Seconds since the epoch.
    """

    __slots__ = ("_auth", "_clock", "_exchanging", "_expires_at", "_own", "_timer", "token")

    def __init__(self, auth: Auth, token: str, *, expires_at: float, clock: Callable[[], float] = time.time) -> None:
        self._auth = auth
        self._own = token
        self._expires_at = expires_at
        self._clock = clock
        self._timer: asyncio.TimerHandle | None = None
        self._exchanging: asyncio.Task[None] | None = None
        self.token = token
        """The best token there is."""

    def keep(self) -> None:
        """From now on has it exchanged when it is time; close it in the end."""
        left_s = self._expires_at - self._clock() - _NEAR_END_S
        self._exchange_in(max(min(random.uniform(*_EXCHANGE_AFTER_S), left_s), 0))  # noqa: S311 - spreads calls, guards nothing

    def close(self) -> None:
        """Leaves the token as it is."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._exchanging is not None:
            self._exchanging.cancel()

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

    def _exchange_in(self, wait_s: float) -> None:
        # A timer, not a task that sleeps: there is one for each run, and it waits for longer than most runs take.
        self._timer = asyncio.get_running_loop().call_later(wait_s, self._begin)

    def _begin(self) -> None:
        self._timer = None
        self._exchanging = asyncio.create_task(self.exchange())
        self._exchanging.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._exchanging = None
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("unforeseen_error", exc_info=error)  # the token goes on serving until it ends


class Standing(Credential):
    """A token got for a user who is not there, and a new one before it ends.

    Args:
        auth: Who gives it.
        user_id: UUID of the user.
        org_id: UUID of the organization.
        token: The first one.
        role_at_most: What no token's role may exceed; empty: no bound but the user's own.
        clock: Seconds since the epoch.
    """

    __slots__ = ("_org_id", "_role_at_most", "_user_id")

    def __init__(
        self,
        auth: Auth,
        user_id: str,
        org_id: str,
        token: str,
        *,
        role_at_most: str,
        clock: Callable[[], float] = time.time,
    ) -> None:
        super().__init__(auth, token, expires_at=identity_of(token).expires_at, clock=clock)
        self._user_id = user_id
        self._org_id = org_id
        self._role_at_most = role_at_most

    def keep(self) -> None:
        """From now on keeps the token fresh; close it in the end."""
        self._exchange_in(max(self._expires_at - self._clock() - _NEAR_END_S, _FIRST_PAUSE_S))

    async def exchange(self) -> None:
        """Gets a new token, and sees to the one after it; returns without where none is to be had."""
        pause_s = _FIRST_PAUSE_S
        while True:
            try:
                self.token = await self._auth.delegate_for(self._user_id, self._org_id, role_at_most=self._role_at_most)
            except (Unauthenticated, PermissionDenied, NotFound) as error:
                log.warning("delegation_refused", reason=error.code)
                return
            except ParleyError as error:
                log.warning("delegation_delayed", reason=error.code)
                await asyncio.sleep(pause_s)
                pause_s = min(pause_s * 2, _LONGEST_PAUSE_S)
            else:
                self._expires_at = identity_of(self.token).expires_at
                self.keep()
                return


def identity_of(token: str) -> Identity:
    """Reads who a token speaks for. Only for tokens that auth has just given to this service: it is not verified."""
    claims = jwt.decode(token, options={"verify_signature": False})
    actor = claims.get("act")
    return Identity(
        user_id=claims["sub"],
        org_id=claims["org"],
        role=claims["role"],
        session_id=claims["session_id"],
        actor=actor["sub"] if actor else None,
        claims=claims,
        expires_at=float(claims["exp"]),
    )
