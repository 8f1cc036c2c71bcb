"""The life of one run, from the stored question to the stored answer."""

from __future__ import annotations

import asyncio
import contextlib
import random
import time
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import structlog

from runtime import telemetry
from runtime.errors import FailedPrecondition, Internal, InvalidArgument, NotFound, ParleyError, ResourceExhausted
from services.chat import failures, metrics
from services.chat.asking import FinishReason, ModelCall, ModelStarted, ReasoningDelta, TextDelta
from services.chat.domain import Done, Failed, PartKind, RunStarted, RunStatus, Thinking, Usage, UserMessage
from services.chat.log import RunLog
from services.chat.ports import Ending
from services.chat.prompt import estimate_tokens

if TYPE_CHECKING:
    from opentelemetry.trace import Span

    from runtime.context import Identity
    from services.chat.asking import Gateway, ModelDelta
    from services.chat.delegation import Credential
    from services.chat.domain import Run
    from services.chat.ports import Begun, Data
    from services.chat.prompt import Prompt
    from services.chat.tools.registry import Toolbox

log = structlog.stdlib.get_logger()

_GATEWAY_TRIES = 3
_GATEWAY_PAUSE_S = 0.2
_FINISH_PAUSE_S = 0.1
FINISH_LONGEST_PAUSE_S = 1.0
"""Between two tries to store an answer. Below the least patience with a lapsed lease: once data is back, the owner comes first."""
_LAPSED_AT_LEAST_S = 4.0
_RENEWAL_MARGIN_S = 1.0


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

    @property
    def lapsed_for_s(self) -> float:
        """How long a lease must have lapsed, unchanged, before its owner counts as gone: longer than from one renewal to the next."""
        return max(_LAPSED_AT_LEAST_S, self.renew_every_s + self.checkpoint_every_s + _RENEWAL_MARGIN_S)


@dataclass(frozen=True, slots=True)
class _Outcome:
    status: RunStatus
    error: ParleyError | None = None


