"""Remembers which deployments have failed, so that others are asked first for a while."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from services.gateway.failures import (
    ContextTooLong,
    ModelNotFound,
    ProviderAuthFailed,
    ProviderRateLimited,
    RequestRejected,
    RunTimeout,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from services.gateway.failures import AttemptFailed

_MAX_KEPT = 10_000
# Whoever has slept for just as long finds it over, however coarse the clocks.
_TOLERANCE_S = 0.05
# About the call and not about the deployment.
_OF_THE_CALL = (ContextTooLong, RequestRejected, RunTimeout)
# As clear after one failure as after three.
_AT_ONCE = (ProviderRateLimited, ProviderAuthFailed, ModelNotFound)


@dataclass(frozen=True)
class CooldownPolicy:
    """How long a deployment that fails is passed over.

    Attributes:
        failures: In a row, before it is; one that limits its calls, refuses our key or lacks the model is passed over at once.
        length_s: For how long, where it does not say itself.
        longest_s: However long it says.
    """

    failures: int = 3
    length_s: float = 10.0
    longest_s: float = 300.0


@dataclass(frozen=True, slots=True)
class Cooldown:
    """A deployment is to be left alone until then; `asked`: it said so itself."""

    until: float
    asked: bool


class Cooldowns:
    """What this instance knows; all of it is in memory.

    Args:
        policy: How long.
        clock: Seconds.

    Attributes:
        on_begin: Is told of each cooldown that begins here: key, seconds, whether the provider asked for it.
    """

    def __init__(self, policy: CooldownPolicy, clock: Callable[[], float] = time.monotonic) -> None:
        self._policy = policy
        self._clock = clock
        self._failures: dict[str, int] = {}
        self._cooling: dict[str, Cooldown] = {}
        self.on_begin: Callable[[str, float, bool], None] = lambda _key, _seconds, _asked: None

    def failed(self, key: str, failure: AttemptFailed) -> None:
        """Notes that a deployment failed."""
        if isinstance(failure.error, _OF_THE_CALL):
            return
        asked_s = failure.retry_after_s
        self._failures[key] = count = self._failures.get(key, 0) + 1
        if asked_s is None and count < self._policy.failures and not isinstance(failure.error, _AT_ONCE):
            return
        seconds = min(self._policy.length_s if asked_s is None else asked_s, self._policy.longest_s)
        self.learn(key, seconds, asked=asked_s is not None)
        self.on_begin(key, seconds, asked_s is not None)

    def succeeded(self, key: str) -> None:
        """Notes that a deployment answers."""
        if self._failures:
            self._failures.pop(key, None)

    def learn(self, key: str, seconds: float, *, asked: bool) -> None:
        """Keeps a cooldown, unless a longer one is known."""
        until = self._clock() + seconds
        known = self._cooling.get(key)
        if seconds > 0 and (known is None or known.until < until):
            if len(self._cooling) >= _MAX_KEPT:
                self._forget()
            self._cooling[key] = Cooldown(until, asked)

    def of(self, key: str) -> tuple[float, bool]:
        """Returns the seconds a deployment is still to be left alone, 0 if it is not, and whether it asked for that itself."""
        cooling = self._cooling.get(key) if self._cooling else None
        if cooling is None:
            return 0.0, False
        left_s = cooling.until - self._clock()
        if left_s <= _TOLERANCE_S:
            del self._cooling[key]
            return 0.0, False
        return left_s, cooling.asked

    def _forget(self) -> None:
        now = self._clock()
        self._cooling = {key: one for key, one in self._cooling.items() if one.until > now}
        if len(self._cooling) >= _MAX_KEPT:
            self._cooling.clear()
