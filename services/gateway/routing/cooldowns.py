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
        try_every_s: How often one that limits its calls is tried all the same, where nobody else could answer.
    """

    failures: int = 3
    length_s: float = 10.0
    longest_s: float = 300.0
    try_every_s: float = 5.0


@dataclass(slots=True)
class Cooldown:
    """A deployment is to be left alone.

    Attributes:
        since: When it was learned, or it failed last.
        until: When it is over.
        asked: It said so itself.
        next_try: When a call may find out whether it would answer all the same.
        answers: It has answered a call that was sent later.
    """

    since: float
    until: float
    asked: bool
    next_try: float
    answers: bool = False


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
        if (cooling := self._cooling.get(key)) is not None:
            cooling.answers, cooling.since = False, self._clock()
            cooling.next_try = cooling.since + self._policy.try_every_s
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

    def answers(self, key: str, asked_at: float) -> None:
        """Notes that a deployment has begun to answer a call that was sent to it at that time, by `time.monotonic`."""
        if self._cooling and (cooling := self._cooling.get(key)) is not None and asked_at >= cooling.since:
            cooling.answers = True

    def learn(self, key: str, seconds: float, *, asked: bool) -> None:
        """Keeps a cooldown, unless a longer one is known."""
        now = self._clock()
        until = now + seconds
        known = self._cooling.get(key)
        # What comes back from the other instances is a little off, and no news.
        if seconds > 0 and (known is None or known.until + _TOLERANCE_S < until):
            if len(self._cooling) >= _MAX_KEPT:
                self._forget()
            self._cooling[key] = Cooldown(now, until, asked, now + self._policy.try_every_s)

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

    def refusal_s(self, key: str, *, alone: bool) -> float:
        """Returns the seconds for which a deployment is not to be asked at all; 0: it may be.

        One that limits its calls is not to be asked before the time it named. Where nobody else could answer either, a call every few
        seconds is sent to it all the same, and once one of those is answered, all are: what was limited may have been larger calls than these.

        Args:
            key: Of the deployment.
            alone: No other target of the call takes calls.
        """
        left_s, asked = self.of(key)
        if not asked:
            return 0.0
        cooling = self._cooling[key]
        if alone and cooling.answers:
            return 0.0
        if alone and self._clock() >= cooling.next_try:
            cooling.next_try = self._clock() + self._policy.try_every_s
            return 0.0
        return left_s

    def _forget(self) -> None:
        now = self._clock()
        self._cooling = {key: one for key, one in self._cooling.items() if one.until > now}
        if len(self._cooling) >= _MAX_KEPT:
            self._cooling.clear()
