"""The service's use cases: start a run or queue one, watch it, stop it, look at it, and leave in order."""

from __future__ import annotations

import asyncio
import contextlib
import time
from typing import TYPE_CHECKING, Any

import structlog

from runtime import telemetry, validation
from runtime.errors import DeadlineExceeded, Unavailable
from services.chat import asks, metrics
from services.chat.delegation import Credential
from services.chat.domain import Draining, RunStatus, TooManyRuns, TooManyWatchers
from services.chat.ports import NewRun

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Coroutine

    from opentelemetry.trace import Span

    from services.chat.asking import Model
    from services.chat.asks import Ask
    from services.chat.caller import Caller
    from services.chat.domain import Event, Run
    from services.chat.follow import Follow
    from services.chat.host import Host
    from services.chat.log import Following, Tap
    from services.chat.ports import Auth, Begun, Data, Signals
    from services.chat.rules import Rules
    from services.chat.turn import Turn

log = structlog.stdlib.get_logger()

_SEQ_MAX = 2**63 - 1
_TURNS_TO_ASK = 2
"""Of the event loop, in which a model is asked: its call is made, and on a busy connection written. Only then is told who has to know of the run."""
_LAST_WORDS_S = 3.0
"""Part of the drain that is kept for handing over what has not ended by then."""


class DataAway(Unavailable):
    """Nothing can be stored, so nothing new begins."""

    def __init__(self) -> None:
        super().__init__("New messages cannot be stored just now; try again in a moment.", retry_after_s=2)


