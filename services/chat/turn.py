"""The life of one run, from the stored question to the stored answer, on the instance that owns it."""

from __future__ import annotations

import asyncio
import time
from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import structlog

from runtime.errors import Internal, NotFound, ParleyError
from services.chat import background, beginning, counting, failures, metrics
from services.chat.answer import merged
from services.chat.domain import Done, Failed, RunStatus, Usage
from services.chat.keeping import Keeper, Pace
from services.chat.log import RunLog
from services.chat.ports import Ending
from services.chat.reporting import report
from services.chat.steps import Outcome, Steps

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from opentelemetry.trace import Span

    from runtime.context import Identity
    from services.chat.asking import Gateway
    from services.chat.delegation import Credential
    from services.chat.domain import Run
    from services.chat.ports import Begun, Data
    from services.chat.prompt import Prompt
    from services.chat.titles import Titles
    from services.chat.tools.registry import Toolbox

__all__ = ["Pace", "Turn"]

log = structlog.stdlib.get_logger()

_RETRY_AFTER_S = 1.0
_RETRY_AT_MOST_S = 60.0
_SETTLE_S = 1.5
_RELEASE_S = 2.5


class Turn:
    """One run that this instance owns.

    Args:
        begun: The run as data began it, or as it was claimed.
        prompt: What the model is sent.
        caller: Whose run it is.
        credential: What it works with.
        data: Where it is stored.
        gateway: Who is asked.
        pace: How often and how long.
        label: The model's name in metrics, one of few: what a caller wrote is not.
        request_id: Of the request that started it.
        started_at: When that came, by `time.perf_counter`.
        span: The run's span, for its milestones.
        tools: What the model may call; None: nothing.
        log: What an earlier owner has told; None: nothing yet.
        titles: Who gives the conversation a title; None: nobody.
    """

    __slots__ = (
        "_answering",
        "_begun",
        "_credential",
        "_first_delta_s",
        "_handing_over",
        "_is_over",
        "_keeper",
        "_label",
        "_over",
        "_pace",
        "_prompt",
        "_request_id",
        "_span",
        "_started_at",
        "_steps",
        "_stop",
        "_superseded",
        "_titles",
        "_tools",
        "caller",
        "fence",
        "log",
        "run",
    )

    def __init__(
        self,
        begun: Begun,
        prompt: Prompt,
        *,
        caller: Identity,
        credential: Credential,
        data: Data,
        gateway: Gateway,
        pace: Pace,
        label: str,
        request_id: str,
        started_at: float,
        span: Span,
        tools: Toolbox | None = None,
        log: RunLog | None = None,
        titles: Titles | None = None,
    ) -> None:
        self.run: Run = begun.run
        self.log = RunLog() if log is None else log
        self.fence = begun.fence
        self.caller = caller
        self._begun = begun
        self._prompt = prompt
        self._credential = credential
        self._pace = pace
        self._label = label
        self._request_id = request_id
        self._started_at = started_at
        self._span = span
        self._tools = tools
        self._titles = titles
        self._answering: asyncio.Task[Outcome] | None = None
        self._stop: RunStatus | None = None
        self._first_delta_s: float | None = None
        self._handing_over: Callable[[], Awaitable[None]] | None = None
        self._superseded = False
        self._is_over = False
        self._over: asyncio.Event | None = None
        self._keeper = Keeper(
            begun,
            self.log,
            data=data,
            credential=credential,
            pace=pace,
            usage=self._used_so_far,
            lost=self._lose,
            unwanted=self._cancel,
        )
        self._steps = Steps(
            begun.run,
            prompt,
            self.log,
            tools=tools,
            gateway=gateway,
            credential=credential,
            keeper=self._keeper,
            first_delta=self._mark_first_delta,
        )

    def begin(self) -> None:
        """Opens the log and asks the model, before anything is waited for; call this within a task of the run's own."""
        if self.log.ended:
            self._answering = asyncio.create_task(_known(Outcome(self.run.status)))
            return
        self._steps.usage = counting.inherited(self._begun, self.log.answer, self._prompt)
        status = beginning.resume(self._begun, self.log, self._tools)
        answer = self._steps.answer() if status is None else _known(Outcome(status))
        self._answering = asyncio.create_task(answer)

    async def live(self) -> None:
        """Brings the run to its end; returns once its answer is stored, or no longer can be, or is another instance's to write."""
        self._credential.keep()
        self._keeper.keep()
        try:
            await self._answered()
            outcome = self._outcome()
            self._keeper.rest()
            if self._superseded:
                log.info("run_superseded", run_id=self.run.id, fence=self.fence)
            elif self.log.ended:
                await self._store_told_end()
            elif self._handing_over is not None and outcome is None:
                await self._release(self._handing_over)
            elif outcome is not None and self._may_retry(outcome):
                await self._retry(outcome)
            else:
                await self._finish(outcome or Outcome(self._stop or RunStatus.INTERRUPTED))
        finally:
            if self._answering is not None:
                self._answering.cancel()  # where this was cancelled; otherwise it has ended
            self._credential.close()
            self._keeper.close()
            self._steps.close()
            # Whatever has become of it: it is not here that it goes on. Whoever has not been shown its end by now will not be.
            self.log.move()
            self._end_here()

    def stop(self, status: RunStatus) -> None:
        """Closes the upstream connection and ends the run with the given status, unless it is ending already."""
        if self._answering is not None and not self._answering.done() and self._stop is None:
            self._stop = status
            self._answering.cancel()

    async def hand_over(self, flush: Callable[[], Awaitable[None]] | None = None) -> None:
        """Gives the run back for another instance to go on with, unless it is ending already; returns once that is done.

        Closes the upstream, stores what there is and sends the watchers elsewhere. A tool that is just having its effect is waited for,
        a little.

        Args:
            flush: Returns once the tail holds all that is in the log: whatever a watcher has seen, the next owner must find.
        """
        self._handing_over = flush or _nothing
        await self._steps.settled(_SETTLE_S)
        if self._answering is not None and not self._answering.done() and self._stop is None:
            self._answering.cancel()
        await self.over()

    def supersede(self) -> None:
        """Lets go of a run that another instance has claimed: closes the upstream, stores nothing, sends the watchers elsewhere."""
        self._superseded = True
        self.log.hold()
        self.log.move()
        self._end_here()
        if self._answering is not None:
            self._answering.cancel()

    async def over(self) -> None:
        """Returns when the run has ended here: its last event is in the log, or its watchers have been sent elsewhere."""
        if not self._is_over:
            if self._over is None:  # hardly anybody asks, and each would take its memory
                self._over = asyncio.Event()
            await self._over.wait()

    def _end_here(self) -> None:
        self._is_over = True
        if self._over is not None:
            self._over.set()

    def _used_so_far(self) -> Usage | None:
        return self._steps.usage

    def _cancel(self) -> None:
        self.stop(RunStatus.CANCELLED)

    def _lose(self, error: ParleyError) -> None:
        if isinstance(error, NotFound):
            # Deleted: whatever else the model says, nobody can keep it.
            self.stop(RunStatus.CANCELLED)
        else:
            self.supersede()

    def _mark_first_delta(self) -> None:
        self._first_delta_s = time.perf_counter() - self._started_at
        self._span.add_event("first_delta")
        metrics.FIRST_DELTA_SECONDS.labels(self._label).observe(self._first_delta_s)
        self._entitle()

    def _entitle(self) -> None:
        # After the first delta: nothing competes with that.
        titles, self._titles = self._titles, None
        if titles is not None and self._begun.untitled:
            titles.make(self.run.conversation_id, self._begun.history, self._begun.content, self._credential)

    def _answered(self) -> asyncio.Future[None]:
        assert self._answering is not None  # noqa: S101 - `begin` comes first
        return background.ended(self._answering)

    def _outcome(self) -> Outcome | None:
        """Returns how the answer has ended; None: it was cut off from here."""
        answering = self._answering
        assert answering is not None  # noqa: S101 - it has ended
        self._span.add_event("model_ended")
        if answering.cancelled():
            return None if self._stop is None else Outcome(self._stop)
        error = answering.exception()
        if error is None:
            return answering.result()
        if not isinstance(error, ParleyError):
            log.error("unforeseen_error", run_id=self.run.id, exc_info=error)
            error = Internal("internal error")
        return Outcome(RunStatus.FAILED, error)

    def _may_retry(self, outcome: Outcome) -> bool:
        error = outcome.error
        return error is not None and error.code in failures.RETRYABLE and self._begun.tries < self._begun.max_tries

    async def _retry(self, outcome: Outcome) -> None:
        """Puts a failed try back into the queue, with a pause that doubles from try to try."""
        assert outcome.error is not None  # noqa: S101 - only a failure is retried
        usage = self._steps.used()
        reason = outcome.error.code
        pause_s = min(_RETRY_AFTER_S * 2 ** (self._begun.tries - 1), _RETRY_AT_MOST_S)
        delay_s = min(max(pause_s, outcome.error.retry_after_s or 0), _RETRY_AT_MOST_S)
        failed = self._ending(RunStatus.FAILED, reason, usage, self.log.last_seq)
        run = await self._keeper.retry(failed, delay_s)
        if run is not None and run.status is RunStatus.QUEUED:
            self.run = run
            log.info("run_retried", run_id=run.id, tries=self._begun.tries, reason=reason, delay_s=delay_s)

    async def _release(self, flush: Callable[[], Awaitable[None]]) -> None:
        await flush()
        try:
            async with asyncio.timeout(_RELEASE_S):
                released = await self._keeper.release()
        except TimeoutError:
            released = False  # its lease will lapse
        log.info("run_handed_over", run_id=self.run.id, released=released)

    async def _finish(self, outcome: Outcome) -> None:
        usage = self._steps.used()
        reason = outcome.error.code if outcome.error is not None else ""
        ended_at = datetime.now(UTC)
        model = self._steps.model
        self.run = replace(
            self.run, status=outcome.status, error_reason=reason, response_model=model, ended_at=ended_at
        )
        ending = self._ending(outcome.status, reason, usage, self.log.last_seq + 2)
        storing = asyncio.create_task(self._keep_end(ending))
        try:
            # Whoever sees `done` may reload at once, and shall find the answer: the last two events follow the storing. But not for ever:
            # while data is away a finished answer must not look unfinished.
            await asyncio.wait([storing], timeout=self._pace.finish_patience_s)
            if self._superseded:
                return
            if not storing.done():
                log.warning("answer_not_stored_yet", run_id=self.run.id)
                # What has been told must stay true. Should this instance lose the run before it can store the answer, the next owner must
                # find the end in the tail: until the tail has it, it is not told.
                self.log.hold()
            self._report(usage, reason)
            self.log.append(usage)
            self.log.append(self._end(outcome.error))
            self.log.announce()
            self._end_here()
            await storing
        finally:
            storing.cancel()

    async def _keep_end(self, ending: Ending) -> None:
        """Stores the end of the run."""
        stored = await self._keeper.finish(ending)
        if stored is None:
            return
        self._span.add_event("answer_stored")
        if stored.status is not ending.status:
            log.warning("answer_ended_elsewhere", run_id=ending.run_id, status=stored.status)
            self.run = stored
            self.supersede()

    async def _store_told_end(self) -> None:
        """Stores an end that the owner before had told, and had not come to store."""
        last = [event.kind for event in self.log.unsent(self.log.last_seq - 2)]
        usage = next((kind for kind in last if isinstance(kind, Usage)), Usage(0, 0, estimated=True))
        told = last[-1]
        status, reason = (told.status, "") if isinstance(told, Done) else (RunStatus.FAILED, "")
        if isinstance(told, Failed):
            reason = told.reason
        elif isinstance(told, Done):
            self._steps.model = told.model
        self.run = replace(self.run, status=status, error_reason=reason, ended_at=datetime.now(UTC))
        self._end_here()
        await self._keep_end(self._ending(status, reason, usage, self.log.last_seq))

    def _ending(self, status: RunStatus, reason: str, usage: Usage, last_seq: int) -> Ending:
        return Ending(
            run_id=self.run.id,
            fence=self.fence,
            status=status,
            error_reason=reason,
            parts=merged(self.log.parts()),
            usage=usage,
            model=self._steps.model,
            last_seq=last_seq,
        )

    def _end(self, error: ParleyError | None) -> Done | Failed:
        if error is None:
            return Done(self.run.status, self.run.message_id, self._steps.model)
        message = failures.sentence(error.code, error.message)
        return Failed(error.code, message, self._request_id, error.retry_after_s, failures.limit_of(error))

    def _report(self, usage: Usage, reason: str) -> None:
        report(
            self.run,
            usage,
            reason,
            span=self._span,
            label=self._label,
            answered_by=(self._steps.provider, self._steps.model),
            background=self._begun.max_tries > 1,
            duration_s=time.perf_counter() - self._started_at,
            first_delta_s=self._first_delta_s,
            events=self.log.last_seq + 2,
        )


async def _known(outcome: Outcome) -> Outcome:
    return outcome


async def _nothing() -> None:
    """Flushes a log that goes nowhere."""
