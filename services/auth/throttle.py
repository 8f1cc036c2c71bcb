"""How many attempts are allowed, and for whom they count."""

from __future__ import annotations

import hashlib
import ipaddress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, Protocol

from runtime import validation
from runtime.errors import ResourceExhausted

if TYPE_CHECKING:
    from datetime import datetime

Kind = Literal["account", "address", "sign_up"]

_IPV6_NETWORK_BITS = 64


class TooManyAttempts(ResourceExhausted):
    """The account or the address has to wait; whether the account exists makes no difference."""

    reason = "TOO_MANY_ATTEMPTS"


@dataclass(frozen=True, kw_only=True)
class Rule:
    """How attempts of one kind are limited.

    `limit` attempts are free within a window that begins with the first. From the one that reaches the limit on, each is followed by a
    wait, `first_wait_s` at first and twice as long each time up to `longest_wait_s`; the count is forgotten `memory_s` after a wait.

    Attributes:
        kind: What is counted.
        limit: Free attempts.
        window_s: Length of the window, seconds.
        first_wait_s: Wait after the last free attempt.
        longest_wait_s: Bound of the waits.
        memory_s: How long after a wait the next attempt still counts as one more.
    """

    kind: Kind
    limit: int
    window_s: float
    first_wait_s: float
    longest_wait_s: float
    memory_s: float


@dataclass(frozen=True, kw_only=True)
class Rules:
    """The rules of this service."""

    account: Rule
    address: Rule
    sign_up: Rule


class AttemptStore(Protocol):
    """Counters of attempts, shared by all instances; each method is atomic."""

    async def count_attempt(self, rule: Rule, key: bytes, now: datetime) -> datetime | None:
        """Counts an attempt; returns the end of the wait, without counting, when the key has to wait."""

    async def forgive_attempt(self, rule: Rule, key: bytes) -> None:
        """Takes back one attempt, and the wait it caused."""

    async def forget_attempts(self, rule: Rule, key: bytes) -> None:
        """Forgets all attempts of the key."""


class Throttle:
    """Counts attempts before the work they ask for is done, so that a burst cannot slip past the limit.

    Args:
        store: Where the counters are.
        rules: The limits.
    """

    def __init__(self, store: AttemptStore, rules: Rules) -> None:
        self._store = store
        self._rules = rules

    async def admit_sign_up(self, address: str, now: datetime) -> None:
        """Counts a sign-up from this address.

        Raises: TooManyAttempts.
        """
        await self._count(self._rules.sign_up, network(address), now)

    async def admit_sign_in(self, email: str, address: str, now: datetime) -> None:
        """Counts a sign-in to this account from this address.

        The address comes first: one that has to wait cannot lengthen the wait of somebody else's account.

        Raises: TooManyAttempts.
        """
        await self._count(self._rules.address, network(address), now)
        await self._count(self._rules.account, email, now)

    async def sign_in_succeeded(self, email: str, address: str) -> None:
        """Clears the account's counter and takes the attempt back from the address, which others may share."""
        await self._store.forget_attempts(self._rules.account, _key(email))
        await self._store.forgive_attempt(self._rules.address, _key(network(address)))

    async def sign_in_not_tried(self, email: str, address: str) -> None:
        """Takes an attempt back whose password was never checked."""
        await self._store.forgive_attempt(self._rules.account, _key(email))
        await self._store.forgive_attempt(self._rules.address, _key(network(address)))

    async def _count(self, rule: Rule, key: str, now: datetime) -> None:
        blocked_until = await self._store.count_attempt(rule, _key(key), now)
        if blocked_until is not None:
            wait_s = (blocked_until - now).total_seconds()
            raise TooManyAttempts("Too many attempts; try again later.", retry_after_s=wait_s)


def network(address: str) -> str:
    """Returns whom a network address stands for: an IPv4 address itself, an IPv6 address its /64, which one customer has whole.

    Raises: InvalidArgument: it is no network address.
    """
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        raise validation.invalid("client_address", "must be an IPv4 or IPv6 address.") from None
    if isinstance(parsed, ipaddress.IPv6Address):
        if parsed.ipv4_mapped is not None:
            return str(parsed.ipv4_mapped)
        return str(ipaddress.ip_network((int(parsed), _IPV6_NETWORK_BITS), strict=False))
    return str(parsed)


def _key(text: str) -> bytes:
    return hashlib.sha256(text.encode()).digest()
