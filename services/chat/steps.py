"""The steps of one answer: a model is asked, the tools it calls are called, and it is asked again with what they said."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import re
import secrets
from dataclasses import dataclass
from typing import TYPE_CHECKING

import structlog

from runtime.errors import Cancelled, ParleyError, Unavailable
from services.chat import bounds, failures, metrics
from services.chat.asking import FinishReason, ModelCall, ModelStarted, ReasoningDelta, TextDelta
from services.chat.counting import added, estimated
from services.chat.domain import PartKind, Progress, Reset, RunStatus, ToolUse, Usage
from services.chat.tools import calling
from services.chat.tools.tool import repeatable

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from services.chat.asking import Gateway, ModelDelta, ModelFinished, ToolCall
    from services.chat.delegation import Credential
    from services.chat.domain import Run, ToolResult
    from services.chat.keeping import Keeper
    from services.chat.log import RunLog
    from services.chat.prompt import Prompt
    from services.chat.tools.registry import Toolbox

log = structlog.stdlib.get_logger()

MOST_STEPS = 10
_MOST_CALLS = 32
_GATEWAY_PAUSES_S = (0.2, 0.4, 0.8, 1.6, 2.0)
"""Before another try while no gateway takes the call: as long as it takes to find an instance again that has just been restarted."""
_MOST_REDONE = 3
"""How often a step that was visible is done again. A rolling deploy may cut a long one once for each instance, and each time costs tokens."""
_STORED_PATIENCE_S = 2.0
_READING = "Reading what came back"
_ID = re.compile(r"[A-Za-z0-9_-]{1,64}")
_NOT_IN_A_NAME = re.compile(r"[^A-Za-z0-9_-]")


@dataclass(frozen=True, slots=True)
class Outcome:
    """How an answer has ended."""

    status: RunStatus
    error: ParleyError | None = None


class Steps:
    """Writes one answer into a log.

    Args:
        run: Whose answer it is.
        prompt: What the model is sent first.
        run_log: Where it is written.
        tools: What the model may call; None: nothing.
        gateway: Who is asked.
        credential: What the run works with.
        keeper: Stores what must be stored before a tool may have its effect.
        first_delta: Called at the first delta.

    Attributes:
        provider: Who answers; empty until that is known.
        model: What answers.
        usage: Of all model calls that have ended; None: none has.
    """

    __slots__ = (
        "_asked",
        "_context",
        "_credential",
        "_effects",
        "_finished",
        "_first_delta",
        "_gateway",
        "_keeper",
        "_log",
        "_prompt",
        "_run",
        "_told_first",
        "_tools",
        "_void",
        "_wrote",
        "model",
        "provider",
        "usage",
    )

    def __init__(
        self,
        run: Run,
        prompt: Prompt,
        run_log: RunLog,
        *,
        tools: Toolbox | None,
        gateway: Gateway,
        credential: Credential,
        keeper: Keeper,
        first_delta: Callable[[], None],
    ) -> None:
        self.provider = ""
        self.model = ""
        self.usage: Usage | None = None
        self._run = run
        self._prompt = prompt
        self._log = run_log
        self._tools = tools
        self._gateway = gateway
        self._credential = credential
        self._keeper = keeper
        self._first_delta = first_delta
        self._told_first = False
        self._context: contextvars.Context | None = None
        self._wrote = False
        self._void = False
        self._finished: ModelFinished | None = None
        self._asked = False
        self._effects: set[asyncio.Task[None]] | None = None

    async def answer(self) -> Outcome:
        """Writes the answer, or the rest of it.

        A step that an earlier owner has begun is gone on with where its tools have been called, and otherwise done from its beginning.

        Raises: ParleyError: the answer has failed.
        """
        answer = self._log.answer
        # An answer that is gone on with brings its own steps; those it has by now may be an earlier owner's. One more is always possible.
        last = max(MOST_STEPS, answer.step) if not self._ends_in_text() else answer.step + MOST_STEPS - 1
        uses = [ToolUse(part.tool_call_id, part.name, part.text, answer.step) for part in answer.open_calls()]
        while True:
            if uses:
                await self._call_all(uses)
                self._log.append(Progress(answer.step, _READING))
                self._log.announce()
            if bounds.is_full(self._log.parts()):
                return self._ended(FinishReason.LENGTH)
            step = answer.step
            finished = await self._step(withheld=step >= last)
            calls = finished.calls if finished.reason in _WITH_CALLS and step < last and self._offers() else ()
            if not calls:
                return self._ended(finished.reason)
            uses = self._note(calls)

    def used(self) -> Usage:
        """Returns what has been used as far as can be told: of what has ended exactly, of a call under way by the length of its texts."""
        under_way = self._asked or bool(self._log.answer.step_parts())
        if self._finished is not None or not under_way:
            return self.usage or Usage(0, 0, estimated=True)  # none at all: no provider took the call
        return added(self.usage, self._estimate())

    async def settled(self, timeout_s: float) -> None:
        """Returns once no tool is running of which it would not be known whether it took effect, or after the timeout."""
        if self._effects:
            await asyncio.wait(self._effects, timeout=timeout_s)

    def close(self) -> None:
        """Tells nobody of anything any more, so that the run does not hold itself in memory."""
        self._first_delta = _nobody

    def _offers(self) -> bool:
        return self._tools is not None and bool(self._tools.offers)

    def _ends_in_text(self) -> bool:
        kept = self._log.answer.finished_parts()
        return bool(kept) and kept[-1].kind is PartKind.TEXT

    async def _step(self, *, withheld: bool) -> ModelFinished:
        """Asks a model once, and again where the gateway, not a provider, has failed.

        Raises: ParleyError.
        """
        tries, redone = 0, 0
        while True:
            try:
                return await self._ask(withheld=withheld)
            except ParleyError as error:
                visible = self._wrote
                away = isinstance(error, Cancelled | failures.AnswerCut) or error.code == Unavailable.reason
                if error.code == "CONTEXT_TOO_LONG" and not visible and self._prompt.history:
                    # Our estimate was wrong; an older half less is better than no answer.
                    self._prompt = self._prompt.shortened()
                elif away and visible and redone < _MOST_REDONE:
                    # Its process has died in mid-answer. What it wrote has been seen, and stays until there is something in its place.
                    redone += 1
                    tries, self._void = 0, True
                elif away and not visible and tries < len(_GATEWAY_PAUSES_S):
                    # Another instance takes the call, or the same one in a moment.
                    await asyncio.sleep(_GATEWAY_PAUSES_S[tries])
                    tries += 1
                else:
                    raise

    def _drop(self) -> None:
        """Has the clients drop what a model call that was cut off has written of the step."""
        self._void = False
        metrics.RESETS.labels("gateway").inc()
        self.usage = added(self.usage, self._estimate())
        answer = self._log.answer
        self._log.append(Reset(answer.step, answer.step_offset))

    async def _ask(self, *, withheld: bool) -> ModelFinished:
        self._finished = None
        self._asked = self._wrote = False
        if not self._told_first:
            self._context = contextvars.copy_context()
        batches = self._gateway.chat(self._call_of_model(withheld=withheld), token=self._credential.token, tap=self)
        try:
            async for batch in batches:
                for delta in batch:
                    self._take(delta)
                self._show()
        finally:
            metrics.STEPS.inc()  # not before: a first token waits for no bookkeeping
            await batches.aclose()
        return self._whole()

    def _call_of_model(self, *, withheld: bool) -> ModelCall:
        written = self._log.answer.finished_parts()
        knows_tools = self._offers() or any(part.kind is PartKind.TOOL_USE for part in written)
        return ModelCall(
            self._run.model,
            self._prompt.messages(written, tools=knows_tools),
            tools=self._tools.offers if self._tools is not None and not withheld else (),
            conversation_id=self._run.conversation_id,
        )

    def _whole(self) -> ModelFinished:
        if self._finished is None:
            raise failures.AnswerCut("The answer was cut off.")
        if self._void:
            self._drop()
        self.usage = added(self.usage, self._finished.usage)
        return self._finished

    def started(self, provider: str, model: str) -> bool:
        """See `asking.Tap`; as the following, it wakes nobody up."""
        self.provider, self.model = provider, model
        self._asked = True
        return True

    def text(self, text: str) -> bool:
        """Writes more of what has been begun, or its beginning."""
        if not self._wrote:
            return self._begin(self._log.write, text)
        self._log.write(text)
        self._log.announce_soon()
        return True

    def reasoning(self, text: str) -> bool:
        """The same of reasoning."""
        if not self._wrote:
            return self._begin(self._log.think, text)
        self._log.think(text)
        self._log.announce_soon()
        return True

    def _begin(self, write: Callable[[str], None], delta: str) -> bool:
        if not self._asked:
            return False
        self._mark()
        write(delta)
        self._show()
        return True

    def _show(self) -> None:
        self._log.announce()
        if self._wrote and not self._told_first:
            self._told_first = True
            # Once what announces it has left: a first delta waits for no bookkeeping. In the run's context, whoever has read it.
            asyncio.get_running_loop().call_soon(self._first_delta, context=self._context)
            self._context = None

    def _take(self, delta: ModelDelta) -> None:
        if isinstance(delta, TextDelta | ReasoningDelta):
            if not self._wrote:
                self._mark()
            (self._log.write if isinstance(delta, TextDelta) else self._log.think)(delta.text)
        elif isinstance(delta, ModelStarted):
            self.started(delta.provider, delta.model)
        else:
            self._finished = delta

    def _mark(self) -> None:
        self._wrote = True
        if self._void:
            self._drop()

    def _ended(self, reason: FinishReason) -> Outcome:
        if reason is FinishReason.CONTENT_FILTER:
            raise failures.ContentFiltered("The provider withheld the rest of this answer.")
        if not self._log.text_chars:
            # Also at the output limit: a model may spend all of it on thinking, and silence must not look like an answer.
            raise failures.EmptyAnswer("The model answered with nothing.")
        return Outcome(RunStatus.LIMITED if reason is FinishReason.LENGTH else RunStatus.COMPLETED)

    def _note(self, calls: Sequence[ToolCall]) -> list[ToolUse]:
        """Writes the calls into the log, at once all of them, and the results of those that cannot be made; returns the others."""
        used = {part.tool_call_id for part in self._log.parts() if part.kind is PartKind.TOOL_USE}
        uses: list[ToolUse] = []
        faults: list[ToolResult] = []
        for call in calls:
            call_id = call.id if _ID.fullmatch(call.id) and call.id not in used else f"call_{secrets.token_hex(12)}"
            used.add(call_id)
            readable = calling.arguments_of(call.arguments_json) is not None
            use = ToolUse(
                call_id,
                _NOT_IN_A_NAME.sub("_", call.name)[:64] or "unnamed",
                (call.arguments_json or "{}").replace("\x00", "") if readable else "{}",
                self._log.answer.step,
            )
            self._log.append(use)
            if len(uses) >= _MOST_CALLS:
                faults.append(calling.failed(use, f"No more than {_MOST_CALLS} tools may be called at once."))
            elif not readable:
                # With its result in one breath: a call that is gone on with is made with the arguments that are stored.
                faults.append(calling.failed(use, "The arguments are no JSON object."))
            else:
                uses.append(use)
        for fault in faults:
            self._log.append(fault)
        self._log.announce()
        return uses

    async def _call_all(self, uses: Sequence[ToolUse]) -> None:
        """Calls the tools of one step beside one another; each result is in the log as soon as it is there."""
        assert self._tools is not None  # noqa: S101 - a model that was offered none has called none
        box = self._tools
        sound: list[tuple[ToolUse, bool]] = []
        for use in uses:
            fault = calling.fault(box, use)
            if fault:
                self._log.append(calling.failed(use, fault))
                continue
            item = box.find(use.name)
            sound.append((use, item is not None and not repeatable(item.tool)))
        self._log.announce()
        async with asyncio.TaskGroup() as group:
            for use, effectful in sound:
                task = group.create_task(self._call(box, use, effectful=effectful))
                if effectful:
                    if self._effects is None:
                        self._effects = set()
                    self._effects.add(task)
                    task.add_done_callback(self._effects.discard)

    async def _call(self, box: Toolbox, use: ToolUse, *, effectful: bool) -> None:
        item = box.find(use.name)
        if effectful and item is not None:
            try:
                async with asyncio.timeout(item.tool.timeout_s):
                    await self._keeper.secure()
            except (ParleyError, TimeoutError):
                # Where the run is lost, whoever owns it now sees a call without a result; this answer is on its way to its end.
                self._tell(calling.failed(use, calling.NOT_CALLED))
                return
        step = self._log.answer.step

        def progress(message: str) -> None:
            self._log.append(Progress(step, message))
            self._log.announce()

        result = await calling.call(box, use, run_id=self._run.id, progress=progress, room_bytes=self._room_bytes)
        if effectful:
            # Whoever takes the run over from here on and finds no result takes the outcome for unknown: until it is in the tail, or stored, it
            # is not shown.
            self._log.hold()
        self._tell(result)
        if effectful:
            # While data is away the answer goes on: should this instance die now, the outcome counts as unknown, which is safe.
            with contextlib.suppress(ParleyError, TimeoutError):
                async with asyncio.timeout(_STORED_PATIENCE_S):
                    await self._keeper.secure()

    def _room_bytes(self) -> int:
        return bounds.room_for_result(self._log.parts())

    def _tell(self, result: ToolResult) -> None:
        self._log.append(result)
        self._log.announce()

    def _estimate(self) -> Usage:
        """Returns about what the call under way has used."""
        answer = self._log.answer
        return estimated(self._prompt.tokens(answer.finished_parts()), answer.step_parts())


def _nobody() -> None:
    """Told of a run that is over."""


_WITH_CALLS = (FinishReason.TOOL_CALLS, FinishReason.STOP)
