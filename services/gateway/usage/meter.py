"""Surrounds calls of models: lets them in by budget, and notes what each call of a provider has used."""

from __future__ import annotations

import asyncio
import contextlib
import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Self

from runtime.context import current_identity
from runtime.ids import uuid7
from services.gateway.failures import AttemptFailed, FirstTokenTimeout, RunTimeout
from services.gateway.tally import input_tokens
from services.gateway.usage.domain import CANCELLED, COMPLETED, OpenCall, TokenBudgetExceeded, Used, cost, provider_name

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Awaitable, Callable
    from types import TracebackType

    from services.gateway.chat import Observation, Observer
    from services.gateway.domain import Call, Deployment, Usage
    from services.gateway.usage.budgets import Budgets
    from services.gateway.usage.ledger import Ledger

_TOKENS_A_MESSAGE = 8


class Meter:
    """Begins and ends calls.

    Args:
        budgets: Who may call.
        ledger: Where rows go.
        clock: Seconds since the epoch.
    """

    def __init__(self, budgets: Budgets, ledger: Ledger, clock: Callable[[], float] = time.time) -> None:
        self._budgets = budgets
        self._ledger = ledger
        self._clock = clock

    def now(self) -> datetime:
        """Returns the moment."""
        return datetime.fromtimestamp(self._clock(), UTC)

    @contextlib.asynccontextmanager
    async def call(
        self, *, model: str, prompt_tokens: int, output_tokens: int, run_id: str = "", bot: str = ""
    ) -> AsyncGenerator[OpenCall, None]:
        """Holds the tokens of one call of the caller's back for the length of the block, and counts what it has used at the end.

        Args:
            model: As asked for.
            prompt_tokens: Estimate of what is sent.
            output_tokens: Most that may be written.
            run_id: UUID, or empty.
            bot: Name, or empty.

        Raises: TokenBudgetExceeded; Unavailable, DeadlineExceeded, Conflict: no store of budgets can be asked.
        """
        wanted = self.begin(
            model=model, prompt_tokens=prompt_tokens, output_tokens=output_tokens, run_id=run_id, bot=bot
        )
        with wanted as holding:
            await holding.admitted()
            yield holding.call

    def begin(self, *, model: str, prompt_tokens: int, output_tokens: int, run_id: str = "", bot: str = "") -> Holding:
        """As `call`, but the block begins while the tokens are still being held back: nothing may be used before `admitted` has returned."""
        caller = current_identity()

        def make() -> OpenCall:
            now = self.now()
            return OpenCall(
                id=uuid7(),
                day=now.date(),
                org_id=caller.org_id,
                user_id=caller.user_id,
                bot=bot,
                run_id=run_id,
                model=model,
                tokens=max(prompt_tokens + output_tokens, 1),
                input_tokens=prompt_tokens,
                started_at=now,
            )

        return Holding(self._budgets, self._ledger, make)


class Holding:
    """What is held back for a call of ours for the length of a block.

    It is as much again for each call of a provider, once the one before has used some of it.

    Args:
        budgets: Who may call.
        ledger: Where rows go.
        make: Makes what is to be held back now.

    Attributes:
        call: What is held back now, with what was used of it.
    """

    def __init__(self, budgets: Budgets, ledger: Ledger, make: Callable[[], OpenCall]) -> None:
        self._budgets = budgets
        self._ledger = ledger
        self._make = make
        self._let_in = self._refused = False
        self._asked: asyncio.Future[Any] | None = None

    def __enter__(self) -> Self:
        """Sends the question whether there is enough; it is answered while the block goes on."""
        self._begin()
        return self

    def __exit__(self, *_: object) -> None:
        self.end()

    async def admitted(self) -> None:
        """Returns once there is enough for a call of a provider.

        Raises: TokenBudgetExceeded; Unavailable, DeadlineExceeded, Conflict: no store of budgets can be asked.
        """
        if self.call.used_tokens:
            self.end()
            if self.call.by_database:
                await self._ledger.flush()
            self._begin()
        if not self._let_in:
            try:
                await self._budgets.admit(self.call, self._asked)
            except TokenBudgetExceeded:
                self._refused = not self.call.by_database
                raise
            self._let_in = True
        self._ledger.opened(self.call)

    def end(self) -> None:
        """Counts what was used, in place of what was held back."""
        if self._refused:
            self._ledger.refused(self.call)
            return
        # Left early it may have been let in at that very moment, as by a store that could not say so any more.
        # What is asked of Redis next comes after it, and what Postgres lets in all the same lapses.
        asked = self._asked
        if asked is not None and not asked.cancel() and not asked.cancelled():
            asked.exception()  # perhaps nobody has waited for it
        self._budgets.settle(self.call)
        self._ledger.over(self.call)

    def _begin(self) -> None:
        self.call = self._make()
        self._ledger.begins(self.call)
        self._let_in = self._refused = False
        self._asked = self._budgets.ask(self.call)


