"""One call of a model: which deployment, how long to wait, when to try again, what was used."""

from __future__ import annotations

import asyncio
import contextlib
import random
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from services.gateway import rules
from services.gateway.domain import Ended, Finished, ListedModel, Reset, Started, Timeouts, ToolCallPiece, Usage
from services.gateway.failures import AttemptFailed, ProviderProtocolError, ProviderRateLimited, ProviderUnavailable
from services.gateway.passing import Passage
from services.gateway.routing.router import may_succeed_elsewhere
from services.gateway.tally import MAX_ANSWER_BYTES, Tally
from services.gateway.tool_calls import ToolCalls
from services.gateway.waits import Waits

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Awaitable, Callable, Generator, Sequence

    from services.gateway.domain import Call, Delta, Deployment, ProviderDelta, Registry, Request
    from services.gateway.passing import Offer
    from services.gateway.routing.router import Router

_COOLING = "cooling_down"


@dataclass(frozen=True)
class Policy:
    """How patient the gateway is.

    Attributes:
        timeouts: Where the deployment has none of its own; a call may shorten either.
        retries: Further rounds over the targets after the first, as long as no delta has been given out.
        backoff_s: Wait before the first of them; it doubles, and up to half of it is taken off at random.
        retry_after_max_s: A provider that asks for a longer wait than this is not waited for.
        max_output_tokens: Where the call says nothing.
    """

    timeouts: Timeouts
    retries: int = 2
    backoff_s: float = 0.5
    retry_after_max_s: float = 5.0
    max_output_tokens: int = 4096


class Observation(Protocol):
    """Watches one attempt at a provider."""

    def first_delta(self) -> None:
        """Notes that the first delta is here."""
        ...

    def used(self, usage: Usage, finish_reason: str | None) -> None:
        """Notes what was used; on an attempt that was left early `finish_reason` is None."""
        ...


class Observer(Protocol):
    """Sees every attempt at a provider, and every pause between two."""

    def attempt(
        self, deployment: Deployment, call: Call, number: int
    ) -> contextlib.AbstractContextManager[Observation]:
        """Surrounds one attempt, the first being number 0; what is raised within passes through."""
        ...

    def pause(self, deployment: Deployment, failed: AttemptFailed, wait_s: float) -> None:
        """Notes that there will be another attempt, here or, without a wait, elsewhere."""
        ...


class Admission(Protocol):
    """Decides who may call."""

    def __call__(self, call: Call, /) -> contextlib.AbstractContextManager[Callable[[], Awaitable[None]]]:
        """Surrounds one call, and begins to find out on entry; what it gives is awaited before each attempt and returns once that is let in.

        Raises: what it refuses a call with, when that is awaited.
        """
        ...


@contextlib.contextmanager
def everybody(_call: Call) -> Generator[Callable[[], Awaitable[None]], None, None]:
    """Lets every call in."""

    async def at_once() -> None:
        pass

    yield at_once


