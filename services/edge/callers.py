"""Who calls: proves access tokens, and exchanges API keys for them."""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections import OrderedDict
from typing import TYPE_CHECKING

from runtime.context import bearer_token, credential, set_identity
from runtime.errors import DeadlineExceeded, ParleyError, Unavailable

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from runtime.identity import Verifier

API_KEY_PREFIX = "plk_"
_BEFORE_END_S = 30.0
_TRUSTED_S = 5.0
"""How long a key that was revoked may go on being honoured here."""
_REMEMBERED = 10_000


class Callers:
    """Lets callers in by what their `authorization` header holds.

    An API key is exchanged once in a few seconds, however many requests come with it, so that revoking it takes effect; while auth is away what
    it was exchanged for goes on to its end. Keys themselves are not remembered, only their digests.

    Args:
        verifier: Proves access tokens.
        exchange: Returns an access token for an API key, and when it ends, seconds since the epoch.
        clock: Seconds since the epoch.
    """

    def __init__(
        self,
        verifier: Verifier,
        exchange: Callable[[str], Awaitable[tuple[str, float]]],
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._verifier = verifier
        self._exchange = exchange
        self._clock = clock
        # Token, its end, and until when it is not asked for anew.
        self._tokens: OrderedDict[bytes, tuple[str, float, float]] = OrderedDict()
        self._asking: dict[bytes, asyncio.Task[str]] = {}

    async def admit(self, authorization: str) -> None:
        """Makes the caller the one whom the work at hand, and every further call, is for.

        Raises: Unauthenticated; Unavailable: keys or tokens cannot be proved right now.
        """
        token = bearer_token(authorization)
        if (known := self._verifier.known(token)) is None:  # most callers are: it spares two coroutines
            if token.startswith(API_KEY_PREFIX):
                token = await self._exchanged(token)
            known = await self._verifier.verify(token)
        set_identity(known)
        credential.set(self._verifier.kept(token))

    async def _exchanged(self, api_key: str) -> str:
        digest = hashlib.sha256(api_key.encode()).digest()
        token, ends_at, fresh_until = self._tokens.get(digest, ("", 0.0, 0.0))
        if min(ends_at - _BEFORE_END_S, fresh_until) > self._clock():
            self._tokens.move_to_end(digest)
            return token
        if digest not in self._asking:
            asking = self._asking[digest] = asyncio.create_task(self._ask(digest, api_key))
            asking.add_done_callback(lambda asked: self._answered(digest, asked))
        # Whoever goes away does not take the answer from the others.
        return await asyncio.shield(self._asking[digest])

    def _answered(self, digest: bytes, asked: asyncio.Task[str]) -> None:
        self._asking.pop(digest, None)
        if not asked.cancelled():
            asked.exception()  # looked at, for those who asked may all have gone

    async def _ask(self, digest: bytes, api_key: str) -> str:
        try:
            token, ends_at = await self._exchange(api_key)
        except (Unavailable, DeadlineExceeded):
            token, ends_at, _ = self._tokens.get(digest, ("", 0.0, 0.0))
            if ends_at <= self._clock():
                raise
        except ParleyError:
            self._tokens.pop(digest, None)
            raise
        self._tokens[digest] = (token, ends_at, self._clock() + _TRUSTED_S)
        self._tokens.move_to_end(digest)
        if len(self._tokens) > _REMEMBERED:
            self._tokens.popitem(last=False)
        return token
