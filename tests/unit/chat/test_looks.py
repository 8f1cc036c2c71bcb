"""Who wants to know the same at about the same time looks once."""

from __future__ import annotations

import asyncio
import time

import pytest

from runtime.errors import ParleyError, Unauthenticated, Unavailable
from services.chat.looks import Looks


class Stored:
    """What is looked at: says how often, or raises in turn what it is told."""

    def __init__(self, *faults: ParleyError) -> None:
        self.faults = list(faults)
        self.looked = 0

    async def look(self) -> int:
        self.looked += 1
        number = self.looked
        await asyncio.sleep(0)
        if self.faults:
            raise self.faults.pop(0)
        return number


async def test_all_who_look_together_look_once() -> None:
    looks, stored = Looks[int](), Stored()
    asked_at = time.monotonic()
    assert await asyncio.gather(*(looks.share("run", stored.look, since=asked_at) for _ in range(50))) == [1] * 50
    assert await looks.share("run", stored.look, since=asked_at) == 1


async def test_a_look_that_began_too_early_is_not_taken() -> None:
    """Something may have happened in between: whoever was told so wants to see it."""
    looks, stored = Looks[int](), Stored()
    await looks.share("run", stored.look, since=time.monotonic())
    assert await looks.share("run", stored.look, since=time.monotonic()) == 2


async def test_what_is_another_question_is_looked_at_by_itself() -> None:
    looks, stored = Looks[int](), Stored()
    assert [await looks.share(key, stored.look, since=0) for key in ("ada", "bob")] == [1, 2]


async def test_a_failure_is_everybodys() -> None:
    looks, stored = Looks[int](), Stored(Unavailable("away"))
    outcomes = await asyncio.gather(
        *(looks.share("run", stored.look, since=0) for _ in range(3)), return_exceptions=True
    )
    assert [type(outcome) for outcome in outcomes] == [Unavailable] * 3
    assert stored.looked == 1


async def test_somebody_elses_credential_that_has_ended_is_not() -> None:
    looks, stored = Looks[int](), Stored(Unauthenticated("ended"))
    ended, fine = await asyncio.gather(
        *(looks.share("run", stored.look, since=0) for _ in range(2)), return_exceptions=True
    )
    assert (type(ended), fine) == (Unauthenticated, 2)


async def test_whoever_goes_takes_nothing_from_the_others() -> None:
    looks, stored = Looks[int](), Stored()
    first = asyncio.create_task(looks.share("run", stored.look, since=0))
    second = asyncio.create_task(looks.share("run", stored.look, since=0))
    await asyncio.sleep(0)
    first.cancel()
    assert await second == 1
    with pytest.raises(asyncio.CancelledError):
        await first


async def test_what_nobody_asks_for_any_more_is_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("services.chat.looks.RECENT_S", 0.0)
    looks = Looks[int]()
    await looks.share("run", Stored().look, since=0)
    async with asyncio.timeout(10):
        while looks._looks:  # noqa: ASYNC110 - it is told by no event
            await asyncio.sleep(0.001)