class Chat:
    """Calls models.

    Args:
        registry: Names to routes.
        router: Orders a route's targets.
        observer: Sees what happens.
        policy: How patient to be.
        admission: Who may call.
        jitter: Random number in 0-1.
    """

    def __init__(
        self,
        registry: Registry,
        router: Router,
        observer: Observer,
        policy: Policy,
        *,
        admission: Admission = everybody,
        jitter: Callable[[], float] = random.random,
    ) -> None:
        self._registry = registry
        self._router = router
        self._observer = observer
        self._policy = policy
        self._admission = admission
        self._jitter = jitter

    def models(self) -> Sequence[ListedModel]:
        """Returns what a call may name: aliases first, then models, each by name."""
        return self._registry.listed()

    def model(self, name: str) -> ListedModel:
        """Returns what would answer a call of this name, listed or not.

        Raises: ModelNotFound, NoProviderConfigured; Unavailable: the gateway is still starting.
        """
        first = self._registry.resolve(name).ranks[0][0].deployment
        listed = {model.name: model for model in self._registry.listed()}
        default = next((model for model in listed.values() if model.default), None) if not name else None
        found = default or listed.get(name) or listed.get(first.key.rpartition("#")[0])
        return found or ListedModel(name, first.provider, first.model, alias=False, default=False, limits=first.limits)

    async def stream(self, call: Call, offer: Offer | None = None) -> AsyncGenerator[Sequence[Delta], None]:
        """Answers a call: by the first target that does, all of them again after a pause where that may help.

        Once something has been given out only a call with `allow_reset` is answered by another target, after Reset and with Started again.

        Args:
            call: What is asked.
            offer: Sends the caller deltas in the middle of an answer at the moment they arrive; see `passing`. None: all are given out here.

        Yields: what has arrived since the last time: Started first, Finished last and once.
        Raises: InvalidArgument, ModelNotFound, NoProviderConfigured, ContextTooLong, RequestRejected, ProviderRateLimited, ProviderUnavailable,
            FirstTokenTimeout, StreamStalled, RunTimeout, ProviderAuthFailed, ProviderProtocolError.
        """
        rules.check(call)
        left, alone = self._router.order(self._registry.resolve(call.model))
        with self._admission(call) as admitted:
            failures, given = _Failures(), False
            with Waits() as waits:
                # Made ready while the call is being let in; not a byte of it leaves before.
                attempt = self._attempt(left[0], call, waits, number=0, offer=offer)
                await admitted()
                waits.start()
                while True:
                    deployment = left.pop(0)
                    waits.attempt(self._timeouts(deployment, call), len(left))
                    first = True
                    try:
                        self._heed(deployment, alone=alone)
                        asked_at = time.monotonic()
                        try:
                            async for deltas in attempt:
                                if first:
                                    self._router.answers(deployment, asked_at)
                                yield [Reset(), *deltas] if given and first else deltas
                                given, first = True, False
                        finally:
                            await attempt.aclose()
                    except AttemptFailed as failed:
                        if failed.cause != _COOLING:
                            self._router.failed(deployment, failed)
                        failures.add(deployment, failed)
                        if given and not call.allow_reset:
                            raise failed.given_up() from None
                        left, wait_s = self._next(failed, left, failures, waits, given=given)
                        self._observer.pause(deployment, failed, wait_s)
                        await asyncio.sleep(wait_s)
                        await admitted()
                        attempt = self._attempt(left[0], call, waits, number=failures.count, offer=offer)
                    else:
                        self._router.succeeded(deployment)
                        return

    def _attempt(
        self, deployment: Deployment, call: Call, waits: Waits, *, number: int, offer: Offer | None
    ) -> AsyncGenerator[Sequence[Delta], None]:
        """Makes an attempt ready; nothing is sent, timed or noted before it is asked for its first deltas."""
        tally = Tally(call)
        take = Passage(offer, waits, tally).take if offer is not None else None
        answer = self._prepare(deployment, call)(take)
        observed = self._observer.attempt(deployment, call, number)
        return self._deltas(deployment, answer, observed, waits, tally=tally, calls=ToolCalls(call))

    async def _deltas(
        self,
        deployment: Deployment,
        answer: AsyncGenerator[Sequence[ProviderDelta], None],
        observed: contextlib.AbstractContextManager[Observation],
        waits: Waits,
        *,
        tally: Tally,
        calls: ToolCalls,
    ) -> AsyncGenerator[Sequence[Delta], None]:
        """Asks a deployment, and yields what it answers."""
        with observed as seen:
            try:
                try:
                    while (deltas := await waits.next(answer)) is not None:
                        out: list[Delta] = []
                        if not waits.begun:
                            waits.begin()
                            seen.first_delta()
                            out.append(Started(deployment.provider, deployment.model))
                        for delta in deltas:
                            if type(delta) is Ended:
                                lacking, reason = calls.end(delta.reason)
                                finished = Finished(reason, tally.settle(delta.counts, deployment))
                                seen.used(finished.usage, finished.reason)
                                out += [*lacking, finished]
                            else:
                                tally.add(delta)  # type: ignore[arg-type]
                                if tally.written_bytes > MAX_ANSWER_BYTES:
                                    raise AttemptFailed(_too_long(), retryable=False, cause="answer_too_long")
                                piece = calls.take(delta) if type(delta) is ToolCallPiece else delta
                                if piece is not None:
                                    out.append(piece)  # type: ignore[arg-type]
                        if out:
                            yield out
                finally:
                    await answer.aclose()
            finally:
                if waits.begun and not tally.settled:
                    seen.used(tally.settle(None, deployment), None)
            if not tally.settled:
                raise AttemptFailed(_broken_off(), retryable=not waits.begun, cause="cut_off")

    def _prepare(self, deployment: Deployment, call: Call) -> Request:
        wanted = call.max_output_tokens or self._policy.max_output_tokens
        return deployment.prepare(call, max_output_tokens=min(wanted, deployment.limits.max_output_tokens or wanted))

    def _timeouts(self, deployment: Deployment, call: Call) -> Timeouts:
        return deployment.timeouts.before(self._policy.timeouts).shortened(call.timeouts)

    def _next(
        self, failed: AttemptFailed, left: list[Deployment], failures: _Failures, waits: Waits, *, given: bool
    ) -> tuple[list[Deployment], float]:
        """Returns whom to ask next, after how many seconds. Raises: ParleyError: nobody."""
        wait_s: float | None = 0.0 if left and may_succeed_elsewhere(failed) else None
        if wait_s is None and not given:
            left, wait_s = self._again(failures, waits)
        if wait_s is None:
            raise failed.given_up() from None
        if given:
            waits.anew()
        return left, wait_s

    def _heed(self, deployment: Deployment, *, alone: bool) -> None:
        """Asks nobody who wants to be left alone. Raises: AttemptFailed."""
        if wait_s := self._router.refusal_s(deployment, alone=alone):
            error = _asked_to_wait(deployment, wait_s)
            raise AttemptFailed(error, retryable=True, cause=_COOLING, retry_after_s=wait_s)

    def _again(self, failures: _Failures, waits: Waits) -> tuple[list[Deployment], float | None]:
        """Returns whom to ask once more, after how many seconds; None when there is to be no other round."""
        again, asked_s = failures.worth_another(self._policy.retry_after_max_s)
        if not again or failures.rounds > self._policy.retries:
            return [], None
        wait_s = self._policy.backoff_s * 2 ** (failures.rounds - 1) * (1 - self._jitter() / 2)
        # Those who are told the same moment do not all come at it.
        wait_s = max(wait_s, asked_s * (1 + self._jitter() / 4))
        return again, wait_s if waits.allows(wait_s) else None


