"""Users and sessions: types, rules and use cases."""

from __future__ import annotations

import contextlib
import hashlib
import re
import secrets
import unicodedata
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Protocol

from runtime import validation
from runtime.errors import AlreadyExists, NotFound, PermissionDenied, ResourceExhausted, Unauthenticated
from runtime.ids import uuid7
from runtime.permissions import OPERATOR_CLAIM

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from contextlib import AbstractAsyncContextManager

    from runtime.context import Identity
    from services.auth.throttle import Throttle

EMAIL_MAX_CHARS = 254
PASSWORD_MIN_CHARS = 8
PASSWORD_MAX_CHARS = 128
ACCESS_TOKEN_LIFE = timedelta(minutes=15)
REFRESH_TOKEN_LIFE = timedelta(days=30)
REFRESH_GRACE = timedelta(seconds=10)
"""How long a spent refresh token is honoured again: two tabs that wake together both send the same one."""

API_KEY_CLAIM = "api_key_id"
"""Claim of the tokens that API keys give."""

_EMAIL = re.compile(r"[^@\s]+@[^@\s.]+(\.[^@\s.]+)+")
_REFRESH_TOKEN_PREFIX = "prt_"  # noqa: S105 - lets secret scanners recognize one
_REFRESH_TOKEN_BYTES = 32
_REFRESH_TOKEN_MAX_CHARS = 512


class EmailTaken(AlreadyExists):
    """Somebody has signed up with this e-mail address."""

    reason = "EMAIL_TAKEN"


class InvalidCredentials(Unauthenticated):
    """No account has this e-mail address and password; which of the two is wrong is not told."""

    reason = "INVALID_CREDENTIALS"


class InvalidRefreshToken(Unauthenticated):
    """The refresh token opens no session: unknown, expired, used before, or its session has ended."""

    reason = "INVALID_REFRESH_TOKEN"


class SessionEnded(Unauthenticated):
    """The session of the access token was revoked."""

    reason = "SESSION_ENDED"


class SessionNeeded(PermissionDenied):
    """Only a person who is signed in may do this: no program that acts for one."""

    reason = "SESSION_NEEDED"


class UserNotFound(NotFound):
    """There is no such user, or they are no member of the organization."""

    reason = "USER_NOT_FOUND"


class Busy(ResourceExhausted):
    """More passwords wait to be checked than this instance takes on."""

    reason = "BUSY"


@dataclass(frozen=True, slots=True)
class User:
    """A person who can sign in, acting in one organization with one role."""

    id: str
    email: str
    org_id: str
    role: str
    created_at: datetime
    last_sign_in_at: datetime
    operator: bool = False
    """Operates the platform; known only where a session gets its access token."""


@dataclass(frozen=True, slots=True)
class Account:
    """A user and the hash that proves their password."""

    user: User
    password_hash: str


@dataclass(frozen=True, slots=True)
class NewSession:
    """A session about to be stored, with its first refresh token's hash."""

    id: str
    user: User
    refresh_sha256: bytes
    created_at: datetime
    refresh_expires_at: datetime


@dataclass(frozen=True, slots=True)
class RefreshToken:
    """A stored refresh token, its session and the user as they are now."""

    session_id: str
    expires_at: datetime
    spent_at: datetime | None
    session_revoked: bool
    user: User


@dataclass(frozen=True, slots=True)
class Credentials:
    """What a caller gets for a session."""

    access_token: str
    expires_at: datetime
    refresh_token: str
    user: User


class RefreshUnit(Protocol):
    """Statements of one transaction around one refresh token, which is locked until it ends."""

    async def lock(self, sha256: bytes) -> RefreshToken | None:
        """Locks the token and its session; None: unknown."""

    async def rotate(
        self, spent: bytes, successor: bytes, session_id: str, now: datetime, expires_at: datetime
    ) -> None:
        """Marks the token as spent, unless it is already, and stores its successor."""

    async def revoke(self, session_id: str, now: datetime) -> None:
        """Revokes the session."""


