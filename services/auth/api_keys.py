"""API keys: credentials of programs that act for a user; made, shown once, exchanged for access tokens, revoked."""

from __future__ import annotations

import hashlib
import secrets
import string
import zlib
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Protocol

from runtime import validation
from runtime.errors import NotFound, ResourceExhausted, Unauthenticated
from runtime.ids import uuid7
from services.auth.domain import API_KEY_CLAIM, SessionEnded, User, claims_of, require_session

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from runtime.context import Identity
    from services.auth.domain import Audit, Signer

NAME_MAX_CHARS = 100
TTL_MIN = timedelta(minutes=1)
TTL_MAX = timedelta(days=3650)
WORKING_MAX = 50
"""Most keys of a user in an organization that work at a time."""
TOKEN_LIFE = timedelta(minutes=5)
"""Life of an access token a key is exchanged for: as long as a revoked one may go on being honoured."""
KEPT_AFTER_END = timedelta(days=90)
PAGE_SIZE, PAGE_SIZE_MAX = 50, 100

# A scope is held by the services themselves: they accept no token that does not name them, and know nothing of scopes.
_CHAT = frozenset({"auth", "chat", "data", "edge", "gateway"})
SCOPES = {"models": frozenset({"edge", "gateway"}), "chat": _CHAT, "admin": _CHAT}
"""What a key may be good for, and the services that takes."""
_WHOLE_ROLE = "admin"
_MEMBER = "member"

PREFIX = "plk_"
SHOWN_CHARS = 12
_RANDOM_CHARS = 43
"""256 bits."""
_CHECKSUM_CHARS = 6
_ALPHABET = string.digits + string.ascii_uppercase + string.ascii_lowercase


class InvalidApiKey(Unauthenticated):
    """The API key opens nothing: malformed, unknown, expired, revoked, or its user has left."""

    reason = "INVALID_API_KEY"


class ApiKeyNotFound(NotFound):
    """The caller has no such API key."""

    reason = "API_KEY_NOT_FOUND"


class TooManyApiKeys(ResourceExhausted):
    """The caller has as many working API keys as anybody may."""

    reason = "TOO_MANY_API_KEYS"


@dataclass(frozen=True, slots=True)
class ApiKey:
    """What is kept of an API key; `None` moments have not come."""

    id: str
    name: str
    prefix: str
    scopes: tuple[str, ...]
    created_at: datetime
    expires_at: datetime | None
    last_used_at: datetime | None = None
    revoked_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class WorkingKey:
    """A key that works, and whom it acts for as they are now."""

    id: str
    scopes: tuple[str, ...]
    expires_at: datetime | None
    user: User

    @property
    def role(self) -> str:
        """The role it gives."""
        return self.user.role if _WHOLE_ROLE in self.scopes else _MEMBER


@dataclass(frozen=True, slots=True)
class Made:
    """A key that was just made, with the secret that is told once."""

    api_key: ApiKey
    secret: str = field(repr=False)


class Store(Protocol):
    """API keys; each method is atomic."""

    async def add_api_key(self, caller: Identity, key: ApiKey, sha256: bytes, most: int) -> bool:
        """Stores a key, unless the caller has `most` that work; returns whether. Raises: UserNotFound."""

    async def list_api_keys(self, caller: Identity, below: str | None, most: int) -> Sequence[ApiKey]:
        """Returns the caller's keys, youngest first, those with an id below one where that is given."""

    async def revoke_api_key(self, caller: Identity, key_id: str, now: datetime) -> ApiKey | None:
        """Revokes a key of the caller's, unless it was already; None: there is none."""

    async def use_api_key(self, sha256: bytes, now: datetime) -> WorkingKey | None:
        """Returns the key if it works, and notes that it was used."""

    async def find_open_session(self, session_id: str, user_id: str) -> User | None:
        """Returns whose session it is; None: revoked or gone."""


