"""Orders the targets of a route for one call."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

from services.gateway.failures import RequestRejected, RunTimeout

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from services.gateway.domain import Deployment, Route, Target
    from services.gateway.failures import AttemptFailed
    from services.gateway.routing.cooldowns import Cooldowns


class Router:
    """Whom to ask, and whom after that.

    Args:
        cooldowns: Who is to be left alone.
        draw: Random number in 0-1.
    """

    def __init__(self, cooldowns: Cooldowns, draw: Callable[[], float] = random.random) -> None:
        self._cooldowns = cooldowns
        self._draw = draw

    def order(self, route: Route) -> tuple[list[Deployment], bool]:
        """Returns the deployments in the order in which they are to be asked, each once, and whether none of them takes calls just now.

        Within a rank chance decides, by weight; whoever is cooling down comes after all others, and the first to be ready first.
        """
        if len(route.ranks) == 1 and len(route.ranks[0]) == 1:
            return [route.ranks[0][0].deployment], True
        ready: list[Deployment] = []
        cooling: list[tuple[float, Deployment]] = []
        for rank in route.ranks:
            for target in self._drawn(rank):
                left_s, _ = self._cooldowns.of(target.deployment.key)
                if left_s:
                    cooling.append((left_s, target.deployment))
                else:
                    ready.append(target.deployment)
        cooling.sort(key=lambda one: one[0])
        return [*ready, *(deployment for _, deployment in cooling)], not ready

    def refusal_s(self, deployment: Deployment, *, alone: bool) -> float:
        """Returns the seconds for which a provider wants no calls of this model; see `Cooldowns.refusal_s`."""
        return self._cooldowns.refusal_s(deployment.key, alone=alone)

    def failed(self, deployment: Deployment, failure: AttemptFailed) -> None:
        """Notes that a deployment failed."""
        self._cooldowns.failed(deployment.key, failure)

    def succeeded(self, deployment: Deployment) -> None:
        """Notes that a deployment answers."""
        self._cooldowns.succeeded(deployment.key)

    def answers(self, deployment: Deployment, asked_at: float) -> None:
        """Notes that a deployment has begun to answer a call that was sent to it at that time, by `time.monotonic`."""
        self._cooldowns.answers(deployment.key, asked_at)

    def _drawn(self, rank: Sequence[Target]) -> Sequence[Target]:
        if len(rank) == 1:
            return rank
        left, drawn = list(rank), []
        while left:
            at = self._draw() * sum(target.weight for target in left)
            place = 0
            while place < len(left) - 1 and at >= left[place].weight:
                at -= left[place].weight
                place += 1
            drawn.append(left.pop(place))
        return drawn


def may_succeed_elsewhere(failure: AttemptFailed) -> bool:
    """Tells whether another target may answer what this one did not."""
    return not isinstance(failure.error, (RequestRejected, RunTimeout))
