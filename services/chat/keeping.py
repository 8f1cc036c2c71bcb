"""What an owner does to keep its run: stores what is visible, renews the lease, doubts itself, stores the end."""

from __future__ import annotations

import asyncio
import contextvars
import math
import random
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

import structlog

from runtime.errors import FailedPrecondition, InvalidArgument, NotFound, ParleyError, ResourceExhausted
from services.chat import metrics

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from services.chat.delegation import Credential
    from services.chat.domain import Run, Usage
    from services.chat.log import RunLog
    from services.chat.ports import Begun, Data, Ending

T = TypeVar("T")

log = structlog.stdlib.get_logger()

_FINISH_PAUSE_S = 0.1
FINISH_LONGEST_PAUSE_S = 1.0
"""Between two tries to store an answer. Below the suspicion a lapsed lease must meet: once data is back, the owner comes first."""
_DOUBT_AFTER = 2 / 3
BEATS = 20
"""In the time between two checkpoints of a run."""
_EFFECT_PAUSE_S = 0.2


@dataclass(frozen=True, slots=True)
class Pace:
    """How often and how long.

    Attributes:
        lease_s: How long the owner's lease lasts.
        checkpoint_every_s: Between two checkpoints of a growing answer.
        finish_patience_s: How long the end of a run waits for its answer to be stored.
        finish_retry_for_s: How long an answer that cannot be stored is kept and tried again.
    """

    lease_s: float
    checkpoint_every_s: float
    finish_patience_s: float
    finish_retry_for_s: float

    @property
    def renew_every_s(self) -> float:
        """How old a lease gets before the owner renews it."""
        return self.lease_s / 3

    def checkpoint_in_s(self, now: float, later_beats: int = 0) -> float:
        """Returns how long until a run that looks now is due again: about as long as said, on a beat that all runs of the process keep.

        What is due together is stored together.

        Args:
            now: By the event loop's clock.
            later_beats: How many beats later than that.
        """
        beat_s = self.checkpoint_every_s / BEATS
        return (math.floor((now + self.checkpoint_every_s) / beat_s) + 1 + later_beats) * beat_s - now

    @property
    def first_beats(self) -> int:
        """Over how many beats the first checkpoints of runs that begin together are spread: where their leases leave time for that."""
        return BEATS if 2 * self.checkpoint_every_s <= self.renew_every_s else 1

    @property
    def doubt_after_s(self) -> float:
        """How old a lease gets before its owner no longer takes for granted that the run is its own."""
        return self.lease_s * _DOUBT_AFTER


