"""A run is ended for its owner only when the owner is gone."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import replace
from datetime import UTC, datetime

import pytest

from runtime.testing import Clock
from services.chat import follow
from services.chat.domain import NotStopped, Part, Run, RunStatus, Stored
from services.chat.follow import Elsewhere, Lease
from services.chat.log import RunLog
from services.chat.ports import Begun, Ending, NewRun
from services.chat.turn import FINISH_LONGEST_PAUSE_S, Pace

RUNNING = Run("r", "c", "u", "m", "fast", RunStatus.RUNNING, "", datetime.now(UTC), None)


def stored(lease_expires_at: float | None) -> Stored:
    return Stored(RUNNING, "Hello?", datetime.now(UTC), (), None, 3, 1, "owner", lease_expires_at)


def test_a_lease_that_changes_has_an_owner_however_wrong_the_clock_is() -> None:
    clock = Clock(1000)
    lease = Lease(clock, 4)
    for _ in range(5):
        assert not lease.lapsed(stored(clock() - 500))
        clock.advance(3)
    last = stored(clock() - 500)
    assert not lease.lapsed(last)
    clock.advance(3.9)
    assert not lease.lapsed(last)
    clock.advance(0.1)
    assert lease.lapsed(last)


def test_a_lease_that_holds_is_not_lapsing() -> None:
    clock = Clock(1000)
    lease = Lease(clock, 4)
    assert not lease.lapsed(stored(999))
    assert lease.lapsing
    clock.advance(100)
    assert not lease.lapsed(stored(1200))
    assert not lease.lapsing


@pytest.mark.parametrize(("lease_s", "checkpoint_every_s"), [(3, 0.05), (10, 1), (10, 5), (60, 1)])
def test_patience_outlasts_what_a_living_owner_takes(lease_s: float, checkpoint_every_s: float) -> None:
    """A renewal is due after a third of the lease and noticed at the next checkpoint; a finished answer is tried again between pauses."""
    pace = Pace(lease_s, checkpoint_every_s, finish_patience_s=2, finish_retry_for_s=600)
    assert pace.lapsed_for_s > lease_s / 3 + checkpoint_every_s
    assert pace.lapsed_for_s > 3 * FINISH_LONGEST_PAUSE_S


class Owned:
    """A run whose owner stops it when asked, on data and signals alike; both may be away."""

    def __init__(self, *, reachable: bool) -> None:
        self.run = stored(lease_expires_at=1.0)
        self.reachable = reachable
        self.ended_by_others = False

    async def ask_to_cancel(self, owner: str, run_id: str) -> None:
        if not self.reachable:
            raise NotStopped
        self._end(RunStatus.CANCELLED)

    async def get_run(self, run_id: str, *, token: str) -> Stored:
        return self.run

    async def finish_run(self, ending: Ending, *, token: str) -> Run:
        self.ended_by_others = True
        self._end(ending.status)
        return self.run.run

    def _end(self, status: RunStatus) -> None:
        self.run = replace(self.run, run=replace(self.run.run, status=status), lease_expires_at=None)

    async def begin_run(self, new: NewRun, *, token: str) -> Begun:
        raise NotImplementedError

    async def checkpoint_run(
        self, run_id: str, *, fence: int, parts: Sequence[Part], last_seq: int, lease_s: float, token: str
    ) -> None:
        raise NotImplementedError

    def keep(self, org_id: str, run_id: str, log: RunLog, *, fence: int) -> None:
        raise NotImplementedError

    def replica(self, org_id: str, run_id: str) -> AbstractAsyncContextManager[RunLog]:
        raise NotImplementedError


@pytest.mark.parametrize("reachable", [True, False])
async def test_an_owner_is_asked_even_if_its_lease_looks_lapsed(
    monkeypatch: pytest.MonkeyPatch, reachable: bool
) -> None:
    """By a clock that is ahead every lease has lapsed. When there is nobody to ask, the run is ended all the same."""
    monkeypatch.setattr(follow, "_CANCEL_ASK_EVERY_S", 0.001)
    owned = Owned(reachable=reachable)
    elsewhere = Elsewhere(owned, owned, owned, itertools.count(1000.0).__next__, lapsed_for_s=4)
    run = await elsewhere.cancel(owned.run, token="t")
    assert (run.status, owned.ended_by_others) == (RunStatus.CANCELLED, not reachable)
