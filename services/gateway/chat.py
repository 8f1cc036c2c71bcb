"""One call of a model: which deployment, how long to wait, when to try again, what was used."""

from __future__ import annotations

import asyncio
import contextlib
import random
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from services.gateway import rules
from services.gateway.domain import (
    AttemptFailed,
    Counts,
    Ended,
    Finished,
    FirstTokenTimeout,
    ProviderProtocolError,
    ProviderUnavailable,
    RunTimeout,
    Started,
    StreamStalled,
    Timeouts,
    ToolCallPiece,
    Usage,
)
from services.gateway.tool_calls import ToolCalls

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, Callable, Sequence

    from services.gateway.domain import (
        Call,
        Delta,
        Deployment,
        ListedModel,
        Piece,
        ProviderDelta,
        Registry,
    )

# Across languages a token is about four bytes of UTF-8: four English letters, or one Chinese character and a third.
_BYTES_PER_TOKEN = 4
MAX_ANSWER_BYTES = 2 * 1024 * 1024
"""Longest answer: text, reasoning and arguments of tool calls together, as UTF-8; no model writes as much, a faulty provider may."""


@dataclass(frozen=True)
class Policy:
    """How patient the gateway is.

    Attributes:
        timeouts: Where the deployment has none of its own; a call may shorten either.
        retries: Further attempts after the first, as long as no delta has been given out.
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
        """Notes that there will be another attempt."""
        ...


class Chat:
    """Calls models.

    Args:
        registry: Names to deployments.
        observer: Sees what happens.
        policy: How patient to be.
        jitter: Random number in 0-1.
    """

    def __init__(
        self,
        registry: Registry,
        observer: Observer,
        policy: Policy,
        *,
        jitter: Callable[[], float] = random.random,
    ) -> None:
        self._registry = registry
        self._observer = observer
        self._policy = policy
        self._jitter = jitter

    def models(self) -> Sequence[ListedModel]:
        """Returns what a call may name: aliases first, then models, each by name."""
        return self._registry.listed()

    async def stream(self, call: Call) -> AsyncGenerator[Sequence[Delta], None]:
        """Answers a call, trying again while nothing has been given out and trying again may help.

        Yields: what has arrived since the last time: Started first, Finished last, both exactly once.
        Raises: InvalidArgument, ModelNotFound, NoProviderConfigured, ContextTooLong, RequestRejected, ProviderRateLimited, ProviderUnavailable,
            FirstTokenTimeout, StreamStalled, RunTimeout, ProviderAuthFailed, ProviderProtocolError.
        """
        rules.check(call)
        deployment = self._registry.resolve(call.model)
        waits = _Waits(deployment.timeouts.before(self._policy.timeouts).shortened(call.timeouts))
        number = 0
        while True:
            started = False
            try:
                async with contextlib.aclosing(self._attempt(deployment, call, waits, number)) as batches:
                    async for deltas in batches:
                        started = True
                        yield deltas
            except AttemptFailed as failed:
                wait_s = None if started else self._pause(failed, number, waits)
                if wait_s is None:
                    raise failed.error from None
                self._observer.pause(deployment, failed, wait_s)
                await asyncio.sleep(wait_s)
                number += 1
            else:
                return

    async def _attempt(
        self, deployment: Deployment, call: Call, waits: _Waits, number: int
    ) -> AsyncGenerator[Sequence[Delta], None]:
        tally, calls = _Tally(call), ToolCalls(call)
        limit = self._output_limit(call, deployment)
        with self._observer.attempt(deployment, call, number) as seen:
            try:
                async with contextlib.aclosing(deployment.stream(call, max_output_tokens=limit)) as batches:
                    while (deltas := await waits.next(batches)) is not None:
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
                if waits.begun and not tally.settled:
                    seen.used(tally.settle(None, deployment), None)
            if not tally.settled:
                raise AttemptFailed(_broken_off(), retryable=not waits.begun, cause="cut_off")

    def _output_limit(self, call: Call, deployment: Deployment) -> int:
        wanted = call.max_output_tokens or self._policy.max_output_tokens
        return min(wanted, deployment.limits.max_output_tokens or wanted)

    def _pause(self, failed: AttemptFailed, number: int, waits: _Waits) -> float | None:
        """Returns the seconds to wait before the next attempt, or None when there is to be none."""
        if not failed.retryable or number >= self._policy.retries:
            return None
        wait_s = self._policy.backoff_s * 2**number * (1 - self._jitter() / 2)
        asked_s = failed.retry_after_s
        if asked_s is not None:
            if asked_s > self._policy.retry_after_max_s:
                return None
            wait_s = max(wait_s, asked_s)
        return wait_s if waits.allows(wait_s) else None


class _Waits:
    """The three deadlines of one call."""

    def __init__(self, timeouts: Timeouts) -> None:
        self._clock = asyncio.get_running_loop().time
        self._gap_s = timeouts.gap_s
        now = self._clock()
        self._first = now + timeouts.first_token_s
        self._total = now + timeouts.total_s
        self.begun = False

    def begin(self) -> None:
        """Notes that the first delta is here."""
        self.begun = True

    def allows(self, wait_s: float) -> bool:
        """Tells whether a pause leaves time for another attempt."""
        return self._clock() + wait_s < min(self._first, self._total)

    async def next(self, batches: AsyncIterator[Sequence[ProviderDelta]]) -> Sequence[ProviderDelta] | None:
        """Returns the next batch, or None at the end.

        Only the wait for the provider counts: a caller that reads slowly does not make the provider late.

        Raises: FirstTokenTimeout, StreamStalled, RunTimeout.
        """
        due = self._clock() + self._gap_s if self.begun else self._first
        try:
            async with asyncio.timeout_at(min(due, self._total)):
                return await anext(batches, None)
        except TimeoutError:
            raise self._late() from None

    def _late(self) -> FirstTokenTimeout | StreamStalled | RunTimeout:
        if self._clock() >= self._total:
            return RunTimeout("The answer took longer than it may.")
        if not self.begun:
            return FirstTokenTimeout("The model did not begin to answer in time.")
        return StreamStalled("The model stopped in the middle of its answer.")


class _Tally:
    """Counts what goes in and out, for providers that do not say."""

    def __init__(self, call: Call) -> None:
        self._call = call
        self.written_bytes = 0
        self.settled = False

    def add(self, piece: Piece) -> None:
        self.written_bytes += len((piece.arguments if type(piece) is ToolCallPiece else piece.text).encode())  # type: ignore[union-attr]

    def settle(self, counts: Counts | None, deployment: Deployment) -> Usage:
        """Returns the usage as reported, or as estimated."""
        self.settled = True
        estimated = counts is None
        if counts is None:
            counts = Counts(_estimate(_sent_bytes(self._call)), _estimate(self.written_bytes))
        cost = counts.cost_usd if counts.cost_usd is not None else deployment.price(counts)
        return Usage(counts, cost, estimated)


def _sent_bytes(call: Call) -> int:
    texts = [message.text for message in call.messages]
    texts += [f"{c.name}{c.arguments_json}" for message in call.messages for c in message.tool_calls]
    texts += [f"{tool.name}{tool.description}{tool.parameters_json}" for tool in call.tools]
    return sum(len(text.encode()) for text in texts)


def _estimate(size_bytes: int) -> int:
    return -(-size_bytes // _BYTES_PER_TOKEN)


def _too_long() -> ProviderProtocolError:
    return ProviderProtocolError("The model's answer is longer than an answer may be.")


def _broken_off() -> ProviderUnavailable:
    return ProviderUnavailable("The model's answer was cut off; try again.")
