"""Encrypts what nobody may read in the database."""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
import secrets
from dataclasses import dataclass

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from runtime.config import ConfigError

_KEY_BYTES = 32
_NONCE_BYTES = 12


@dataclass(frozen=True, slots=True)
class Sealed:
    """Encrypted bytes (nonce, ciphertext and tag), and the id of the key they were encrypted under."""

    key_id: str
    data: bytes


class Unsealable(Exception):
    """It was encrypted under a key that is not there, or changed, or is another record's."""


class Seal:
    """AES-256-GCM under the first of several keys; all of them open what they have closed, so that keys can be replaced one after the other.

    Args:
        keys: One or several of 32 bytes in base64, apart by commas or white space.

    Raises: ConfigError: one is not.
    """

    def __init__(self, keys: str) -> None:
        self._ciphers: dict[str, AESGCM] = {}
        for text in filter(None, re.split(r"[\s,]+", keys)):
            key = _decoded(text)
            if len(key) != _KEY_BYTES:
                raise ConfigError("Each of PARLEY_GATEWAY_ENCRYPTION_KEYS must be 32 bytes in base64.")
            # Tells keys apart and says nothing about them.
            self._ciphers.setdefault(hashlib.sha256(b"parley-key-id" + key).hexdigest()[:16], AESGCM(key))
        if not self._ciphers:
            raise ConfigError("PARLEY_GATEWAY_ENCRYPTION_KEYS must hold at least one key.")
        self.key_id = next(iter(self._ciphers))

    def close(self, record: str, plain: bytes) -> Sealed:
        """Encrypts under the first key, bound to the record's name."""
        nonce = secrets.token_bytes(_NONCE_BYTES)
        return Sealed(self.key_id, nonce + self._ciphers[self.key_id].encrypt(nonce, plain, record.encode()))

    def open(self, record: str, sealed: Sealed) -> bytes:
        """Decrypts. Raises: Unsealable."""
        cipher = self._ciphers.get(sealed.key_id)
        if cipher is None:
            raise Unsealable
        try:
            return cipher.decrypt(sealed.data[:_NONCE_BYTES], sealed.data[_NONCE_BYTES:], record.encode())
        except (InvalidTag, ValueError):
            raise Unsealable from None


def _decoded(text: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except binascii.Error:
        return b""