class Store(Protocol):
    """Users and sessions; each method is one atomic statement."""

    async def add_user(self, password_hash: str, session: NewSession) -> None:
        """Stores the session's user, their personal organization, whose owner they are, and the session.

        Raises: EmailTaken.
        """

    async def find_account(self, email: str) -> Account | None:
        """Returns the account, in the user's personal organization."""

    async def add_session(self, session: NewSession, new_password_hash: str | None) -> None:
        """Stores a session and the moment of sign-in, and a new hash of the same password where one is given."""

    def refresh(self) -> AbstractAsyncContextManager[RefreshUnit]:
        """Opens a transaction; it commits when the block ends well."""

    async def revoke_session(self, session_id: str, now: datetime) -> None:
        """Revokes the session, if it is there and was not revoked."""

    async def find_user(self, user_id: str, org_id: str) -> User | None:
        """Returns the user as a member of the organization."""


class Passwords(Protocol):
    """Hashes passwords, bounded in how many at once."""

    async def hash(self, password: str) -> str:
        """Returns a salted hash. Raises: Busy."""

    async def verify(self, password_hash: str | None, password: str) -> bool:
        """Says whether the password is right; None costs as much and is never right. Raises: Busy."""

    def is_outdated(self, password_hash: str) -> bool:
        """Says whether the hash was made with other parameters than today's."""


class Signer(Protocol):
    """Signs claims with the current key."""

    async def sign(self, claims: Mapping[str, Any], *, issued_at: datetime, expires_at: datetime) -> str:
        """Returns a JWT with issuer, times and an id of its own added."""


class Audit(Protocol):
    """Writes one line for an event; values are ids, never e-mail addresses, passwords or tokens."""

    def __call__(self, event: str, **fields: str) -> object:
        """Writes the line."""


class Sessions:
    """The use cases of identity.

    Args:
        store: Users and sessions.
        throttle: Bounds sign-ups and sign-ins.
        passwords: Hashes.
        signer: Signs access tokens.
        user_audience: Audience of a user's own token.
        audit: Where events go.
        clock: Seconds since the epoch.
    """

    def __init__(
        self,
        *,
        store: Store,
        throttle: Throttle,
        passwords: Passwords,
        signer: Signer,
        user_audience: str,
        audit: Audit,
        clock: Callable[[], float],
    ) -> None:
        self._store = store
        self._throttle = throttle
        self._passwords = passwords
        self._signer = signer
        self._user_audience = user_audience
        self._audit = audit
        self._clock = clock

    async def sign_up(self, email: str, password: str, address: str) -> Credentials:
        """Creates a user and opens a first session.

        Raises: InvalidArgument; EmailTaken; TooManyAttempts; Busy.
        """
        email = normal_email(email)
        validation.text("password", password, min_chars=PASSWORD_MIN_CHARS, max_chars=PASSWORD_MAX_CHARS)
        await self._throttle.admit_sign_up(address, self._now())
        password_hash = await self._passwords.hash(password)
        now = self._now()
        user = User(uuid7(), email, uuid7(), "owner", now, now)
        refresh_token, session = _new_session(user, now)
        await self._store.add_user(password_hash, session)
        self._audit("user_signed_up", user_id=user.id, session_id=session.id)
        return await self._credentials(user, session.id, refresh_token, now)

    async def sign_in(self, email: str, password: str, address: str) -> Credentials:
        """Opens a session; an unknown e-mail address costs the same work and gets the same answer as a wrong password.

        Raises: InvalidArgument; InvalidCredentials; TooManyAttempts; Busy.
        """
        email = normal_email(email)
        # Only what no password can be is refused here: the least length may once have been another.
        validation.text("password", password, min_chars=1, max_chars=PASSWORD_MAX_CHARS)
        await self._throttle.admit_sign_in(email, address, self._now())
        account = await self._store.find_account(email)
        try:
            right = await self._passwords.verify(account.password_hash if account else None, password)
        except Busy:
            await self._throttle.sign_in_not_tried(email, address)
            raise
        if account is None or not right:
            self._audit("sign_in_refused", **({"user_id": account.user.id} if account else {}))
            raise InvalidCredentials("The e-mail address or the password is wrong.")
        new_hash = None
        if self._passwords.is_outdated(account.password_hash):
            with contextlib.suppress(Busy):  # the next sign-in will do
                new_hash = await self._passwords.hash(password)
        now = self._now()
        old = account.user
        user = User(old.id, old.email, old.org_id, old.role, old.created_at, now, old.operator)
        refresh_token, session = _new_session(user, now)
        await self._store.add_session(session, new_hash)
        await self._throttle.sign_in_succeeded(email, address)
        self._audit("user_signed_in", user_id=user.id, session_id=session.id)
        return await self._credentials(user, session.id, refresh_token, now)

    async def refresh(self, refresh_token: str) -> Credentials:
        """Exchanges a refresh token for new credentials of its session.

        Raises: InvalidArgument; InvalidRefreshToken.
        """
        validation.text("refresh_token", refresh_token, min_chars=1, max_chars=_REFRESH_TOKEN_MAX_CHARS)
        sha256 = _sha256(refresh_token)
        successor = _new_refresh_token()
        async with self._store.refresh() as unit:
            token = await unit.lock(sha256)
            now = self._now()  # after the lock: what was spent while this call waited for it lies in the past
            usable = token is not None and not token.session_revoked and now < token.expires_at
            reused = (
                token is not None and usable and token.spent_at is not None and now > token.spent_at + REFRESH_GRACE
            )
            if token is not None and reused:
                await unit.revoke(token.session_id, now)
            elif token is not None and usable:
                await unit.rotate(sha256, _sha256(successor), token.session_id, now, now + REFRESH_TOKEN_LIFE)
        # Refused only here: an error inside the block would take the revocation back.
        if token is not None and reused:
            self._audit("refresh_token_reused", user_id=token.user.id, session_id=token.session_id)
        if token is None or reused or not usable:
            raise InvalidRefreshToken("The session has ended; sign in again.")
        return await self._credentials(token.user, token.session_id, successor, now)

    async def sign_out(self, caller: Identity) -> None:
        """Revokes the caller's session; again is no error.

        Raises: SessionNeeded.
        """
        require_session(caller)
        await self._store.revoke_session(caller.session_id, self._now())
        self._audit("user_signed_out", user_id=caller.user_id, session_id=caller.session_id)

    async def current_user(self, caller: Identity) -> User:
        """Returns the caller as a user.

        Raises: UserNotFound.
        """
        user = await self._store.find_user(caller.user_id, caller.org_id)
        if user is None:
            raise UserNotFound("There is no such user any more.")
        return user

    async def _credentials(self, user: User, session_id: str, refresh_token: str, now: datetime) -> Credentials:
        expires_at = now + ACCESS_TOKEN_LIFE
        claims: dict[str, Any] = {**claims_of(user, session_id), "aud": self._user_audience, "email": user.email}
        if user.operator:
            # Here alone: neither an API key's token nor a delegated one has it.
            claims[OPERATOR_CLAIM] = True
        access_token = await self._signer.sign(claims, issued_at=now, expires_at=expires_at)
        return Credentials(access_token, expires_at, refresh_token, user)

    def _now(self) -> datetime:
        return datetime.fromtimestamp(self._clock(), UTC)


