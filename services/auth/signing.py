"""Signing keys: kept encrypted, rotated with overlap, published, used."""

from __future__ import annotations

import asyncio
import json
import secrets
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Protocol

import jwt
import structlog
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from runtime.config import ConfigError
from runtime.errors import ParleyError
from runtime.identity import ALGORITHM, ISSUER
from runtime.ids import uuid7
from services.auth.delegation import DELEGATED_LIFE_MAX

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from contextlib import AbstractAsyncContextManager

log = structlog.stdlib.get_logger()

READ_EVERY = timedelta(seconds=30)
"""How long an instance goes on with the keys it knows before it reads them again."""
_AFTERLIFE = DELEGATED_LIFE_MAX + timedelta(minutes=5)
"""How long a key stays published after its successor took over: its last token's life, and room for clocks that differ."""
_NONCE_BYTES = 12


@dataclass(frozen=True, slots=True)
class StoredKey:
    """A signing key as it is stored.

    Attributes:
        kid: Key id, in the header of every token it signs.
        sealed: Private key, encrypted.
        public_jwk: JSON Web Key as JSON text.
        created_at: When it was made.
        activates_at: Signs from then on, until a younger key does.
        retires_at: Is no longer published from then on; None while it has no successor.
    """

    kid: str
    sealed: bytes
    public_jwk: str
    created_at: datetime
    activates_at: datetime
    retires_at: datetime | None


class KeyUnit(Protocol):
    """Statements of one transaction that changes the keys; only one is open at a time, in all instances together."""

    async def list(self) -> Sequence[StoredKey]:
        """Returns all keys."""

    async def add(self, key: StoredKey, others_retire_at: datetime) -> None:
        """Stores a key and says when those without a successor leave."""


class KeyStore(Protocol):
    """Where the keys are."""

    async def list_keys(self) -> Sequence[StoredKey]:
        """Returns all keys."""

    def change_keys(self) -> AbstractAsyncContextManager[KeyUnit]:
        """Opens a transaction that nobody else changes keys beside."""


class Seal:
    """Encrypts private keys with AES-256-GCM, bound to their key id.

    Args:
        encryption_key: 32 bytes.
    """

    def __init__(self, encryption_key: bytes) -> None:
        self._cipher = AESGCM(encryption_key)

    def close(self, kid: str, plain: bytes) -> bytes:
        """Encrypts."""
        nonce = secrets.token_bytes(_NONCE_BYTES)
        return nonce + self._cipher.encrypt(nonce, plain, kid.encode())

    def open(self, kid: str, sealed: bytes) -> bytes:
        """Decrypts.

        Raises: ConfigError: it was encrypted under another key, or changed.
        """
        try:
            return self._cipher.decrypt(sealed[:_NONCE_BYTES], sealed[_NONCE_BYTES:], kid.encode())
        except (InvalidTag, ValueError):
            raise ConfigError(
                "PARLEY_AUTH_ENCRYPTION_KEY is not the key under which the signing keys in the database were encrypted."
            ) from None


@dataclass(frozen=True, slots=True)
class _Key:
    stored: StoredKey
    private: Ed25519PrivateKey