class MeteredAdmission:
    """Lets calls in by budget, and has every one noted; see `chat.Admission`.

    Args:
        meter: Begins and ends calls.
        attempts: What the chat's observer reports to.
        max_output_tokens: Of a call that says nothing.
    """

    def __init__(self, meter: Meter, attempts: Attempts, *, max_output_tokens: int) -> None:
        self._meter = meter
        self._attempts = attempts
        self._max_output_tokens = max_output_tokens

    def __call__(self, call: Call) -> contextlib.AbstractContextManager[Callable[[], Awaitable[None]]]:
        """See `chat.Admission`.

        Raises: TokenBudgetExceeded; Unavailable, DeadlineExceeded, Conflict: no store of budgets can be asked.
        """
        holding = self._meter.begin(
            model=call.model,
            prompt_tokens=input_tokens(call) + _TOKENS_A_MESSAGE * len(call.messages),
            output_tokens=call.max_output_tokens or self._max_output_tokens,
            run_id=call.run_id,
            bot=call.bot,
        )
        return _Admission(holding, self._attempts, call)


class _Admission:
    """One call's way in; see `chat.Admission`. A class, since a generator costs more than all that is done in it."""

    def __init__(self, holding: Holding, attempts: Attempts, call: Call) -> None:
        self._holding = holding
        self._attempts = attempts
        self._call = call

    def __enter__(self) -> Callable[[], Awaitable[None]]:
        holding = self._holding.__enter__()
        self._attempts.begin(self._call, holding)
        return holding.admitted

    def __exit__(self, *_: object) -> None:
        self._attempts.end(self._call)
        self._holding.end()


class Attempts:
    """Notes what each attempt at a provider has used; see `chat.Observer`.

    Args:
        inner: Sees everything too.
        clock: Seconds since the epoch.
    """

    def __init__(self, inner: Observer, clock: Callable[[], float] = time.time) -> None:
        self._inner = inner
        self._clock = clock
        # By identity: a call is as large as its prompt, and two may be equal.
        self._open: dict[int, Holding] = {}

    def begin(self, call: Call, holding: Holding) -> None:
        """Says what a call's attempts belong to, until `end`."""
        self._open[id(call)] = holding

    def end(self, call: Call) -> None:
        """Forgets a call."""
        del self._open[id(call)]

    def attempt(
        self, deployment: Deployment, call: Call, number: int
    ) -> contextlib.AbstractContextManager[Observation]:
        """See `chat.Observer.attempt`."""
        holding = self._open.get(id(call))
        inner = self._inner.attempt(deployment, call, number)
        return inner if holding is None else _Noted(inner, holding.call, deployment, self._clock)

    def pause(self, deployment: Deployment, failed: AttemptFailed, wait_s: float) -> None:
        """See `chat.Observer.pause`."""
        self._inner.pause(deployment, failed, wait_s)


class _Noted:
    """One attempt of which a row is made; see `chat.Observation`."""

    def __init__(
        self,
        inner: contextlib.AbstractContextManager[Observation],
        opened: OpenCall,
        deployment: Deployment,
        clock: Callable[[], float],
    ) -> None:
        self._inner = inner
        self._opened = opened
        self._clock = clock
        self._usage: Usage | None = None
        self._deployment = deployment

    def __enter__(self) -> Self:
        # Only now: it is made before the call is let in.
        opened, deployment = self._opened, self._deployment
        opened.provider, opened.model = deployment.provider, deployment.model
        opened.provider_name = provider_name(deployment.key)
        self._seen = self._inner.__enter__()
        self._started_at = self._clock()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool | None:
        self._opened.used.append(self._row(COMPLETED if error is None else _outcome(error)))
        return self._inner.__exit__(kind, error, trace)

    def first_delta(self) -> None:
        """See `chat.Observation.first_delta`."""
        self._seen.first_delta()

    def used(self, usage: Usage, finish_reason: str | None) -> None:
        """See `chat.Observation.used`."""
        self._usage = usage
        self._seen.used(usage, finish_reason)

    def _row(self, outcome: str) -> Used:
        opened, usage = self._opened, self._usage
        counts = usage.counts if usage is not None else None
        # A provider that was left before it said anything has read the prompt all the same; one that refused has not.
        heard = counts is None and outcome in _READ
        return Used(
            id=uuid7() if opened.used else opened.id,
            provider=opened.provider,
            model=opened.model,
            input_tokens=counts.input_tokens if counts is not None else opened.input_tokens * heard,
            output_tokens=counts.output_tokens if counts is not None else 0,
            cached_tokens=counts.cached_tokens if counts is not None else 0,
            reasoning_tokens=counts.reasoning_tokens if counts is not None else 0,
            cost_usd=cost(usage.cost_usd) if usage is not None else None if heard else 0.0,
            estimated=usage.estimated if usage is not None else heard,
            outcome=outcome,
            started_at=datetime.fromtimestamp(self._started_at, UTC),
            ended_at=datetime.fromtimestamp(self._clock(), UTC),
            provider_name=opened.provider_name,
        )


_READ = frozenset({CANCELLED, FirstTokenTimeout.reason.lower(), RunTimeout.reason.lower()})


def _outcome(error: BaseException) -> str:
    if isinstance(error, AttemptFailed):
        return error.error.code.lower()
    if isinstance(error, (asyncio.CancelledError, GeneratorExit)):
        return CANCELLED
    return str(getattr(error, "code", "internal")).lower()