def normal_email(email: str) -> str:
    """Returns the form in which an e-mail address is stored and compared: trimmed, composed, lower-cased.

    Raises: InvalidArgument: it does not look like an address. Whether mail arrives there, only mail can tell.
    """
    normal = unicodedata.normalize("NFC", email.strip()).lower()
    validation.text("email", normal, min_chars=1, max_chars=EMAIL_MAX_CHARS)
    if not normal.isprintable() or not _EMAIL.fullmatch(normal):
        raise validation.invalid("email", "must be an e-mail address such as ada@example.org.")
    return normal


def require_session(caller: Identity) -> None:
    """Returns where the caller is a person who is signed in.

    Raises: SessionNeeded: a service or an API key speaks for them.
    """
    if caller.actor is not None or API_KEY_CLAIM in caller.claims:
        raise SessionNeeded("This needs a person who is signed in; an API key or a service will not do.")


def claims_of(user: User, session_id: str) -> dict[str, str]:
    """Returns what every token of a user says: who, where, as what, in which session."""
    return {"sub": user.id, "org": user.org_id, "role": user.role, "session_id": session_id}


def _new_session(user: User, now: datetime) -> tuple[str, NewSession]:
    refresh_token = _new_refresh_token()
    return refresh_token, NewSession(uuid7(), user, _sha256(refresh_token), now, now + REFRESH_TOKEN_LIFE)


def _new_refresh_token() -> str:
    return _REFRESH_TOKEN_PREFIX + secrets.token_urlsafe(_REFRESH_TOKEN_BYTES)


def _sha256(text: str) -> bytes:
    return hashlib.sha256(text.encode()).digest()
