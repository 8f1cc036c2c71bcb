"""An owner keeps its run: stores and renews, doubts itself in time, and never shows what the next one cannot know of."""

from __future__ import annotations

import asyncio
import dataclasses
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from runtime.errors import ParleyError, Unavailable
from services.chat import keeping
from services.chat.config import ChatConfig
from services.chat.delegation import Credential
from services.chat.domain import Event, RunStatus, Usage
from services.chat.keeping import Keeper, Pace
from services.chat.log import RunLog, Tap
from services.chat.ports import Ending
from tests.unit.chat.turns import BEGUN, PACE, STALE, Saying, Storing, caller, text, until

AWAY = Unavailable("away")
ENDING = Ending("r", 1, RunStatus.COMPLETED, "", (text("Hi"),), Usage(1, 1), "mini", 5)


def keeper(
    data: Storing,
    log: RunLog,
    *,
    pace: Pace = PACE,
    lost: Callable[[ParleyError], None] = lambda _: None,
) -> Keeper:
    credential = Credential(Saying(), "own", expires_at=caller().expires_at)
    return Keeper(
        BEGUN, log, data=data, credential=credential, pace=pace, usage=lambda: None, lost=lost, unwanted=lambda: None
    )


async def test_what_grows_is_stored_and_what_does_not_grow_is_renewed() -> None:
    data, log = Storing(), RunLog()
    kept = keeper(data, log, pace=replace(PACE, lease_s=0.09))
    kept.keep()
    log.write("Hel")
    await until(lambda: data.stored == (text("Hel"),))
    tries = data.tries
    await until(lambda: data.tries > tries)
    kept.close()


async def test_runs_that_begin_together_are_not_stored_together_from_then_on() -> None:
    """A crowd that comes back would have all its runs stored at once, once a second, and every token wait for that."""
    data = Noting()
    kept = []
    for _ in range(40):
        log = RunLog()
        kept.append(keeper(data, log, pace=replace(PACE, checkpoint_every_s=0.3)))
        kept[-1].keep()
        log.write("Hel")
    await until(lambda: len(data.moments) == len(kept))
    for each in kept:
        each.close()
    assert data.moments[-1] - data.moments[0] > 0.1


async def test_an_owner_that_cannot_renew_shows_only_what_the_tail_holds_until_it_can() -> None:
    data, log = Storing(), RunLog()
    kept = keeper(data, log, pace=replace(PACE, lease_s=0.15))
    data.refuse = AWAY
    kept.keep()
    log.write("Hel")
    assert len(log.after(0)) == 1
    await until(lambda: log.after(0) == [])
    log.write("lo")
    log.confirm(1)
    assert [event.seq for event in log.after(0)] == [1]
    data.refuse = None
    await until(lambda: len(log.after(0)) == 2)
    kept.close()


class Noting(Storing):
    """Notes when it is asked to store a checkpoint."""

    def __init__(self) -> None:
        super().__init__()
        self.moments: list[float] = []

    async def checkpoint_run(self, *args: Any, **fields: Any) -> bool:
        self.moments.append(time.monotonic())
        return await super().checkpoint_run(*args, **fields)


class Slow(Storing):
    """Takes its first checkpoint only once it is let."""

    def __init__(self) -> None:
        super().__init__()
        self.let = asyncio.Event()
        self.asked = 0

    async def checkpoint_run(self, *args: Any, **fields: Any) -> bool:
        self.asked += 1
        if self.asked == 1:
            await self.let.wait()
        return await super().checkpoint_run(*args, **fields)


async def test_a_lease_counts_from_when_it_was_asked_for() -> None:
    """An answer that takes long must not make the owner believe in a lease that is older than it thinks."""
    data, log = Slow(), RunLog()
    kept = keeper(data, log, pace=replace(PACE, lease_s=1.5))
    log.write("Hel")
    storing = asyncio.create_task(kept.checkpoint())
    await until(lambda: data.asked == 1)
    asked_at = time.monotonic()
    await until(lambda: time.monotonic() > asked_at + 1.1)
    data.let.set()
    await storing
    assert log.after(0) == []
    kept.close()


class Once(Slow):
    """Answers its first checkpoint, once it is let, and no other."""

    async def checkpoint_run(self, *args: Any, **fields: Any) -> bool:
        cancel_requested = await super().checkpoint_run(*args, **fields)
        if self.asked > 1:
            await asyncio.Event().wait()
        return cancel_requested


