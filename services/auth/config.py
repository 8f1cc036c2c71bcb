"""What the auth service is told: `PARLEY_AUTH_…`."""

from __future__ import annotations

import base64
import binascii
from dataclasses import dataclass
from typing import TYPE_CHECKING

from runtime.config import ConfigError, Secret, at_least
from runtime.server import ServerConfig
from services.auth.throttle import Rule, Rules

if TYPE_CHECKING:
    from services.auth.throttle import Kind

_ENCRYPTION_KEY_BYTES = 32
_ACTOR_KEY_MIN_CHARS = 16
_QUARTER_HOUR_S = 15 * 60.0
_HOUR_S = 60 * 60.0
_FIRST_WAIT_S = 30.0


@dataclass(frozen=True, kw_only=True)
class OperatorConfig:
    """What making somebody an operator needs."""

    database_url: Secret
    """URL of the database with the credentials of the role `parley_auth`."""


@dataclass(frozen=True, kw_only=True)
class KeyConfig:
    """What rotating the signing keys needs."""

    database_url: Secret
    """URL of the database with the credentials of the role `parley_auth`."""
    encryption_key: Secret
    """32 bytes in base64, under which the signing keys are encrypted in the database."""
    key_rotation_days: float = at_least(1, default=30.0)
    """Days from one signing key's activation to the next one's."""
    key_overlap_s: float = at_least(600, default=900.0)
    """Seconds a signing key is published before it signs; other services keep what they fetched for 300 s."""

    def encryption_key_bytes(self) -> bytes:
        """Returns the key itself.

        Raises: ConfigError: it is not 32 bytes in base64.
        """
        try:
            key = base64.b64decode(self.encryption_key.reveal(), validate=True)
        except binascii.Error:
            key = b""
        if len(key) != _ENCRYPTION_KEY_BYTES:
            raise ConfigError("PARLEY_AUTH_ENCRYPTION_KEY must be 32 bytes in base64.")
        return key


@dataclass(frozen=True, kw_only=True)
class AuthConfig(ServerConfig, KeyConfig):
    """What the service needs."""

    chat_key: Secret
    """The key by which chat proves itself when it exchanges a user's token, at least 16 characters."""
    pool_max_size: int = at_least(2, default=4)
    """Most connections to the database; further calls wait up to five seconds for one."""
    hash_threads: int = at_least(1, default=2)
    """Passwords hashed at once; each takes a core and `hash_memory_kib`."""
    hash_queue: int = at_least(0, default=64)
    """Passwords that may wait for a thread; further ones are refused."""
    hash_memory_kib: int = at_least(8, default=65536)
    """Memory of one argon2id hash, KiB; a change takes hold at each user's next sign-in."""
    hash_iterations: int = at_least(1, default=3)
    """Passes of one argon2id hash."""
    account_attempts: int = at_least(1, default=5)
    """Failed sign-ins to an account within 15 min before it has to wait: 30 s, then twice as long each time, up to 15 min."""
    address_attempts: int = at_least(1, default=30)
    """Failed sign-ins from an address within 15 min before it has to wait for 15 min."""
    sign_ups_per_hour: int = at_least(1, default=20)
    """Sign-ups from an address within an hour before it has to wait for one."""
    upkeep_every_s: float = at_least(1, default=60.0)
    """Seconds between two rounds of removing what has expired."""

    def actor_keys(self) -> dict[str, str]:
        """Returns the keys of the services that may act for a user, by name.

        Raises: ConfigError: a key is too short to be one.
        """
        if len(self.chat_key) < _ACTOR_KEY_MIN_CHARS:
            raise ConfigError(f"PARLEY_AUTH_CHAT_KEY must have at least {_ACTOR_KEY_MIN_CHARS} characters.")
        return {"chat": self.chat_key.reveal()}

    def throttle_rules(self) -> Rules:
        """Returns how attempts are limited."""
        quarter, hour = _QUARTER_HOUR_S, _HOUR_S
        return Rules(
            account=Rule(
                kind="account",
                limit=self.account_attempts,
                window_s=quarter,
                first_wait_s=_FIRST_WAIT_S,
                longest_wait_s=quarter,
                memory_s=quarter,
            ),
            address=_rule("address", self.address_attempts, quarter),
            sign_up=_rule("sign_up", self.sign_ups_per_hour, hour),
        )


def _rule(kind: Kind, limit: int, window_s: float) -> Rule:
    """Returns a rule whose wait is as long as its window, and which then begins anew."""
    return Rule(kind=kind, limit=limit, window_s=window_s, first_wait_s=window_s, longest_wait_s=window_s, memory_s=0)
