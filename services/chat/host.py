"""The runs this instance owns, whether they began here or were claimed."""

from __future__ import annotations

import asyncio
from functools import partial
from typing import TYPE_CHECKING, Any

import structlog

from services.chat import metrics
from services.chat.prompt import Prompt, history_budget
from services.chat.turn import Turn

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from opentelemetry.trace import Span

    from runtime.context import Identity
    from services.chat.asking import Gateway, Model
    from services.chat.delegation import Credential
    from services.chat.log import RunLog
    from services.chat.models import Models
    from services.chat.ports import Begun, Data, Tail
    from services.chat.rules import Rules
    from services.chat.titles import Titles
    from services.chat.tools.registry import Registry

log = structlog.stdlib.get_logger()

OTHER_MODEL = "other"
"""Label of a model that is on no list: what a caller wrote is not for metrics."""


class Host:
    """Owns runs: makes them, keeps their logs in the tail, brings them to their end or hands them over.

    Args:
        data: Keeps what was said.
        gateway: Talks to models.
        tail: Live logs, for other instances.
        models: What is known of models.
        tools: What models may call.
        titles: Gives new conversations a title.
        rules: What and how much.
    """

    def __init__(
        self,
        *,
        data: Data,
        gateway: Gateway,
        tail: Tail,
        models: Models,
        tools: Registry,
        titles: Titles,
        rules: Rules,
    ) -> None:
        self.live: dict[str, Turn] = {}
        """What is live here, by the run's id."""
        self.tasks: set[asyncio.Task[None]] = set()
        """What brings runs to their end, or is about to begin them."""
        self.models = models
        self._data = data
        self._gateway = gateway
        self._tail = tail
        self._tools = tools
        self._titles = titles
        self._rules = rules
        metrics.RUNS_ACTIVE.set_function(self.tasks.__len__)

    def history_tokens(self, model: Model | None, content: str) -> int:
        """Returns how much history a run may be given."""
        return history_budget(
            model, system=self._rules.system_prompt, content=content, most=self._rules.history_max_tokens
        )

    def begin(
        self,
        begun: Begun,
        *,
        caller: Identity,
        credential: Credential,
        model: Model | None,
        request_id: str,
        span: Span,
        started_at: float,
        log: RunLog | None = None,
    ) -> Turn:
        """Makes a run live here; `keep` comes next, as soon as its model has been asked.

        Args:
            begun: The run as data began it or gave it.
            caller: Whose it is.
            credential: What it works with.
            model: What is known of its model.
            request_id: Of the request that is answered.
            span: The run's span.
            started_at: When its answering began, by `time.perf_counter`.
            log: What earlier owners have told; None: nothing.
        """
        turn = Turn(
            begun,
            Prompt(self._rules.system_prompt, begun.history, begun.content),
            caller=caller,
            credential=credential,
            data=self._data,
            gateway=self._gateway,
            pace=self._rules.pace,
            label=model.name if model is not None and model.listed else OTHER_MODEL,
            request_id=request_id,
            started_at=started_at,
            span=span,
            tools=self._tools.box(caller, offered=model is not None and model.tools),
            log=log,
            titles=self._titles,
        )
        turn.begin()
        self.live[turn.run.id] = turn
        return turn

    def keep(self, turn: Turn, *, sent_seq: int = 0) -> None:
        """From now on keeps a run's log in the tail.

        Args:
            turn: A run that is live here.
            sent_seq: How much of its log is there already.
        """
        run = turn.run
        self._tail.keep(
            turn.caller.org_id,
            run.id,
            turn.log,
            fence=turn.fence,
            conversation_id=run.conversation_id,
            superseded=turn.supersede,
            sent_seq=sent_seq,
        )

    async def bring_to_end(self, turn: Turn) -> None:
        """Returns once a run's answer is stored, or no longer can be, or another instance has it."""
        run_id = turn.run.id
        try:
            await turn.live()
        finally:
            if self.live.get(run_id) is turn:
                del self.live[run_id]
            if not turn.log.ended:  # whoever goes on with it shall find all that has been told here
                await self._tail.flush(run_id, turn.log)
                self._tail.let_go(run_id, turn.log)

    def spawn(self, work: Coroutine[Any, Any, None], *, done: Callable[[], None] | None = None) -> None:
        """Runs work that a drain waits for."""
        task = asyncio.create_task(work)
        self.tasks.add(task)
        task.add_done_callback(lambda task: self._forget(task, done))

    def _forget(self, task: asyncio.Task[None], done: Callable[[], None] | None) -> None:
        self.tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("unforeseen_error", exc_info=error)
        if done is not None:
            done()

    async def hand_over(self) -> int:
        """Gives every run that is live here back, for another instance to go on with; returns how many there were."""
        turns = list(self.live.values())
        for outcome in await asyncio.gather(*map(self._hand_over, turns), return_exceptions=True):
            if isinstance(outcome, Exception):
                log.error("run_not_handed_over", exc_info=outcome)
        return len(turns)

    async def _hand_over(self, turn: Turn) -> None:
        await turn.hand_over(partial(self._tail.flush, turn.run.id, turn.log))
        metrics.HAND_OVERS.inc()

    async def wait_for_all(self, timeout_s: float) -> bool:
        """Returns whether all work has ended within a time."""
        if self.tasks:
            await asyncio.wait(self.tasks, timeout=timeout_s)
        return not self.tasks
