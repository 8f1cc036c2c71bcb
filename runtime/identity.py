"""Verifies access tokens by itself against cached public keys, so that auth is not on the way of a request."""

from __future__ import annotations

import asyncio
import json
import time
from collections import OrderedDict
from sys import intern
from typing import TYPE_CHECKING, Any

import jwt
import structlog

from runtime.channel import unary
from runtime.context import Identity
from runtime.errors import ParleyError, Unauthenticated, Unavailable

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

log = structlog.stdlib.get_logger()

ISSUER = "parley"
USER_AUDIENCE = "parley"
"""Audience of a user's own token, accepted everywhere; a delegated one names its services instead."""
ALGORITHM = "EdDSA"
_REQUIRED = ["exp", "iat", "iss", "aud", "sub", "org", "role", "session_id"]
_LEEWAY_S = 5
_KEYS_MAX_AGE_S = 300.0
_KEYS_MIN_AGE_S = 1.0
_REMEMBERED_TOKENS = 10_000
_FETCH_S = 2.0


class InvalidToken(Unauthenticated):
    """The access token is not one of ours, or has ended. Why exactly is not told: that would help only a forger."""

    reason = "INVALID_TOKEN"


async def remote_keys(method: Any, request: Any) -> str:
    """Asks auth for its public keys, without a credential: whoever fetches them may still have none to show.

    Args:
        method: `GetJwks` of an async stub of AuthService.
        request: Its request.

    Returns: a JSON Web Key Set as text.
    Raises: Unavailable, DeadlineExceeded.
    """
    response = await unary(method, request, timeout_s=_FETCH_S, token="")
    return str(response.jwks_json)


class Verifier:
    """Turns access tokens into identities.

    Keys are fetched when first needed, again every five minutes in the background, and at once for an unknown key id (at most once a
    second). When the keys cannot be fetched the known ones go on serving. A key that cannot be read is left out.

    Args:
        fetch_jwks: Returns a JSON Web Key Set as text.
        audience: Name of this service; a token must be meant for it or be a user's own.
        clock: Seconds since the epoch.
    """

    def __init__(
        self, fetch_jwks: Callable[[], Awaitable[str]], *, audience: str, clock: Callable[[], float] = time.time
    ) -> None:
        self._fetch_jwks = fetch_jwks
        self._audience = [USER_AUDIENCE, audience]
        self._clock = clock
        self._keys: dict[str, Any] = {}
        self._tried_at = 0.0
        self._fetching: asyncio.Task[None] | None = None
        self._remembered: OrderedDict[str, tuple[Identity, str]] = OrderedDict()

    def known(self, token: str) -> Identity | None:
        """Returns who a token speaks for that has been verified before and has not ended; None: `verify` knows."""
        known = self._remembered.get(token)
        if known is None or known[0].expires_at <= self._clock():
            return None
        self._remembered.move_to_end(token)
        return known[0]

    def kept(self, token: str) -> str:
        """Returns the text by which a token is remembered: one for all the work that it has come with, and a token is long."""
        known = self._remembered.get(token)
        return token if known is None else known[1]

    async def verify(self, token: str) -> Identity:
        """Returns who the token speaks for.

        Raises: InvalidToken; Unavailable: no key has ever been fetched and auth is away.
        """
        if (known := self.known(token)) is not None:
            return known
        identity = self._identity(await self._claims(token, self._clock()))
        self._remembered[token] = (identity, token)
        if len(self._remembered) > _REMEMBERED_TOKENS:
            self._remembered.popitem(last=False)
        return identity

    async def _claims(self, token: str, now: float) -> dict[str, Any]:
        try:
            header = jwt.get_unverified_header(token)
        except jwt.InvalidTokenError:
            raise InvalidToken("The access token is not valid.") from None
        key = await self._key(header.get("kid"), now)
        if key is None or header.get("alg") != ALGORITHM:
            raise InvalidToken("The access token is not valid.")
        try:
            claims: dict[str, Any] = jwt.decode(
                token,
                key,
                algorithms=[ALGORITHM],
                audience=self._audience,
                issuer=ISSUER,
                leeway=_LEEWAY_S,
                options={"require": _REQUIRED, "verify_exp": False},
            )
        except jwt.InvalidTokenError:
            raise InvalidToken("The access token is not valid.") from None
        if not isinstance(claims["exp"], int | float) or claims["exp"] + _LEEWAY_S <= now:
            raise InvalidToken("The access token has expired; refresh the session.")
        # Names, and most values, are those of every other token that is remembered, or of this user's other one: kept once.
        return {intern(name): intern(value) if isinstance(value, str) else value for name, value in claims.items()}

    def _identity(self, claims: dict[str, Any]) -> Identity:
        fields = [claims[name] for name in ("sub", "org", "role", "session_id")]
        actor = claims.get("act")
        if not all(isinstance(value, str) for value in fields) or not (actor is None or isinstance(actor, dict)):
            raise InvalidToken("The access token is not valid.")
        user_id, org_id, role, session_id = fields
        return Identity(
            user_id=user_id,
            org_id=org_id,
            role=role,
            session_id=session_id,
            actor=str(actor.get("sub")) if actor else None,
            claims=claims,
            expires_at=float(claims["exp"]),
        )

    async def _key(self, kid: object, now: float) -> Any:
        age = now - self._tried_at
        if not isinstance(kid, str):
            return None
        fetching = self._fetching is not None and not self._fetching.done()
        if kid not in self._keys and (fetching or age > _KEYS_MIN_AGE_S):
            await asyncio.shield(self._refresh())
        elif age > _KEYS_MAX_AGE_S:
            self._refresh()
        if not self._keys:
            raise Unavailable("The keys that prove access tokens cannot be had right now; try again.", retry_after_s=1)
        return self._keys.get(kid)

    def _refresh(self) -> asyncio.Task[None]:
        if self._fetching is None or self._fetching.done():
            self._fetching = asyncio.create_task(self._fetch())
        return self._fetching

    async def _fetch(self) -> None:
        self._tried_at = self._clock()
        try:
            entries = list(json.loads(await self._fetch_jwks())["keys"])
        except ParleyError as error:
            log.warning("jwks_fetch_failed", reason=error.code)
            return
        except (ValueError, LookupError, TypeError):
            log.warning("jwks_fetch_failed", reason="MALFORMED")
            return
        keys: dict[str, Any] = {}
        for place, entry in enumerate(entries):
            try:
                keys[entry["kid"]] = jwt.PyJWK(entry, algorithm=ALGORITHM)
            except Exception as error:  # noqa: BLE001 - whatever is wrong with one key, the others serve
                log.warning("jwks_key_skipped", place=place, error=type(error).__name__)
        self._keys = keys
