"""What an owner writes into a run's log before it asks a model: its opening, or what follows from where the owner before has left off."""

from __future__ import annotations

from typing import TYPE_CHECKING

from services.chat import metrics
from services.chat.answer import GOING_ON, retold
from services.chat.domain import (
    Progress,
    Reset,
    RunStarted,
    RunStatus,
    Thinking,
    ToolResult,
    UserMessage,
)
from services.chat.ports import ClaimKind
from services.chat.prompt import UNKNOWN_OUTCOME
from services.chat.tools.tool import repeatable

if TYPE_CHECKING:
    from services.chat.log import RunLog
    from services.chat.ports import Begun
    from services.chat.tools.registry import Toolbox

_MOST_TAKEOVERS = 1


def is_new(begun: Begun) -> bool:
    """Says whether nobody has written anything of the answer yet; what it begins with, if anything, is an earlier answer's."""
    return begun.claim is None or (begun.claim is ClaimKind.QUEUED and begun.tries <= 1)


def resume(begun: Begun, log: RunLog, tools: Toolbox | None) -> RunStatus | None:
    """Writes what belongs into the log before the model is asked.

    Returns: how the run ends at once; None: a model is asked.
    """
    _open(begun, log)
    if begun.answer and not log.answer.parts():
        for kind in retold(begun.answer):
            log.append(kind)
        if not begun.last_seq:
            # Whoever had the run before has stored nothing: all of it is an earlier answer's, and nobody's step to do again.
            _keep(log)
    status = None
    if begun.cancel_requested:
        status = RunStatus.CANCELLED
    elif is_new(begun):
        _keep(log)
    else:
        status = _go_on(begun, log, tools)
    if status is not None:
        # It ends with what it holds. Whoever has been shown more of it by an owner that is gone takes that back, and finds the end after it.
        for _ in range(begun.unseen_events):
            log.append(Reset(log.answer.step + 1, log.text_chars))
    log.announce()
    return status


def _open(begun: Begun, log: RunLog) -> None:
    run = begun.run
    if log.last_seq < 1:
        log.append(RunStarted(run.conversation_id, run.message_id, run.user_message_id, run.model))
    if log.last_seq < 2:  # noqa: PLR2004 - the second event
        log.append(UserMessage(run.user_message_id, begun.content, begun.asked_at))
    if log.last_seq < 3:  # noqa: PLR2004 - the third event
        log.append(Thinking())


def _keep(log: RunLog) -> None:
    """Closes what an answer that is gone on with brings along: a step of its own, with its calls answered one way or the other."""
    answer = log.answer
    for use in answer.open_calls():
        log.append(ToolResult(use.tool_call_id, use.name, UNKNOWN_OUTCOME, is_error=True))
    if answer.step_parts():
        log.append(Progress(answer.step + 1, GOING_ON))


def _go_on(begun: Begun, log: RunLog, tools: Toolbox | None) -> RunStatus | None:
    """Takes up a run where an earlier owner has left it."""
    answer = log.answer
    if begun.claim is ClaimKind.LAPSED and begun.takeovers > _MOST_TAKEOVERS:
        # Twice is no accident: it may be this very run that kills its owners.
        return RunStatus.INTERRUPTED
    calls = answer.open_calls()
    for call in calls:
        item = tools.find(call.name) if tools is not None else None
        if item is None or not repeatable(item.tool):
            return RunStatus.INTERRUPTED
    # Calls stay where they are, and are made again. Any other step is done from its beginning.
    step = answer.step + 1 if calls else answer.step
    offset = log.text_chars if calls else answer.step_offset
    visible = not calls and bool(answer.step_parts())
    times = begun.unseen_events or int(visible)
    if times:
        metrics.RESETS.labels("taken over" if begun.claim is ClaimKind.LAPSED else str(begun.claim)).inc()
    for _ in range(times):
        log.append(Reset(step, offset))
    return None
