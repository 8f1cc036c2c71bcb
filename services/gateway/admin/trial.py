"""One call of one deployment: past aliases, retries and cooldowns, and in the ledger like any other, for it costs like any other."""

from __future__ import annotations

import contextlib
import time
from typing import TYPE_CHECKING

from services.gateway.chat import Chat, Policy
from services.gateway.domain import Route, Target, Timeouts
from services.gateway.routing.cooldowns import CooldownPolicy, Cooldowns
from services.gateway.routing.router import Router

if TYPE_CHECKING:
    from collections.abc import Sequence

    from services.gateway.chat import Admission, Observer
    from services.gateway.domain import Call, Deployment, ListedModel

LONGEST_S = 15.0


class Trial:
    """Tries deployments.

    Args:
        observer: Sees what happens.
        admission: Who may call.
    """

    def __init__(self, observer: Observer, admission: Admission) -> None:
        self._observer = observer
        self._admission = admission

    async def __call__(self, deployment: Deployment, call: Call) -> float:
        """Makes a call, reads the answer to its end, and returns after how many seconds it began.

        Raises: as `Chat.stream`.
        """
        chat = Chat(
            _Only(deployment),
            Router(Cooldowns(CooldownPolicy())),
            self._observer,
            Policy(Timeouts(LONGEST_S, LONGEST_S, LONGEST_S), retries=0),
            admission=self._admission,
        )
        begun, first_s = time.monotonic(), None
        async with contextlib.aclosing(chat.stream(call)) as batches:
            async for _ in batches:
                first_s = first_s or time.monotonic() - begun
        return first_s or 0.0


class _Only:
    """A registry with one deployment behind every name."""

    def __init__(self, deployment: Deployment) -> None:
        self._route = Route(((Target(deployment, 1.0),),))

    def resolve(self, name: str) -> Route:  # noqa: ARG002 - whatever it is
        """See `domain.Registry.resolve`."""
        return self._route

    def listed(self) -> Sequence[ListedModel]:
        """See `domain.Registry.listed`."""
        return ()
