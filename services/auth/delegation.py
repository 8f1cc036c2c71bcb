"""Tokens with which services act for users, or speak for themselves: what proves a service, and what bounds what it gets."""

from __future__ import annotations

import hashlib
import hmac
import secrets
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Protocol

from runtime import validation
from runtime.errors import PermissionDenied
from runtime.permissions import SERVICE_ROLE
from services.auth.domain import API_KEY_CLAIM, SessionEnded, UserNotFound, claims_of

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from runtime.context import Identity
    from services.auth.api_keys import WorkingKey
    from services.auth.domain import Audit, Signer, User

DELEGATED_LIFE_MAX = timedelta(hours=1)
DELEGATED_AUDIENCES = frozenset({"data", "gateway"})
SERVICE_AUDIENCES = frozenset({"data"})
"""Where a service speaks for itself; a model is only ever called for a user."""
NOBODY = "00000000-0000-0000-0000-000000000000"
"""The nil UUID: the session of a token that belongs to none; the user and organization of a service that speaks for itself."""

_ROLES = ("member", "admin", "owner")
"""What people are in an organization, from the one that may least."""


class ActorRefused(PermissionDenied):
    """The service that wants to act has not proved itself, or must not act with this token."""

    reason = "ACTOR_REFUSED"


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a service asks for.

    Attributes:
        actor: Its name.
        actor_key: What proves it.
        audiences: Services that shall accept the token, each once.
        ttl_s: Wanted life, from one second up to `DELEGATED_LIFE_MAX`.
    """

    actor: str
    actor_key: str = field(repr=False)
    audiences: tuple[str, ...]
    ttl_s: float


class Users(Protocol):
    """Whom a service may act for."""

    async def find_user(self, user_id: str, org_id: str) -> User | None:
        """Returns the user as a member of the organization."""

    async def find_open_session(self, session_id: str, user_id: str) -> User | None:
        """Returns whose session it is; None: revoked or gone."""

    async def find_working_api_key(self, key_id: str, user_id: str, now: datetime) -> WorkingKey | None:
        """Returns an API key that works; None: it has ended or is gone."""


class Delegation:
    """The use cases of services.

    Args:
        users: Whom they may act for.
        signer: Signs access tokens.
        actor_keys: Keys of the services, by name.
        audit: Where events go.
        clock: Seconds since the epoch.
    """

    def __init__(
        self,
        *,
        users: Users,
        signer: Signer,
        actor_keys: Mapping[str, str],
        audit: Audit,
        clock: Callable[[], float],
    ) -> None:
        self._users = users
        self._signer = signer
        self._actor_keys = actor_keys
        self._audit = audit
        self._clock = clock

    async def exchange(self, caller: Identity, wanted: Wanted) -> tuple[str, datetime]:
        """Returns a token with which a service acts for the caller, and when it ends.

        Args:
            caller: The user, or an API key of theirs; not a service that acts for one already.
            wanted: Audiences of `DELEGATED_AUDIENCES`.

        Raises: ActorRefused; InvalidArgument; SessionEnded.
        """
        if caller.actor is not None:
            raise ActorRefused("A delegated token cannot be exchanged again.")
        self._prove(wanted)
        _check(wanted, DELEGATED_AUDIENCES)
        return await self._sign(await self._claims_now(caller), wanted)

    async def delegate(
        self, user_id: str, org_id: str, wanted: Wanted, *, role_at_most: str = ""
    ) -> tuple[str, datetime]:
        """Returns a token with which a service acts for a user who is not there, and when it ends; each leaves an audit line.

        Args:
            user_id: UUID of the user.
            org_id: UUID of the organization to act in.
            wanted: Audiences of `DELEGATED_AUDIENCES`.
            role_at_most: What the token's role may not exceed; empty: no bound but the user's own.

        Raises: ActorRefused; InvalidArgument; UserNotFound: also for a user who has left the organization.
        """
        self._prove(wanted)
        user_id, org_id = validation.identifier("user_id", user_id), validation.identifier("org_id", org_id)
        _check(wanted, DELEGATED_AUDIENCES)
        user = await self._users.find_user(user_id, org_id)
        if user is None:
            raise UserNotFound("There is no such user in the organization any more.")
        claims = claims_of(user, NOBODY)
        if role_at_most:
            claims["role"] = _lesser(user.role, role_at_most)
        token = await self._sign(claims, wanted)
        audiences = " ".join(wanted.audiences)
        self._audit("token_delegated", actor=wanted.actor, user_id=user_id, org_id=org_id, audiences=audiences)
        return token

    async def issue(self, wanted: Wanted) -> tuple[str, datetime]:
        """Returns a token with which a service speaks for itself, and when it ends.

        Args:
            wanted: Audiences of `SERVICE_AUDIENCES`.

        Raises: ActorRefused; InvalidArgument.
        """
        self._prove(wanted)
        _check(wanted, SERVICE_AUDIENCES)
        claims = {"sub": NOBODY, "org": NOBODY, "role": SERVICE_ROLE, "session_id": NOBODY}
        return await self._sign(claims, wanted)

    async def _claims_now(self, caller: Identity) -> dict[str, str]:
        key_id = caller.claims.get(API_KEY_CLAIM)
        if key_id is not None:
            key = await self._users.find_working_api_key(key_id, caller.user_id, self._now())
            if key is not None:
                return {**claims_of(key.user, key.id), "role": key.role, API_KEY_CLAIM: key.id}
        else:
            user = await self._users.find_open_session(caller.session_id, caller.user_id)
            if user is not None:
                return claims_of(user, caller.session_id)
        raise SessionEnded("The session has ended; sign in again.")

    async def _sign(self, claims: Mapping[str, str], wanted: Wanted) -> tuple[str, datetime]:
        now = self._now()
        expires_at = now + timedelta(seconds=wanted.ttl_s)
        body = {**claims, "aud": list(wanted.audiences), "act": {"sub": wanted.actor}}
        return await self._signer.sign(body, issued_at=now, expires_at=expires_at), expires_at

    def _now(self) -> datetime:
        return datetime.fromtimestamp(self._clock(), UTC)

    def _prove(self, wanted: Wanted) -> None:
        # Compared as hashes: equal lengths, whatever was sent. An unknown actor is compared with a key nobody has.
        known = self._actor_keys.get(wanted.actor)
        if not hmac.compare_digest(_sha256(known or secrets.token_hex(32)), _sha256(wanted.actor_key)):
            self._audit("actor_refused", actor=wanted.actor if known else "unknown")
            raise ActorRefused("The actor has not proved itself.")


def _lesser(role: str, other: str) -> str:
    """Returns the one of two roles that may less; another that is not known stands for the least."""
    other = other if other in _ROLES else _ROLES[0]
    return min(role, other, key=_ROLES.index) if role in _ROLES else role


def _check(wanted: Wanted, on_offer: frozenset[str]) -> None:
    audiences = wanted.audiences
    if not audiences or len(set(audiences)) != len(audiences) or not on_offer.issuperset(audiences):
        raise validation.invalid("audiences", f"must be one or more of {', '.join(sorted(on_offer))}.")
    if not 1 <= wanted.ttl_s <= DELEGATED_LIFE_MAX.total_seconds():
        raise validation.invalid("ttl", "must be between one second and one hour.")


def _sha256(text: str) -> bytes:
    return hashlib.sha256(text.encode()).digest()