class _Failures:
    """How the targets of a call have failed, round by round.

    Attributes:
        count: Of failures.
        rounds: That are over.
    """

    def __init__(self) -> None:
        self.count = 0
        self.rounds = 0
        # Not the failures themselves: they hold where they were raised, and so would hold this, and the call, until the garbage collector comes by.
        self._worth: list[tuple[Deployment, float]] = []

    def add(self, deployment: Deployment, failure: AttemptFailed) -> None:
        """Notes a failure."""
        self.count += 1
        if failure.retryable:
            self._worth.append((deployment, failure.retry_after_s or 0.0))

    def worth_another(self, longest_s: float) -> tuple[list[Deployment], float]:
        """Ends a round: returns whom another attempt may help, and the shortest wait one of them asked for, none longer than `longest_s`."""
        waits = sorted((one for one in self._worth if one[1] <= longest_s), key=lambda one: one[1])
        self.rounds += 1
        self._worth.clear()
        return [deployment for deployment, _ in waits], waits[0][1] if waits else 0.0


def _too_long() -> ProviderProtocolError:
    return ProviderProtocolError("The model's answer is longer than an answer may be.")


def _broken_off() -> ProviderUnavailable:
    return ProviderUnavailable("The model's answer was cut off; try again.")


def _asked_to_wait(deployment: Deployment, wait_s: float) -> ProviderRateLimited:
    return ProviderRateLimited(
        "The model provider is receiving too many requests; try again later.",
        retry_after_s=wait_s,
        provider=deployment.provider,
        model=deployment.model,
    )
