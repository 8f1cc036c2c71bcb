"""The service's use cases: start a run, watch it, stop it, look at it, and leave in order."""

from __future__ import annotations

import asyncio
import contextlib
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

import structlog

from runtime import telemetry, validation
from runtime.context import Identity
from services.chat import metrics, prompt
from services.chat.delegation import Credential
from services.chat.domain import (
    CLIENT_MESSAGE_ID_MAX_CHARS,
    MODEL_MAX_CHARS,
    CursorAhead,
    Draining,
    RunNotFound,
    RunStatus,
    TooManyRuns,
    TooManyWatchers,
)
from services.chat.follow import Elsewhere
from services.chat.models import Models
from services.chat.ports import NewRun
from services.chat.turn import Pace, Turn

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Iterator

    from opentelemetry.trace import Span

    from services.chat.asking import Gateway
    from services.chat.domain import Event, Run
    from services.chat.ports import Auth, Data, Signals, Tail

log = structlog.stdlib.get_logger()

_SEQ_MAX = 2**63 - 1
_LAST_WORDS_S = 3.0
"""Part of the drain that is kept for storing what has to be cut off."""


@dataclass(frozen=True, slots=True)
class Caller:
    """Who asks, and with what.

    Attributes:
        identity: Who.
        token: Their access token.
        request_id: Id of the request.
    """

    identity: Identity
    token: str
    request_id: str


@dataclass(frozen=True, slots=True)
class Ask:
    """What a run is started with; empty texts where nothing was given."""

    conversation_id: str
    message: str
    client_message_id: str
    model: str


@dataclass(frozen=True, slots=True)
class Rules:
    """What this instance does and how much of it.

    Attributes:
        owner: Name of this process; no other has it or ever had.
        system_prompt: Instructions before every conversation; empty: none.
        message_max_chars: Longest message of a user.
        history_max_messages: Most messages of history a model is sent.
        history_max_tokens: Most tokens of it, whatever the model takes.
        max_live_runs: Most runs at once.
        max_watchers: Most streams at once.
        pace: How often and how long.
    """

    owner: str
    system_prompt: str
    message_max_chars: int
    history_max_messages: int
    history_max_tokens: int
    max_live_runs: int
    max_watchers: int
    pace: Pace