class Turn:
    """One run that this instance owns.

    Args:
        begun: The run as data began it.
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
    """

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
    ) -> None:
        self.run: Run = begun.run
        self.log = log or RunLog()
        self._tools = tools
        self.fence = begun.fence
        self.caller = caller
        self._begun = begun
        self._prompt = prompt
        self._credential = credential
        self._data = data
        self._gateway = gateway
        self._pace = pace
        self._label = label
        self._request_id = request_id
        self._started_at = started_at
        self._span = span
        self._answering: asyncio.Task[_Outcome] | None = None
        self._stop: RunStatus | None = None
        self._first_delta_s: float | None = None
        self._provider = ""
        self._model = ""
        self._usage: Usage | None = None
        self._over = asyncio.Event()

    def begin(self) -> None:
        """Asks the model and opens the log. The call is on its way before anything else happens; call this within a task of the run's own."""
        self._answering = asyncio.create_task(self._answer())
        run = self.run
        self.log.append(RunStarted(run.conversation_id, run.message_id, run.user_message_id, run.model))
        self.log.append(UserMessage(run.user_message_id, self._begun.content, self._begun.asked_at))
        self.log.append(Thinking())
        self.log.announce()

    async def live(self) -> None:
        """Brings the run to its end; returns once its answer is stored, or no longer can be."""
        exchanging = asyncio.create_task(self._credential.exchange())
        keeping = asyncio.create_task(self._keep())
        try:
            outcome = await self._outcome()
            keeping.cancel()
            await self._finish(outcome)
        finally:
            exchanging.cancel()
            keeping.cancel()
            self._over.set()

    def stop(self, status: RunStatus) -> None:
        """Closes the upstream connection and ends the run with the given status, unless it is ending already."""
        if self._answering is not None and not self._answering.done() and self._stop is None:
            self._stop = status
            self._answering.cancel()

    async def hand_over(self) -> None:
        """Gives the run back for another instance to go on with: closes the upstream, stores what there is, sends the watchers elsewhere."""
        self.stop(RunStatus.INTERRUPTED)
        await self.over()

    def supersede(self) -> None:
        """Lets go of a run that another instance has claimed: closes the upstream, stores nothing, sends the watchers elsewhere."""
        self.log.hold()
        self.log.move()
        self.stop(RunStatus.INTERRUPTED)

    async def over(self) -> None:
        """Returns when the run has ended: its last event is in the log."""
        await self._over.wait()

    async def _answer(self) -> _Outcome:
        prompt = self._prompt
        tries = 0
        while True:
            try:
                return await self._ask(prompt)
            except ParleyError as error:
                if self._first_delta_s is not None:
                    raise
                tries += 1
                if error.code == "CONTEXT_TOO_LONG" and prompt.history:
                    # Our estimate was wrong; an older half less is better than no answer.
                    self._prompt = prompt = prompt.shortened()
                elif error.code == "UNAVAILABLE" and tries < _GATEWAY_TRIES:
                    # The gateway's process is away, not a provider: another instance, or the same one in a moment.
                    await asyncio.sleep(_GATEWAY_PAUSE_S * tries)
                else:
                    raise

    async def _ask(self, prompt: Prompt) -> _Outcome:
        finish: FinishReason | None = None
        call = ModelCall(self.run.model, prompt.messages(), conversation_id=self.run.conversation_id)
        batches = self._gateway.chat(call, token=self._credential.token)
        async with contextlib.aclosing(batches):
            async for batch in batches:
                for delta in batch:
                    finish = self._take(delta) or finish
                self.log.announce()
        return self._ended_by_model(finish)

    def _take(self, delta: ModelDelta) -> FinishReason | None:
        if isinstance(delta, TextDelta):
            if self._first_delta_s is None:
                self._mark_first_delta()
            self.log.write(delta.text)
        elif isinstance(delta, ReasoningDelta):
            if self._first_delta_s is None:
                self._mark_first_delta()
            self.log.think(delta.text)
        elif isinstance(delta, ModelStarted):
            self._provider, self._model = delta.provider, delta.model
        else:
            self._usage = delta.usage
            return delta.reason
        return None

    def _mark_first_delta(self) -> None:
        self._first_delta_s = time.perf_counter() - self._started_at
        self._span.add_event("first_delta")
        metrics.FIRST_DELTA_SECONDS.labels(self._label).observe(self._first_delta_s)

    def _ended_by_model(self, finish: FinishReason | None) -> _Outcome:
        if finish is None:
            raise failures.AnswerCut("The answer was cut off.")
        if finish is FinishReason.CONTENT_FILTER:
            raise failures.ContentFiltered("The provider withheld the rest of this answer.")
        if not self.log.text_chars:
            # Also at the output limit: a model may spend all of it on thinking, and silence must not look like an answer.
            raise failures.EmptyAnswer("The model answered with nothing.")
        return _Outcome(RunStatus.LIMITED if finish is FinishReason.LENGTH else RunStatus.COMPLETED)

    async def _outcome(self) -> _Outcome:
        assert self._answering is not None  # noqa: S101 - `begin` comes first
        try:
            await asyncio.wait([self._answering])
        except asyncio.CancelledError:
            self._answering.cancel()
            raise
        self._span.add_event("model_ended")
        if self._answering.cancelled():
            return _Outcome(self._stop or RunStatus.INTERRUPTED)
        error = self._answering.exception()
        if error is None:
            return self._answering.result()
        if not isinstance(error, ParleyError):
            log.error("unforeseen_error", run_id=self.run.id, exc_info=error)
            error = Internal("internal error")
        return _Outcome(RunStatus.FAILED, error)

    async def _keep(self) -> None:
        """Stores what is visible while it grows, and renews the lease also while nothing comes."""
        stored_seq = self.log.last_seq
        renewed_at = time.monotonic()
        while True:
            await asyncio.sleep(self._pace.checkpoint_every_s)
            seq = self.log.last_seq
            if seq == stored_seq and time.monotonic() - renewed_at < self._pace.renew_every_s:
                continue
            try:
                await self._data.checkpoint_run(
                    self.run.id,
                    fence=self.fence,
                    parts=self.log.parts(),
                    last_seq=seq,
                    lease_s=self._pace.lease_s,
                    token=self._credential.token,
                )
            except (NotFound, FailedPrecondition) as error:
                # Deleted, or ended or taken by another instance: whatever else the model says, nobody can keep it.
                log.warning("run_lost", run_id=self.run.id, reason=error.code)
                self.stop(RunStatus.CANCELLED if isinstance(error, NotFound) else RunStatus.INTERRUPTED)
                return
            except ParleyError as error:
                metrics.CHECKPOINT_FAILURES.labels(error.code).inc()
            else:
                stored_seq, renewed_at = seq, time.monotonic()

    async def _finish(self, outcome: _Outcome) -> None:
        usage = self._usage or self._estimated_usage()
        self.log.append(usage)
        self.log.announce()
        reason = outcome.error.code if outcome.error is not None else ""
        self.run = replace(
            self.run,
            status=outcome.status,
            error_reason=reason,
            model=self._model or self.run.model,
            ended_at=datetime.now(UTC),
        )
        storing = asyncio.create_task(self._store(self._ending(usage)))
        try:
            # Whoever sees `done` may reload at once, and shall find the answer: the last event follows the storing. But not for ever:
            # while data is away a finished answer must not look unfinished.
            await asyncio.wait([storing], timeout=self._pace.finish_patience_s)
            if not storing.done():
                log.warning("answer_not_stored_yet", run_id=self.run.id)
            self._report(usage, reason)
            self.log.append(self._end(outcome.error))
            self.log.announce()
            self._over.set()
            await storing
        finally:
            storing.cancel()

    def _ending(self, usage: Usage) -> Ending:
        return Ending(
            run_id=self.run.id,
            fence=self.fence,
            status=self.run.status,
            error_reason=self.run.error_reason,
            parts=self.log.parts(),
            usage=usage,
            model=self._model,
            last_seq=self.log.last_seq + 1,
        )

    async def _store(self, ending: Ending) -> None:
        give_up_at = time.monotonic() + self._pace.finish_retry_for_s
        pause_s = _FINISH_PAUSE_S
        while True:
            try:
                stored = await self._data.finish_run(ending, token=self._credential.token)
            except (NotFound, FailedPrecondition, InvalidArgument) as error:
                log.warning("answer_refused", run_id=ending.run_id, reason=error.code)
                return
            except ParleyError as error:
                metrics.FINISH_RETRIES.labels(error.code).inc()
                # Without a domain it is the transport that refuses: the message is too large, and will be.
                too_large = isinstance(error, ResourceExhausted) and error.domain is None
                if too_large or time.monotonic() > give_up_at:
                    log.error("answer_lost", run_id=ending.run_id, reason=error.code)  # noqa: TRY400 - the reason says it
                    return
            else:
                self._span.add_event("answer_stored")
                if stored.status is not ending.status:
                    log.warning("answer_ended_elsewhere", run_id=ending.run_id, status=stored.status)
                    self.run = stored
                return
            await asyncio.sleep(pause_s * random.uniform(0.5, 1))  # noqa: S311 - spreads retries, guards nothing
            pause_s = min(pause_s * 2, FINISH_LONGEST_PAUSE_S)

    def _end(self, error: ParleyError | None) -> Done | Failed:
        if error is None:
            return Done(self.run.status, self.run.message_id)
        message = failures.sentence(error.code, error.message)
        return Failed(error.code, message, self._request_id, error.retry_after_s)

    def _estimated_usage(self) -> Usage:
        if not self._model and not self.log.text_chars:
            return Usage(0, 0, estimated=True)  # no provider took the call
        parts = self.log.parts()
        written = sum(estimate_tokens(part.text) for part in parts)
        thought = sum(estimate_tokens(part.text) for part in parts if part.kind is PartKind.REASONING)
        return Usage(self._prompt.tokens(), written, reasoning_tokens=thought, estimated=True)

    def _report(self, usage: Usage, reason: str) -> None:
        run, model = self.run, self._model or "unknown"
        metrics.RUNS_ENDED.labels(run.status, reason).inc()
        metrics.TOKENS.labels(self._label, "input").inc(usage.input_tokens)
        metrics.TOKENS.labels(self._label, "output").inc(usage.output_tokens)
        self._span.set_attributes(
            {
                "gen_ai.response.model": model,
                "gen_ai.usage.input_tokens": usage.input_tokens,
                "gen_ai.usage.output_tokens": usage.output_tokens,
                "parley.run.status": run.status,
            }
        )
        if reason:
            telemetry.fail(self._span, reason)
        log.info(
            "run_ended",
            run_id=run.id,
            conversation_id=run.conversation_id,
            status=run.status,
            duration_ms=_ms(time.perf_counter() - self._started_at),
            first_delta_ms=None if self._first_delta_s is None else _ms(self._first_delta_s),
            events=self.log.last_seq + 1,
            **{
                "gen_ai.provider.name": self._provider,
                "gen_ai.response.model": model,
                "gen_ai.usage.input_tokens": usage.input_tokens,
                "gen_ai.usage.output_tokens": usage.output_tokens,
            },
            **({"reason": reason} if reason else {}),
        )


def _ms(seconds: float) -> float:
    return round(seconds * 1000, 2)