async def test_an_answer_that_comes_too_late_ends_no_doubt() -> None:
    """A process that was stopped for longer than its lease reads what data said before: meanwhile another may have the run."""
    data, log, shown = Once(), RunLog(), list[Event]()

    def take(events: list[Event]) -> bool:
        shown.extend(events)
        return True

    kept = keeper(data, log, pace=replace(PACE, lease_s=0.15))
    kept.keep()
    log.write("Hel")
    await until(lambda: data.asked == 1 and log.after(0) == [])
    asked_before = time.monotonic()
    await until(lambda: time.monotonic() > asked_before + 0.1)  # then the lease that was asked for is in doubt itself
    watching = Tap(take).drain(log, 0)
    data.let.set()
    await until(lambda: data.asked > 1)
    assert (data.stored, shown) == ((text("Hel"),), [])
    kept.close()
    watching.cancel()


async def test_what_precedes_an_effect_is_secured_however_long_data_is_away() -> None:
    data, log = Storing(AWAY, AWAY), RunLog()
    kept = keeper(data, log)
    await kept.secure()  # nothing to store
    assert data.tries == 0
    log.write("Hel")
    await kept.secure()
    assert (data.tries, data.stored) == (3, (text("Hel"),))
    kept.close()


async def test_two_checkpoints_do_not_overtake_one_another() -> None:
    data, log = Slow(), RunLog()
    kept = keeper(data, log)
    log.write("Hel")
    first = asyncio.create_task(kept.checkpoint())
    await until(lambda: data.asked == 1)
    log.write("lo")
    second = asyncio.create_task(kept.checkpoint())
    for _ in range(5):
        await asyncio.sleep(0)
    data.let.set()
    await asyncio.gather(first, second)
    assert data.stored == (text("Hello"),)
    kept.close()


async def test_a_lost_run_is_told_of_once_and_not_kept_any_more() -> None:
    told: list[str] = []
    data, log = Storing(), RunLog()
    data.refuse = STALE
    kept = keeper(data, log, lost=lambda error: told.append(error.code))
    kept.keep()
    log.write("Hel")
    await until(lambda: bool(told))
    log.write("lo")
    await looks(3)
    kept.close()
    assert (told, data.tries) == (["STALE_FENCE"], 1)


async def test_a_keeper_that_rests_stores_no_more_and_still_comes_to_doubt() -> None:
    """The end is being stored: nothing may overtake that, and the lease is not renewed."""
    data, log = Storing(), RunLog()
    kept = keeper(data, log, pace=replace(PACE, lease_s=0.15))
    kept.keep()
    kept.rest()
    log.write("Hel")
    await until(lambda: log.after(0) == [])
    kept.close()
    assert data.tries == 0


async def test_a_checkpoint_under_way_ends_with_the_keeping() -> None:
    data, log = Slow(), RunLog()
    kept = keeper(data, log)
    kept.keep()
    log.write("Hel")
    await until(lambda: data.asked == 1)
    kept.close()
    data.let.set()
    await looks(3)
    assert data.stored == ()


async def looks(count: int) -> None:
    """Returns once another run, whose lease is always due, has been stored so often: by then any run of that pace has been looked at."""
    data = Storing()
    other = keeper(data, RunLog(), pace=replace(PACE, lease_s=0.001))
    other.keep()
    await until(lambda: data.tries >= count)
    other.close()


async def test_an_end_is_stored_once_data_is_back_and_shown_then(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keeping, "_FINISH_PAUSE_S", 0.001)
    data, log = Storing(AWAY, AWAY, AWAY), RunLog()
    log.write("Hi")
    log.hold()
    assert await keeper(data, log).finish(ENDING) is not None
    assert (data.tries, len(log.after(0))) == (4, 1)


async def test_an_end_that_is_refused_since_the_run_is_anothers_is_given_up() -> None:
    told: list[str] = []
    data = Storing(STALE)
    assert await keeper(data, RunLog(), lost=lambda error: told.append(error.code)).finish(ENDING) is None
    assert (told, data.tries) == (["STALE_FENCE"], 1)


def test_an_owner_doubts_before_its_lease_ends() -> None:
    pace = Pace(6, 1, finish_patience_s=2, finish_retry_for_s=600)
    assert pace.renew_every_s < pace.doubt_after_s < pace.lease_s


def test_an_owner_tries_again_sooner_than_its_lapsed_lease_is_suspected() -> None:
    (suspicion_s,) = (field.default for field in dataclasses.fields(ChatConfig) if field.name == "suspicion_s")
    assert isinstance(suspicion_s, float)
    assert suspicion_s > 2 * keeping.FINISH_LONGEST_PAUSE_S