class Runs:
    """The runs of this instance, and the way to those of others.

    Args:
        data: Keeps what was said.
        gateway: Talks to models.
        auth: Gives out tokens.
        tail: Live logs, for other instances.
        signals: Word to other instances.
        rules: What and how much.
        clock: Seconds since the epoch.
    """

    def __init__(
        self,
        *,
        data: Data,
        gateway: Gateway,
        auth: Auth,
        tail: Tail,
        signals: Signals,
        rules: Rules,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._data = data
        self._gateway = gateway
        self._auth = auth
        self._tail = tail
        self._rules = rules
        self._models = Models(gateway, time.monotonic)
        self._elsewhere = Elsewhere(data, tail, signals, clock, lapsed_for_s=rules.pace.lapsed_for_s)
        self._live: dict[str, Turn] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._watchers = 0
        self._draining = False

    async def start(self, ask: Ask, caller: Caller) -> AsyncGenerator[tuple[str, list[Event]], None]:
        """Starts a run, or finds the one this is a resend of, and streams it from its first event to its last.

        The run is a task of its own from the moment it is stored: whoever asked may go.

        Yields: the run's id and at least one event.
        Raises: InvalidArgument; UnknownModel; ConversationNotFound and ClientMessageIdReused as data raises them; Draining; TooManyRuns;
            TooManyWatchers; Unavailable.
        """
        started_at = time.perf_counter()
        self._check(ask)
        if self._draining:
            raise Draining
        if len(self._tasks) >= self._rules.max_live_runs:
            raise TooManyRuns
        model = await self._models.find(ask.model, token=caller.token)
        system = self._rules.system_prompt
        budget = prompt.history_budget(model, system=system, content=ask.message, most=self._rules.history_max_tokens)
        new = NewRun(
            conversation_id=ask.conversation_id,
            client_message_id=ask.client_message_id,
            content=ask.message,
            model=ask.model,
            owner=self._rules.owner,
            lease_s=self._rules.pace.lease_s,
            history_max_messages=self._rules.history_max_messages,
            history_max_tokens=budget,
        )
        begun: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        # The place first: a run must not begin for somebody who is then refused its stream.
        with self._place():
            task = asyncio.create_task(
                self._run(new, caller, begun, label=model.name if model is not None else "other", started_at=started_at)
            )
            self._tasks.add(task)
            metrics.RUNS_ACTIVE.set(len(self._tasks))
            task.add_done_callback(self._forget)
            run_id = await asyncio.shield(begun)
            async with contextlib.aclosing(await self._batches(run_id, 0, caller)) as batches:
                async for events in batches:
                    yield run_id, events

    async def watch(self, run_id: str, after_seq: int, caller: Caller) -> AsyncGenerator[tuple[str, list[Event]], None]:
        """Replays a run after a position, then follows it to its end.

        Yields: the run's id and at least one event, in order.
        Raises: InvalidArgument; RunNotFound; CursorAhead; TooManyWatchers.
        """
        run_id = validation.identifier("run_id", run_id)
        validation.number("after_seq", after_seq, minimum=0, maximum=_SEQ_MAX)
        with self._place():
            async with contextlib.aclosing(await self._batches(run_id, after_seq, caller)) as batches:
                async for events in batches:
                    yield run_id, events

    async def cancel(self, run_id: str, caller: Caller) -> Run:
        """Stops a run wherever it is live and keeps what had been written; an ended one is left as it is.

        Returns: the run, once its upstream is closed and its end is in the log.
        Raises: InvalidArgument; RunNotFound; NotStopped; Unavailable.
        """
        run_id = validation.identifier("run_id", run_id)
        turn = self._own(run_id, caller.identity)
        if turn is None:
            stored = await self._data.get_run(run_id, token=caller.token)
            # It may have begun here while we looked.
            turn = self._own(run_id, caller.identity)
            if turn is None:
                return await self._elsewhere.cancel(stored, token=caller.token)
        turn.stop(RunStatus.CANCELLED)
        await turn.over()
        return turn.run

    def cancel_own(self, run_id: str) -> None:
        """Stops a run of this instance; another instance asks, and has checked whose it is."""
        turn = self._live.get(run_id)
        if turn is not None:
            turn.stop(RunStatus.CANCELLED)

    async def get(self, run_id: str, caller: Caller) -> Run:
        """Returns a run as it stands.

        Raises: InvalidArgument; RunNotFound.
        """
        run_id = validation.identifier("run_id", run_id)
        turn = self._own(run_id, caller.identity)
        if turn is not None:
            return turn.run
        return (await self._data.get_run(run_id, token=caller.token)).run

    async def drain(self, grace_s: float) -> None:
        """Takes no new runs, waits for those there are, and cuts off those that take too long, keeping what they have written.

        Args:
            grace_s: How long all of this may take.
        """
        self._draining = True
        last_words_s = min(_LAST_WORDS_S, grace_s / 2)
        if not await self._wait_for_all(grace_s - last_words_s):
            log.warning("runs_cut_off", count=len(self._live))
            for turn in list(self._live.values()):
                turn.stop(RunStatus.INTERRUPTED)
            if not await self._wait_for_all(last_words_s):
                log.error("runs_not_stored", count=len(self._tasks))

    @contextlib.contextmanager
    def _place(self) -> Iterator[None]:
        """Holds a watcher's place for the length of the block.

        Raises: TooManyWatchers: there is none.
        """
        if self._watchers >= self._rules.max_watchers:
            raise TooManyWatchers
        self._watchers += 1
        metrics.WATCHERS.set(self._watchers)
        try:
            yield
        finally:
            self._watchers -= 1
            metrics.WATCHERS.set(self._watchers)

    async def _run(
        self, new: NewRun, caller: Caller, begun: asyncio.Future[str], *, label: str, started_at: float
    ) -> None:
        attributes = {"gen_ai.operation.name": "invoke_agent", "gen_ai.request.model": new.model or "default"}
        with telemetry.span("invoke_agent", attributes=attributes) as span:
            try:
                turn = await self._begin(new, caller, begun, span, label=label, started_at=started_at)
            except Exception as error:  # noqa: BLE001 - told to the caller, who awaits it and raises it
                telemetry.fail(span, type(error).__qualname__)
                begun.set_exception(error)
                begun.exception()  # the caller may have gone: then nobody else takes it
                return
            finally:
                if not begun.done():
                    begun.cancel()
            if turn is not None:
                try:
                    await turn.live()
                finally:
                    self._live.pop(turn.run.id, None)

    async def _begin(
        self, new: NewRun, caller: Caller, begun: asyncio.Future[str], span: Span, *, label: str, started_at: float
    ) -> Turn | None:
        """Begins a run; None when it had been begun before."""
        found = await self._data.begin_run(new, token=caller.token)
        span.add_event("begin_run_done")
        span.set_attributes({"gen_ai.conversation.id": found.run.conversation_id, "parley.run.id": found.run.id})
        turn = None
        if not found.existing:
            turn = Turn(
                found,
                prompt.Prompt(self._rules.system_prompt, found.history, new.content),
                caller=caller.identity,
                credential=Credential(self._auth, caller.token, expires_at=caller.identity.expires_at),
                data=self._data,
                gateway=self._gateway,
                pace=self._rules.pace,
                label=label,
                request_id=caller.request_id,
                started_at=started_at,
                span=span,
            )
            turn.begin()
            self._live[turn.run.id] = turn
            self._tail.keep(caller.identity.org_id, turn.run.id, turn.log, fence=turn.fence)
        begun.set_result(found.run.id)
        return turn

    async def _batches(self, run_id: str, seq: int, caller: Caller) -> AsyncGenerator[list[Event], None]:
        turn = self._own(run_id, caller.identity)
        if turn is None:
            stored = await self._data.get_run(run_id, token=caller.token)
            turn = self._own(run_id, caller.identity)
            if turn is None:
                return self._elsewhere.follow(
                    stored, seq, caller=caller.identity, token=caller.token, request_id=caller.request_id
                )
        if seq > turn.log.last_seq:
            raise CursorAhead
        return turn.log.follow(seq)

    def _own(self, run_id: str, identity: Identity) -> Turn | None:
        """Returns a run that is live here.

        Raises: RunNotFound: it is somebody else's.
        """
        turn = self._live.get(run_id)
        if turn is not None and (turn.caller.org_id, turn.caller.user_id) != (identity.org_id, identity.user_id):
            raise RunNotFound
        return turn

    def _check(self, ask: Ask) -> None:
        if ask.conversation_id:
            validation.identifier("conversation_id", ask.conversation_id)
        validation.text("message", ask.message, min_chars=1, max_chars=self._rules.message_max_chars)
        if ask.message.isspace():
            raise validation.invalid("message", "must not be white space alone.")
        validation.text("client_message_id", ask.client_message_id, max_chars=CLIENT_MESSAGE_ID_MAX_CHARS)
        validation.text("model", ask.model, max_chars=MODEL_MAX_CHARS)

    async def _wait_for_all(self, timeout_s: float) -> bool:
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=timeout_s)
        return not self._tasks

    def _forget(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        metrics.RUNS_ACTIVE.set(len(self._tasks))
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("unforeseen_error", exc_info=error)