class ApiKeys:
    """The use cases of API keys.

    Args:
        store: Where they are.
        signer: Signs access tokens.
        audit: Where events go.
        clock: Seconds since the epoch.
    """

    def __init__(self, *, store: Store, signer: Signer, audit: Audit, clock: Callable[[], float]) -> None:
        self._store = store
        self._signer = signer
        self._audit = audit
        self._clock = clock

    async def create(self, caller: Identity, name: str, scopes: Sequence[str], ttl_s: float | None) -> Made:
        """Makes a key for the caller.

        Args:
            caller: A person who is signed in.
            name: 1-100 characters.
            scopes: Of `SCOPES`, each once.
            ttl_s: One minute to ten years; None: until it is revoked.

        Raises: SessionNeeded; SessionEnded; InvalidArgument; TooManyApiKeys; UserNotFound.
        """
        require_session(caller)
        name = validation.text("name", name.strip(), min_chars=1, max_chars=NAME_MAX_CHARS)
        if not scopes or len(set(scopes)) != len(scopes) or not SCOPES.keys() >= set(scopes):
            raise validation.invalid("scopes", f"must be one or more of {', '.join(SCOPES)}.")
        if ttl_s is not None and not TTL_MIN.total_seconds() <= ttl_s <= TTL_MAX.total_seconds():
            raise validation.invalid("ttl", "must be between one minute and ten years.")
        # The access token of a session that has ended lives on for minutes; it must not make a credential that lives on for years.
        if await self._store.find_open_session(caller.session_id, caller.user_id) is None:
            raise SessionEnded("The session has ended; sign in again.")
        now, secret = self._now(), new_secret()
        expires_at = None if ttl_s is None else now + timedelta(seconds=ttl_s)
        key = ApiKey(uuid7(), name, secret[:SHOWN_CHARS], tuple(sorted(scopes)), now, expires_at)
        if not await self._store.add_api_key(caller, key, _sha256(secret), WORKING_MAX):
            raise TooManyApiKeys(f"There are {WORKING_MAX} API keys already; revoke one first.")
        self._audit("api_key_created", user_id=caller.user_id, api_key_id=key.id, scopes=" ".join(key.scopes))
        return Made(key, secret)

    async def page(self, caller: Identity, page_size: int, page_token: str) -> tuple[Sequence[ApiKey], str]:
        """Returns some of the caller's keys, youngest first, and the token of the next page.

        Raises: SessionNeeded; InvalidArgument.
        """
        require_session(caller)
        validation.number("page_size", page_size, minimum=0, maximum=PAGE_SIZE_MAX)
        size = page_size or PAGE_SIZE
        below = None
        if page_token:
            [given] = validation.decode_page_token(page_token, parts=1)
            below = validation.identifier("page_token", given)
        keys = await self._store.list_api_keys(caller, below, size + 1)
        return keys[:size], validation.encode_page_token(keys[size - 1].id) if len(keys) > size else ""

    async def revoke(self, caller: Identity, key_id: str) -> ApiKey:
        """Revokes a key of the caller's; again is no error.

        Raises: SessionNeeded; InvalidArgument; ApiKeyNotFound.
        """
        require_session(caller)
        key = await self._store.revoke_api_key(caller, validation.identifier("api_key_id", key_id), self._now())
        if key is None:
            raise ApiKeyNotFound("There is no such API key.")
        self._audit("api_key_revoked", user_id=caller.user_id, api_key_id=key.id)
        return key

    async def exchange(self, secret: str) -> tuple[str, datetime]:
        """Returns an access token for whoever has the key, and when it ends.

        Raises: InvalidApiKey.
        """
        now = self._now()
        key = await self._store.use_api_key(_sha256(secret), now) if well_formed(secret) else None
        if key is None:
            raise InvalidApiKey("The API key is not valid.")
        expires_at = min(now + TOKEN_LIFE, key.expires_at or now + TOKEN_LIFE)
        claims = {
            **claims_of(key.user, key.id),
            "role": key.role,
            "aud": sorted(frozenset[str]().union(*(SCOPES[scope] for scope in key.scopes))),
            "scope": " ".join(key.scopes),
            API_KEY_CLAIM: key.id,
        }
        return await self._signer.sign(claims, issued_at=now, expires_at=expires_at), expires_at

    def _now(self) -> datetime:
        return datetime.fromtimestamp(self._clock(), UTC)


def new_secret() -> str:
    """Returns a new key."""
    body = PREFIX + "".join(secrets.choice(_ALPHABET) for _ in range(_RANDOM_CHARS))
    return body + _checksum(body)


def well_formed(secret: str) -> bool:
    """Tells whether a text can be a key, so that typing errors and guesses cost no look-up, and scanners find none that is none."""
    body, checksum = secret[:-_CHECKSUM_CHARS], secret[-_CHECKSUM_CHARS:]
    return (
        body.startswith(PREFIX)
        and len(body) == len(PREFIX) + _RANDOM_CHARS
        and body.isascii()
        and _checksum(body) == checksum
    )


def _checksum(body: str) -> str:
    rest, digits = zlib.crc32(body.encode()), ""
    for _ in range(_CHECKSUM_CHARS):
        rest, digit = divmod(rest, len(_ALPHABET))
        digits = _ALPHABET[digit] + digits
    return digits


def _sha256(text: str) -> bytes:
    return hashlib.sha256(text.encode()).digest()
