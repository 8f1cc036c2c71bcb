"""One run on an instance of its own: a store and a model that do what a test says, tools that leave traces."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any

from opentelemetry.trace import INVALID_SPAN

from runtime.context import Identity
from runtime.errors import FailedPrecondition, ParleyError
from services.chat.asking import (
    FinishReason,
    Model,
    ModelCall,
    ModelDelta,
    ModelFinished,
    ModelStarted,
    TextDelta,
    ToolCall,
)
from services.chat.delegation import Credential
from services.chat.domain import Event, Kind, Part, PartKind, Run, RunStatus, Usage
from services.chat.keeping import Pace
from services.chat.log import RunLog
from services.chat.ports import Begun, Ending
from services.chat.prompt import Prompt
from services.chat.tools.registry import Registry, Toolbox
from services.chat.tools.tool import ToolContext
from services.chat.turn import Turn

RUN = Run("r", "c", "u", "m", "fast", RunStatus.RUNNING, "", datetime.now(UTC), None)
BEGUN = Begun(RUN, 1, "Hello?", datetime.now(UTC), (), existing=False)
PACE = Pace(10, 0.01, finish_patience_s=2, finish_retry_for_s=600)
STALE = FailedPrecondition.of("STALE_FENCE", "The run has another owner.")


def caller(role: str = "member") -> Identity:
    return Identity("user", "org", role, "session", None, {}, time.time() + 900)


def calls(*wanted: tuple[str, str], ids: Sequence[str] = ()) -> ModelFinished:
    """The model calls tools: names and arguments."""
    return ModelFinished(
        FinishReason.TOOL_CALLS,
        Usage(10, 5, cost_usd=0.25),
        tuple(
            ToolCall(ids[index] if ids else f"t{index}", name, arguments)
            for index, (name, arguments) in enumerate(wanted)
        ),
    )


STOP = ModelFinished(FinishReason.STOP, Usage(20, 7, cost_usd=0.5))


class Saying:
    """A gateway whose model says what it is told, one script a call; an auth that is not needed.

    Of a script, texts and endings are said, errors raised, and futures waited for.
    """

    def __init__(self, *scripts: Sequence[Any]) -> None:
        self.scripts = list(scripts)
        self.calls: list[ModelCall] = []
        self.closed = 0

    async def chat(self, call: ModelCall, *, token: str, tap: Any = None) -> AsyncGenerator[list[ModelDelta], None]:
        self.calls.append(call)
        script = self.scripts.pop(0) if self.scripts else ("Hello", STOP)
        try:
            if not isinstance(script[0], ParleyError):
                yield [ModelStarted("openai", "mini")]
            for step in script:
                if isinstance(step, ParleyError):
                    raise step
                if isinstance(step, asyncio.Future):
                    await step
                else:
                    yield [TextDelta(step) if isinstance(step, str) else step]
        except (asyncio.CancelledError, GeneratorExit):
            self.closed += 1
            raise

    async def list_models(self, *, token: str) -> Sequence[Model]:
        raise NotImplementedError

    async def get_model(self, name: str, *, token: str) -> Model:
        raise NotImplementedError

    async def delegate(self, *, token: str) -> str:
        raise NotImplementedError

    async def delegate_for(self, user_id: str, org_id: str, *, role_at_most: str) -> str:
        raise NotImplementedError

    async def service_token(self) -> str:
        raise NotImplementedError


class Storing:
    """The part of data that owners of runs use.

    Attributes:
        refusals: What the next calls are refused with.
        refuse: What every call is refused with; None: nothing.
        stored: What it holds of the answer.
        usage: What it was said last that has been used.
        endings: What ended the run.
    """

    def __init__(self, *refusals: ParleyError) -> None:
        self.refusals = list(refusals)
        self.refuse: ParleyError | None = None
        self.tries = 0
        self.stored: tuple[Part, ...] = ()
        self.stored_seq = 0
        self.usage: Usage | None = None
        self.endings: list[Ending] = []
        self.retries: list[tuple[Ending, float]] = []
        self.released = False
        self.cancel_requested = False
        self.history: list[str] = []
        self.titles: list[str] = []
        self.checkpointed = asyncio.Event()

    def _take(self, what: str) -> None:
        self.tries += 1
        self.history.append(what)
        if self.refuse is not None:
            raise self.refuse
        if self.refusals:
            raise self.refusals.pop(0)

    async def checkpoint_run(
        self,
        run_id: str,
        *,
        fence: int,
        parts: Sequence[Part],
        usage: Usage | None,
        last_seq: int,
        lease_s: float,
        token: str,
    ) -> bool:
        self._take("checkpoint")
        self.stored, self.stored_seq, self.usage = tuple(parts), last_seq, usage
        self.checkpointed.set()
        return self.cancel_requested

    async def release_run(
        self, run_id: str, *, fence: int, parts: Sequence[Part], usage: Usage | None, last_seq: int, token: str
    ) -> None:
        self._take("release")
        self.stored, self.stored_seq, self.usage, self.released = tuple(parts), last_seq, usage, True

    async def retry_run(self, failed: Ending, *, delay_s: float, token: str) -> Run:
        self._take("retry")
        self.retries.append((failed, delay_s))
        return replace(RUN, status=RunStatus.QUEUED)

    async def finish_run(self, ending: Ending, *, token: str) -> Run:
        self._take("finish")
        self.endings.append(ending)
        self.stored = ending.parts
        return replace(RUN, status=ending.status)

    async def entitle(self, conversation_id: str, title: str, *, token: str) -> None:
        self._take("entitle")
        self.titles.append(title)

    def __getattr__(self, name: str) -> Any:
        raise NotImplementedError(name)


@dataclass
class Doing:
    """A tool that does what a test says and remembers how often it was called."""

    name: str = "act"
    does: Callable[[Mapping[str, Any], ToolContext], Awaitable[Any]] | None = None
    description: str = "Acts."
    parameters: Mapping[str, Any] = field(default_factory=lambda: {"type": "object"})
    permission: str = ""
    read_only: bool = False
    idempotent: bool = False
    timeout_s: float = 5.0
    result_max_bytes: int = 1_000
    called: list[tuple[dict[str, Any], ToolContext]] = field(default_factory=list)
    ended: list[str] = field(default_factory=list)

    async def call(self, arguments: Mapping[str, Any], context: ToolContext) -> str:
        self.called.append((dict(arguments), context))
        try:
            said: str = "done" if self.does is None else await self.does(arguments, context)
        except asyncio.CancelledError:
            self.ended.append("cancelled")
            raise
        self.ended.append("returned")
        return said


def box(*tools: Any, role: str = "member", offered: bool = True) -> Toolbox:
    return Registry(tools).box(caller(role), offered=offered)


def turn(
    gateway: Saying,
    data: Storing,
    *,
    tools: Toolbox | None = None,
    begun: Begun = BEGUN,
    log: RunLog | None = None,
    pace: Pace = PACE,
    **more: Any,
) -> Turn:
    """Returns a run that has not begun."""
    who = caller()
    return Turn(
        begun,
        Prompt("", begun.history, begun.content),
        caller=who,
        credential=Credential(gateway, "own", expires_at=who.expires_at),
        data=data,
        gateway=gateway,
        pace=pace,
        label="fast",
        request_id="req",
        started_at=time.perf_counter(),
        span=INVALID_SPAN,
        tools=tools,
        log=log,
        **more,
    )


async def lived(run: Turn) -> Turn:
    """Has a run live to its end."""
    run.begin()
    async with asyncio.timeout(20):
        await run.live()
    return run


def events(log: RunLog) -> list[Event]:
    found: list[Event] = []
    while batch := log.unsent(found[-1].seq if found else 0):
        found += batch
    return found


def kinds(log: RunLog) -> list[Kind]:
    return [event.kind for event in events(log)]


def names(log: RunLog) -> list[str]:
    return [type(kind).__name__ for kind in kinds(log)]


def text(body: str) -> Part:
    return Part(PartKind.TEXT, body)


def use(tool_call_id: str, name: str = "act", arguments: str = "{}") -> Part:
    return Part(PartKind.TOOL_USE, arguments, tool_call_id, name)


def result(tool_call_id: str, said: str, name: str = "act", *, is_error: bool = False) -> Part:
    return Part(PartKind.TOOL_RESULT, said, tool_call_id, name, is_error)


async def until(holds: Callable[[], bool]) -> None:
    """Returns once something is so."""
    async with asyncio.timeout(20):
        while not holds():  # noqa: ASYNC110 - it is told by no event
            await asyncio.sleep(0.001)