class Keeper:
    """Keeps one run.

    Args:
        begun: The run.
        run_log: Its log, which is held while it is in doubt whose run this is.
        data: Where it is stored.
        credential: What the run works with.
        pace: How often and how long.
        usage: Says what the model calls have used that have ended; None: nothing is counted yet.
        lost: Called once the run is not this instance's any more, or not there any more, with what data said.
        unwanted: Called when somebody wants the run stopped.
    """

    __slots__ = (
        "_closed",
        "_context",
        "_credential",
        "_data",
        "_doubting",
        "_fence",
        "_keeping",
        "_log",
        "_lost",
        "_one_at_a_time",
        "_pace",
        "_renewed_at",
        "_run_id",
        "_stored_seq",
        "_storing",
        "_timer",
        "_unwanted",
        "_usage",
    )

    def __init__(
        self,
        begun: Begun,
        run_log: RunLog,
        *,
        data: Data,
        credential: Credential,
        pace: Pace,
        usage: Callable[[], Usage | None],
        lost: Callable[[ParleyError], None],
        unwanted: Callable[[], None],
    ) -> None:
        self._run_id = begun.run.id
        self._fence = begun.fence
        self._log = run_log
        self._data = data
        self._credential = credential
        self._pace = pace
        self._usage = usage
        self._lost = lost
        self._unwanted = unwanted
        self._stored_seq = run_log.last_seq
        self._renewed_at = time.monotonic()
        self._one_at_a_time = asyncio.Lock()
        self._keeping = self._doubting = self._closed = False
        self._timer: asyncio.TimerHandle | None = None
        self._context: contextvars.Context | None = None
        self._storing: asyncio.Task[None] | None = None

    def keep(self) -> None:
        """From now on stores what is visible while it grows, and renews the lease also while nothing comes, until the run is lost.

        A timer looks whether there is anything to do: a task for each run that mostly sleeps would take more memory than all else here.
        """
        self._keeping = True
        self._context = contextvars.copy_context()
        self._stop_looking()
        # Runs that begin together, as after a crowd has come back, are not due together for as long as they last.
        self._look_later(random.randrange(self._pace.first_beats))  # noqa: S311 - spreads work, guards nothing
        self._renewed()

    def rest(self) -> None:
        """Stores and renews no more by itself; whose run it is may still come into doubt."""
        self._keeping = False
        if self._storing is not None:
            self._storing.cancel()

    async def checkpoint(self) -> None:
        """Stores what is visible now.

        Raises: NotFound, FailedPrecondition: the run is lost; whatever data raises while it is away.
        """
        async with self._one_at_a_time:
            seq = self._log.last_seq
            asked_at = time.monotonic()
            try:
                cancel_requested = await self._data.checkpoint_run(
                    self._run_id,
                    fence=self._fence,
                    parts=self._log.parts(),
                    usage=self._usage(),
                    last_seq=seq,
                    lease_s=self._pace.lease_s,
                    token=self._credential.token,
                )
            except (NotFound, FailedPrecondition) as error:
                log.warning("run_lost", run_id=self._run_id, reason=error.code)
                self._lose(error)
                raise
            self._stored_seq = seq
            self._renewed(asked_at)
        if cancel_requested:
            self._unwanted()

    async def secure(self) -> None:
        """Returns once all that is in the log now is stored: what happens next may have an effect. Tries for ever.

        Raises: NotFound, FailedPrecondition: the run is lost.
        """
        seq = self._log.last_seq
        while self._stored_seq < seq:
            try:
                await self.checkpoint()
            except (NotFound, FailedPrecondition):
                raise
            except ParleyError as error:
                metrics.CHECKPOINT_FAILURES.labels(error.code).inc()
                await asyncio.sleep(_EFFECT_PAUSE_S)

    async def finish(self, ending: Ending) -> Run | None:
        """Stores the end of the run, for as long as the pace allows; returns the run as it is stored, None where it could not be."""
        return await self._insist(lambda: self._data.finish_run(ending, token=self._credential.token))

    async def retry(self, ending: Ending, delay_s: float) -> Run | None:
        """Puts the run back into the queue; otherwise as `finish`."""
        return await self._insist(lambda: self._data.retry_run(ending, delay_s=delay_s, token=self._credential.token))

    async def release(self) -> bool:
        """Gives the run back, to be claimed at once; says whether that has worked."""

        async def release() -> bool:
            async with self._one_at_a_time:
                await self._data.release_run(
                    self._run_id,
                    fence=self._fence,
                    parts=self._log.parts(),
                    usage=self._usage(),
                    last_seq=self._log.last_seq,
                    token=self._credential.token,
                )
            return True

        return bool(await self._insist(release))

    def close(self) -> None:
        """Ends all that, and tells nobody of anything any more; the log stays as it is."""
        self._closed = True
        self.rest()
        self._stop_looking()
        # Otherwise whoever made this and this would hold each other, with the log and the prompt, until the garbage collector comes by.
        self._usage = self._lost = self._unwanted = _nobody

    async def _insist(self, store: Callable[[], Awaitable[T]]) -> T | None:
        give_up_at = time.monotonic() + self._pace.finish_retry_for_s
        pause_s = _FINISH_PAUSE_S
        while True:
            try:
                stored = await store()
            except (NotFound, FailedPrecondition, InvalidArgument) as error:
                log.warning("answer_refused", run_id=self._run_id, reason=error.code)
                if isinstance(error, FailedPrecondition):
                    self._lose(error)
                return None
            except ParleyError as error:
                metrics.FINISH_RETRIES.labels(error.code).inc()
                # Without a domain it is the transport that refuses: the message is too large, and will be.
                too_large = isinstance(error, ResourceExhausted) and error.domain is None
                if too_large or time.monotonic() > give_up_at:
                    log.error("answer_lost", run_id=self._run_id, reason=error.code)  # noqa: TRY400 - the reason says it
                    return None
            else:
                self.close()
                self._log.release()
                return stored
            await asyncio.sleep(pause_s * random.uniform(0.5, 1))  # noqa: S311 - spreads retries, guards nothing
            pause_s = min(pause_s * 2, FINISH_LONGEST_PAUSE_S)

    def _lose(self, error: ParleyError) -> None:
        if isinstance(error, FailedPrecondition):
            metrics.FENCED.labels("data").inc()
        self._lost(error)

    def _renewed(self, at: float | None = None) -> None:
        """Takes note that the lease has been renewed, by the moment in which that was asked for; from then on doubt grows anew."""
        now = time.monotonic()
        self._renewed_at = now if at is None else at
        if now - self._renewed_at >= self._pace.doubt_after_s:
            # The answer has come so late, as to a process that was stopped, that it says nothing of whose run this is by now.
            if not self._doubting:
                self._begin_to_doubt()
            return
        if self._doubting:
            self._doubting = False
            self._stop_looking()
        if self._timer is None:  # otherwise the next look comes before the next doubt is due
            self._look_later()
        self._log.release()

    def _stop_looking(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _look_later(self, later_beats: int = 0) -> None:
        now = time.monotonic()
        in_s = self._pace.checkpoint_in_s(now, later_beats) if self._keeping else math.inf
        if not self._doubting:
            in_s = min(in_s, max(self._renewed_at + self._pace.doubt_after_s - now, 0))
        if not self._closed and in_s < math.inf:
            self._timer = asyncio.get_running_loop().call_later(in_s, self._look, context=self._context)

    def _look(self) -> None:
        """Sees what is due, and when to look again."""
        self._timer = None
        age_s = time.monotonic() - self._renewed_at
        if not self._doubting and age_s >= self._pace.doubt_after_s:
            self._begin_to_doubt()
        stale = age_s >= self._pace.renew_every_s
        if self._keeping and self._storing is None and (stale or self._log.last_seq != self._stored_seq):
            self._storing = asyncio.create_task(self._store())
            self._storing.add_done_callback(self._stored)
        self._look_later()

    async def _store(self) -> None:
        try:
            await self.checkpoint()
        except (NotFound, FailedPrecondition):
            self._keeping = False
        except ParleyError as error:
            metrics.CHECKPOINT_FAILURES.labels(error.code).inc()

    def _stored(self, task: asyncio.Task[None]) -> None:
        self._storing = None
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("unforeseen_error", run_id=self._run_id, exc_info=error)

    def _begin_to_doubt(self) -> None:
        self._doubting = True
        metrics.DOUBTS.inc()
        log.warning("run_in_doubt", run_id=self._run_id)
        self._log.hold()


def _nobody(_: object = None) -> None:
    """Told of a run that is over."""
