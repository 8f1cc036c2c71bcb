"""The first text of an answer goes out where it is read, as all that follows does: nobody is woken up for it."""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import AsyncGenerator
from dataclasses import replace
from typing import Any

from runtime.context import request_id
from services.chat.asking import ModelCall, ModelDelta, Tap
from services.chat.domain import Reset, Text
from services.chat.failures import AnswerCut
from services.chat.log import Tap as Watching
from services.chat.turn import Turn
from tests.unit.chat.turns import BEGUN, STOP, Saying, Storing, kinds, turn, until


class Tapped(Saying):
    """A gateway that reads nothing by itself: the test pours, and says how the call ends.

    Attributes:
        taps: Of the calls, in order.
        ends: What they end with: None, or an error.
    """

    def __init__(self) -> None:
        super().__init__()
        self.taps: list[Tap] = []
        self.ends: list[asyncio.Future[None]] = []

    async def chat(
        self, call: ModelCall, *, token: str, tap: Tap | None = None
    ) -> AsyncGenerator[list[ModelDelta], None]:
        assert tap is not None
        end = asyncio.get_running_loop().create_future()
        self.taps.append(tap)
        self.ends.append(end)
        await end
        yield [STOP]


class Titling:
    """Notes for which request it was asked for a title."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    def make(self, *_: Any) -> None:
        self.asked.append(request_id.get())


async def begun(gateway: Tapped, **more: Any) -> tuple[Turn, asyncio.Task[None]]:
    run = turn(gateway, Storing(), **more)

    async def live() -> None:
        run.begin()
        await run.live()

    living = asyncio.create_task(live())
    await until(lambda: bool(gateway.taps))
    return run, living


async def test_the_first_text_is_shown_by_whoever_has_read_it() -> None:
    gateway = Tapped()
    run, living = await begun(gateway)
    shown: list[Text] = []

    def write(_: int, offset: int, texts: list[str]) -> bool:
        shown.append(Text("".join(texts), offset))
        return True

    watching = Watching(lambda _: False, write)
    watching.drain(run.log, run.log.last_seq)
    (tap,) = gateway.taps
    assert tap.started("openai", "mini")
    assert tap.text("Hello")
    assert shown == [Text("Hello", 0)]
    gateway.ends[0].set_result(None)
    await living
    watching.rest(run.log)
    assert run.run.response_model == "mini"


async def test_text_of_nobody_knows_whom_waits_for_the_one_who_asked() -> None:
    gateway = Tapped()
    run, living = await begun(gateway)
    (tap,) = gateway.taps
    assert not tap.text("Hello")
    assert not tap.reasoning("Hm.")
    assert not run.log.text_chars
    assert tap.started("openai", "mini")
    assert tap.reasoning("Hm.")
    assert tap.text("Hello")
    gateway.ends[0].set_result(None)
    await living
    assert "Hello" in [kind.delta for kind in kinds(run.log) if isinstance(kind, Text)]


async def test_a_step_that_is_done_again_takes_back_what_was_shown_before_it_shows_more() -> None:
    gateway = Tapped()
    run, living = await begun(gateway)
    assert gateway.taps[0].started("openai", "mini")
    assert gateway.taps[0].text("Hel")
    gateway.ends[0].set_exception(AnswerCut("The answer was cut off."))
    await until(lambda: len(gateway.taps) == 2)
    assert gateway.taps[1].started("openai", "mini")
    assert gateway.taps[1].text("Good day")
    assert kinds(run.log)[-3:] == [Text("Hel", 0), Reset(1, 0), Text("Good day", 0)]
    gateway.ends[1].set_result(None)
    await living


async def test_what_follows_the_first_text_belongs_to_the_run_and_not_to_whoever_has_read_it() -> None:
    gateway, titles = Tapped(), Titling()
    request_id.set("of the run")
    run, living = await begun(gateway, titles=titles, begun=replace(BEGUN, untitled=True))
    (tap,) = gateway.taps

    def read() -> None:
        request_id.set("of the reader")
        assert tap.started("openai", "mini")
        assert tap.text("Hello")

    contextvars.copy_context().run(read)
    gateway.ends[0].set_result(None)
    await living
    assert titles.asked == ["of the run"]
    assert run.log.ended
