"""A model is asked before anything is done for the run that can wait: what stands before that stands before the first token."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator
from typing import Any, cast

from services.chat.asking import ModelCall, ModelDelta, Tap
from services.chat.asks import Ask
from services.chat.caller import Caller
from services.chat.follow import Follow
from services.chat.host import Host
from services.chat.models import Models
from services.chat.ports import ActiveLimits, Begun, NewRun, RequestLimits
from services.chat.rules import Rules
from services.chat.runs import Runs
from services.chat.tools.registry import Registry
from tests.unit.chat.turns import BEGUN, PACE, Saying, Storing, caller

RULES = Rules("me", "", 100, 10, 1000, 9, 9, 9, 1, ActiveLimits(), RequestLimits(), 1, 3, PACE)


class Neighbours(Storing):
    """Data, the tail and the signals, which note what they are told and when."""

    def __init__(self) -> None:
        super().__init__()
        self.told: list[str] = []

    async def begin_run(self, _: NewRun, *, token: str) -> Begun:
        self.told.append("begun")
        return BEGUN

    def keep(self, *_: Any, **__: Any) -> None:
        self.told.append("kept")

    def let_go(self, *_: Any) -> None:
        """Was never kept."""

    async def flush(self, *_: Any) -> None:
        """Goes nowhere."""

    def tell_begun_here(self, *_: Any) -> None:
        self.told.append("told of")


class Asked(Saying):
    """Takes a turn of the event loop until what it is asked has left, as a busy connection does."""

    def __init__(self, told: list[str]) -> None:
        super().__init__()
        self._told = told

    async def chat(
        self, call: ModelCall, *, token: str, tap: Tap | None = None
    ) -> AsyncGenerator[list[ModelDelta], None]:
        loop, left = asyncio.get_running_loop(), asyncio.Event()

        def leave() -> None:
            self._told.append("asked")
            left.set()

        loop.call_soon(leave)
        await left.wait()
        async for deltas in super().chat(call, token=token):
            yield deltas

    async def list_models(self, *, token: str) -> list[Any]:
        return []


async def test_the_question_has_left_before_the_run_is_kept_or_told_of() -> None:
    beside: Any = Neighbours()
    gateway = Asked(beside.told)
    titles: Any = None
    host = Host(
        data=beside,
        gateway=gateway,
        tail=beside,
        models=Models(gateway, time.monotonic),
        tools=Registry(),
        titles=titles,
        rules=RULES,
    )
    follow = Follow(beside, beside, beside, host.live)
    runs = Runs(
        data=beside,
        auth=cast("Any", gateway),
        signals=beside,
        host=host,
        follow=follow,
        rules=RULES,
        queued=lambda: None,
        ended=lambda: None,
    )
    watching = await runs.start(Ask("", "Hello?", "", "fast"), Caller(caller(), "own", "req"))
    async with watching:
        shown = [event async for events in watching.batches for event in events]
    assert beside.told[:4] == ["begun", "asked", "kept", "told of"]
    assert len(shown) > 3
    assert await host.wait_for_all(5)