class KeyRing:
    """The signing keys, as one instance knows them.

    Args:
        store: Where they are.
        seal: Opens and closes private keys.
        rotate_every: From one key's activation to the next one's.
        overlap: How long a key is published before it signs; longer than verifiers keep what they fetched.
        clock: Seconds since the epoch.
    """

    def __init__(
        self,
        store: KeyStore,
        seal: Seal,
        *,
        rotate_every: timedelta,
        overlap: timedelta,
        clock: Callable[[], float],
    ) -> None:
        self._store = store
        self._seal = seal
        self._rotate_every = rotate_every
        self._overlap = overlap
        self._clock = clock
        self._keys: tuple[_Key, ...] = ()
        self._read_at = datetime.min.replace(tzinfo=UTC)
        self._reading = asyncio.Lock()

    async def rotate_if_due(self) -> None:
        """Makes the first key, which signs at once, or publishes the next one when its time has come.

        Raises: Unavailable.
        """
        async with self._store.change_keys() as unit:
            stored, now = await unit.list(), self._now()
            if not stored:
                await self._add(unit, now, activates_at=now)
            elif max(key.activates_at for key in stored) <= now - self._rotate_every + self._overlap:
                await self._add(unit, now, activates_at=now + self._overlap)

    async def rotate(self) -> datetime:
        """Publishes the next key now, unless there is one already, and returns when it begins to sign.

        Raises: Unavailable.
        """
        async with self._store.change_keys() as unit:
            stored, now = await unit.list(), self._now()
            youngest = max((key.activates_at for key in stored), default=None)
            if youngest is not None and youngest > now:
                return youngest
            activates_at = now + self._overlap if stored else now
            await self._add(unit, now, activates_at=activates_at)
            return activates_at

    async def jwks(self) -> str:
        """Returns the published keys as a JSON Web Key Set: those that sign, will sign, or have signed what still lives.

        Raises: Unavailable: they were never read, and the database is away.
        """
        now = self._now()
        published = [
            json.loads(key.stored.public_jwk)
            for key in await self._current()
            if key.stored.retires_at is None or key.stored.retires_at > now
        ]
        return json.dumps({"keys": published})

    async def sign(self, claims: Mapping[str, Any], *, issued_at: datetime, expires_at: datetime) -> str:
        """Returns a JWT of the claims, with issuer, times and an id of its own added.

        Raises: Unavailable: as `jwks`.
        """
        keys = {key.stored: key.private for key in await self._current()}
        key = signing_key(list(keys), self._now())
        body = {
            **claims,
            "iss": ISSUER,
            "iat": int(issued_at.timestamp()),
            "exp": int(expires_at.timestamp()),
            "jti": uuid7(),
        }
        return jwt.encode(body, keys[key], algorithm=ALGORITHM, headers={"kid": key.kid})

    async def _current(self) -> tuple[_Key, ...]:
        if self._now() - self._read_at >= READ_EVERY and (not self._keys or not self._reading.locked()):
            async with self._reading:
                if self._now() - self._read_at >= READ_EVERY:
                    await self._read()
        return self._keys

    async def _read(self) -> None:
        try:
            stored = await self._store.list_keys()
        except ParleyError as error:
            if not self._keys:
                raise
            log.warning("signing_keys_not_read", reason=error.code)
        else:
            self._keys = tuple(self._open(key) for key in stored)
        self._read_at = self._now()

    def _open(self, key: StoredKey) -> _Key:
        known = next((known for known in self._keys if known.stored.kid == key.kid), None)
        private = known.private if known else Ed25519PrivateKey.from_private_bytes(self._seal.open(key.kid, key.sealed))
        return _Key(key, private)

    async def _add(self, unit: KeyUnit, now: datetime, *, activates_at: datetime) -> None:
        kid, private = uuid7(), Ed25519PrivateKey.generate()
        entry = jwt.get_algorithm_by_name(ALGORITHM).to_jwk(private.public_key(), as_dict=True)
        public_jwk = json.dumps({**entry, "kid": kid, "alg": ALGORITHM, "use": "sig"})
        sealed = self._seal.close(kid, private.private_bytes_raw())
        key = StoredKey(kid, sealed, public_jwk, now, activates_at, None)
        await unit.add(key, others_retire_at=activates_at + _AFTERLIFE)
        log.info("signing_key_published", kid=kid, activates_at=activates_at.isoformat())

    def _now(self) -> datetime:
        return datetime.fromtimestamp(self._clock(), UTC)


def signing_key(keys: Sequence[StoredKey], now: datetime) -> StoredKey:
    """Returns the key that signs now: the youngest that is active, or the oldest where none is, as when clocks differ at the first start."""
    active = [key for key in keys if key.activates_at <= now]
    return max(active, key=lambda key: key.activates_at) if active else min(keys, key=lambda key: key.activates_at)
