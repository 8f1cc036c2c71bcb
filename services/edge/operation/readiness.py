"""Whether this instance wants requests: every service behind it is healthy and it does not drain."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from services.edge.problems import NotReady

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

_ANSWER_S = 1.0
_REMEMBERED_S = 1.0
_ASKED = 3


class Readiness:
    """Asks the services behind by the standard health protocol, at most once a second.

    A service is there when one of a few questions is answered so: each may reach another instance, and one that starts, drains or is frozen
    does not speak for the others.

    Args:
        channels: By name of the service.
        clock: Seconds, steady.

    Attributes:
        draining: This instance is about to stop.
    """

    def __init__(self, channels: Mapping[str, grpc.aio.Channel], clock: Callable[[], float] = time.monotonic) -> None:
        self.draining = False
        self._channels = channels
        self._clock = clock
        self._asked_at = float("-inf")
        self._missing: list[str] = []
        self._asking: asyncio.Task[None] | None = None

    async def check(self) -> None:
        """Returns when this instance is ready.

        Raises: NotReady: with the names of those that are not.
        """
        if self.draining:
            raise NotReady("This instance is about to stop.", retry_after_s=1, not_ready="edge")
        if self._clock() - self._asked_at > _REMEMBERED_S:
            # One round of questions, however many ask us at once; who stops waiting does not stop it.
            if self._asking is None or self._asking.done():
                self._asking = asyncio.create_task(self._ask())
            await asyncio.shield(self._asking)
        if self._missing:
            names = ", ".join(self._missing)
            raise NotReady(f"Not ready: {names}.", retry_after_s=1, not_ready=names)

    async def _ask(self) -> None:
        healthy = await asyncio.gather(*(_any_serves(channel) for channel in self._channels.values()))
        self._missing = [name for name, serves in zip(self._channels, healthy, strict=True) if not serves]
        self._asked_at = self._clock()


async def _any_serves(channel: grpc.aio.Channel) -> bool:
    asked = [asyncio.create_task(_serves(channel)) for _ in range(_ASKED)]
    try:
        for answer in asyncio.as_completed(asked):
            if await answer:
                return True
        return False
    finally:
        for question in asked:
            question.cancel()
        await asyncio.wait(asked)


async def _serves(channel: grpc.aio.Channel) -> bool:
    stub = health_pb2_grpc.HealthStub(channel)
    try:
        answer = await stub.Check(health_pb2.HealthCheckRequest(), timeout=_ANSWER_S)
    except grpc.aio.AioRpcError:
        return False
    return bool(answer.status == health_pb2.HealthCheckResponse.SERVING)