class Runs:
    """The runs of this instance, and the way to those of others.

    Args:
        data: Keeps what was said.
        auth: Gives out tokens.
        signals: Word to other instances.
        host: Owns the runs that are live here.
        follow: Events of any run.
        rules: What and how much.
        queued: Called when there is something new in the queue.
        ended: Called when a run has ended here.
    """

    def __init__(
        self,
        *,
        data: Data,
        auth: Auth,
        signals: Signals,
        host: Host,
        follow: Follow,
        rules: Rules,
        queued: Callable[[], None],
        ended: Callable[[], None],
    ) -> None:
        self._data = data
        self._auth = auth
        self._signals = signals
        self._host = host
        self._follow = follow
        self._rules = rules
        self._queued = queued
        self._ended = ended
        self._started = 0
        self._watchers = 0
        self._beside: set[asyncio.Task[None]] = set()
        self.draining = False
        """Nothing new begins here."""

    async def start(self, ask: Ask, caller: Caller, tap: Tap | None = None) -> Watching:
        """Starts a run, or finds the one this is a resend of, to be watched from its first event to its last.

        The run is a task of its own from the moment it is stored: whoever asked may go.

        Raises: InvalidArgument; UnknownModel; what data refuses a run with; Draining; TooManyRuns; TooManyWatchers; RunMoved; Unavailable.
        """
        started_at = time.perf_counter()
        asks.check(ask, message_max_chars=self._rules.message_max_chars)
        if self.draining:
            raise Draining
        if self._started >= self._rules.max_live_runs:
            raise TooManyRuns
        model = await self._host.models.find(ask.model, token=caller.token)
        begun: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        # The place first: a run must not begin for somebody who is then refused its stream.
        self.count_watchers(1)
        try:
            self._started += 1
            self._host.spawn(self._run(ask, caller, begun, model, started_at), done=self._forget)
            run_id = await begun
            found = await self._follow.find(run_id, caller)
            return Watching(self, run_id, self._follow.events(found, 0, caller, tap=tap))
        except BaseException:
            self.count_watchers(-1)
            raise

    async def submit(self, ask: Ask, caller: Caller) -> Run:
        """Stores a run for any instance to take from the queue, or finds the one this is a resend of.

        Raises: InvalidArgument; UnknownModel; what data refuses a run with; Draining; Unavailable.
        """
        asks.check(ask, message_max_chars=self._rules.message_max_chars)
        if self.draining:
            raise Draining
        model = await self._host.models.find(ask.model, token=caller.token)
        begun = await self._store(self._new(ask, model, background=True), caller)
        self._tell(begun, caller)
        return begun.run

    async def watch(self, run_id: str, after_seq: int, caller: Caller, tap: Tap | None = None) -> Watching:
        """Finds a run, to be watched after a position and to its end.

        Raises: InvalidArgument; RunNotFound; CursorAhead; TooManyWatchers; Draining; RunMoved; Unavailable.
        """
        run_id = validation.identifier("run_id", run_id)
        validation.number("after_seq", after_seq, minimum=0, maximum=_SEQ_MAX)
        self.count_watchers(1)
        try:
            found = await self._follow.find(run_id, caller)
            return Watching(self, run_id, self._follow.events(found, after_seq, caller, tap=tap))
        except BaseException:
            self.count_watchers(-1)
            raise

    async def cancel(self, run_id: str, caller: Caller) -> Run:
        """Stops a run wherever it is and keeps what had been written; an ended one is left as it is.

        Returns: the run, once its upstream is closed and its end is in the log.
        Raises: InvalidArgument; RunNotFound; NotStopped; Unavailable.
        """
        return await self._follow.cancel(validation.identifier("run_id", run_id), caller)

    def cancel_own(self, run_id: str) -> None:
        """Stops a run of this instance; another instance asks, and has checked whose it is."""
        turn = self._host.live.get(run_id)
        if turn is not None:
            turn.stop(RunStatus.CANCELLED)

    async def get(self, run_id: str, caller: Caller) -> Run:
        """Returns a run as it stands.

        Raises: InvalidArgument; RunNotFound; Unavailable.
        """
        return (await self._follow.find(validation.identifier("run_id", run_id), caller)).run

    async def drain(self, grace_s: float) -> None:
        """Takes no new runs, waits for those there are, and hands over those that take too long.

        Args:
            grace_s: How long all of this may take.
        """
        self.draining = True
        self._follow.drain()
        last_words_s = min(_LAST_WORDS_S, grace_s / 2)
        if not await self._host.wait_for_all(grace_s - last_words_s):
            give_up_at = time.monotonic() + last_words_s
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(last_words_s):
                    count = await self._host.hand_over()
                    log.info("runs_handed_over", count=count)
                    await self._signals.tell_queued()
            if not await self._host.wait_for_all(give_up_at - time.monotonic()):
                log.error("runs_left_behind", count=len(self._host.tasks))

    def place(self) -> _Place:
        """Holds a watcher's place for the length of the block.

        Raises: TooManyWatchers: there is none.
        """
        return _Place(self)

    def count_watchers(self, change: int) -> None:
        """Takes note that watchers have come or gone.

        Raises: TooManyWatchers: there is no place for one that comes.
        """
        if change > 0 and self._watchers >= self._rules.max_watchers:
            raise TooManyWatchers
        self._watchers += change
        metrics.WATCHERS.set(self._watchers)

    async def _run(
        self, ask: Ask, caller: Caller, begun: asyncio.Future[str], model: Model | None, started_at: float
    ) -> None:
        attributes = {"gen_ai.operation.name": "invoke_agent", "gen_ai.request.model": ask.model or "default"}
        with telemetry.span("invoke_agent", attributes=attributes) as span:
            try:
                turn = await self._begin(ask, caller, begun, model, span=span, started_at=started_at)
            except Exception as error:  # noqa: BLE001 - told to the caller, who awaits it and raises it
                telemetry.fail(span, type(error).__qualname__)
                if not begun.done():  # otherwise the caller has gone
                    begun.set_exception(error)
                    begun.exception()  # the caller may go just now: then nobody else takes it
                return
            finally:
                if not begun.done():
                    begun.cancel()
            del ask, begun
            if turn is not None:
                await self._host.bring_to_end(turn)

    async def _begin(
        self,
        ask: Ask,
        caller: Caller,
        begun: asyncio.Future[str],
        model: Model | None,
        *,
        span: Span,
        started_at: float,
    ) -> Turn | None:
        """Begins a run; None when it had been begun before, or waits in the queue."""
        found = await self._store(self._new(ask, model), caller)
        span.add_event("begin_run_done")
        span.set_attributes({"gen_ai.conversation.id": found.run.conversation_id, "parley.run.id": found.run.id})
        turn = None
        if not found.existing and found.run.status is RunStatus.RUNNING:
            turn = self._host.begin(
                found,
                caller=caller.identity,
                credential=Credential(self._auth, caller.token, expires_at=caller.identity.expires_at),
                model=model,
                request_id=caller.request_id,
                span=span,
                started_at=started_at,
            )
            for _ in range(_TURNS_TO_ASK):
                await asyncio.sleep(0)
            self._host.keep(turn)
        if not begun.done():  # otherwise the caller has gone
            begun.set_result(found.run.id)
        self._tell(found, caller)
        return turn

    def _new(self, ask: Ask, model: Model | None, *, background: bool = False) -> NewRun:
        return NewRun(
            conversation_id=ask.conversation_id,
            client_message_id=ask.client_message_id,
            content=ask.message,
            model=ask.model,
            owner=self._rules.owner,
            lease_s=self._rules.pace.lease_s,
            history_max_messages=self._rules.history_max_messages,
            history_max_tokens=self._host.history_tokens(model, ask.message),
            background=background,
            max_tries=self._rules.background_tries if background else 1,
            on_conflict=ask.on_conflict,
            limits=self._rules.limits,
            request_limits=self._rules.request_limits,
            branch=ask.branch,
        )

    async def _store(self, new: NewRun, caller: Caller) -> Begun:
        """Raises: what data refuses a run with; DataAway: it does not answer in time, or cannot be reached."""
        try:
            return await self._data.begin_run(new, token=caller.token)
        except DeadlineExceeded:
            raise DataAway from None
        except Unavailable as error:
            if error.retry_after_s is not None:
                raise
            raise DataAway from None

    def _tell(self, begun: Begun, caller: Caller) -> None:
        """Tells who has to know of a run that has been stored: beside its answering."""
        if begun.existing:
            return
        run = begun.run
        for run_id, owner in begun.interrupted:
            if run_id in self._host.live:
                self.cancel_own(run_id)
            elif owner:
                self._go_beside(self._ask_to_cancel(owner, run_id))
        if run.status is RunStatus.QUEUED:
            metrics.QUEUED.inc()
            self._queued()
            self._go_beside(self._signals.tell_queued())
            self._go_beside(self._signals.tell_begun(caller.identity.org_id, run.conversation_id, run.id))
        else:
            self._signals.tell_begun_here(caller.identity.org_id, run.conversation_id, run.id)

    async def _ask_to_cancel(self, owner: str, run_id: str) -> None:
        with contextlib.suppress(Unavailable):  # the owner learns it from its next checkpoint
            await self._signals.ask_to_cancel(owner, run_id)

    def _go_beside(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._beside.add(task)
        task.add_done_callback(self._beside.discard)

    def _forget(self) -> None:
        self._started -= 1
        self._ended()


class Watching:
    """A run that somebody watches: to be entered at once, which keeps the watcher's place until it is left.

    Args:
        runs: Where the place is.
        run_id: Of the run.
        batches: At least one event each, in order; what a tap takes is not among them. May raise CursorAhead, RunMoved, Draining,
            RunNotFound, Unavailable.
    """

    __slots__ = ("_runs", "batches", "run_id")

    def __init__(self, runs: Runs, run_id: str, batches: AsyncGenerator[list[Event], None] | Following) -> None:
        self._runs = runs
        self.run_id = run_id
        self.batches = batches

    async def __aenter__(self) -> None:
        pass

    async def __aexit__(self, *_: object) -> None:
        # Closed here: a generator that is merely dropped ends whenever it is collected, and holds its place until then.
        try:
            await self.batches.aclose()
        finally:
            self._runs.count_watchers(-1)


class _Place:
    """A watcher's place; held for as long as a stream lasts, so it is no generator."""

    __slots__ = ("_runs",)

    def __init__(self, runs: Runs) -> None:
        self._runs = runs

    def __enter__(self) -> None:
        self._runs.count_watchers(1)

    def __exit__(self, *_: object) -> None:
        self._runs.count_watchers(-1)
