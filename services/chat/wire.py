"""Events and runs as the contract spells them, for callers and for the log in Redis."""

from __future__ import annotations

from datetime import UTC
from typing import TYPE_CHECKING, Any

from parley.chat.v1 import chat_pb2
from runtime.wellknown import timestamp
from services.chat.domain import (
    Done,
    Event,
    Failed,
    Limit,
    Progress,
    Reasoning,
    Reset,
    RunStarted,
    RunStatus,
    Text,
    Thinking,
    ToolResult,
    ToolUse,
    Usage,
    UserMessage,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from services.chat.domain import Kind, Run

_STATUSES = {
    RunStatus.QUEUED: chat_pb2.RUN_STATUS_QUEUED,
    RunStatus.RUNNING: chat_pb2.RUN_STATUS_RUNNING,
    RunStatus.COMPLETED: chat_pb2.RUN_STATUS_COMPLETED,
    RunStatus.CANCELLED: chat_pb2.RUN_STATUS_CANCELLED,
    RunStatus.FAILED: chat_pb2.RUN_STATUS_FAILED,
    RunStatus.INTERRUPTED: chat_pb2.RUN_STATUS_INTERRUPTED,
    RunStatus.LIMITED: chat_pb2.RUN_STATUS_LIMITED,
}
_STATUS_OF = {number: status for status, number in _STATUSES.items()}


def event_pb(event: Event) -> chat_pb2.RunEvent:
    """Returns an event as the contract spells it."""
    seq, kind = event
    if isinstance(kind, Text):  # first: nearly all are
        return chat_pb2.RunEvent(seq=seq, text=chat_pb2.Text(delta=kind.delta, offset=kind.offset))
    name, convert = _TO_PB[type(kind)]
    return chat_pb2.RunEvent(seq=seq, **{name: convert(kind)})


def add_event(events: Any, event: Event) -> None:
    """Appends an event to a repeated field of RunEvent; otherwise as `event_pb`, and cheaper: nothing is copied."""
    seq, kind = event
    if isinstance(kind, Text):
        added = events.add()
        added.seq = seq
        text = added.text
        text.delta, text.offset = kind
        if not kind.delta and not kind.offset:
            text.SetInParent()
    else:
        name, convert = _TO_PB[type(kind)]
        events.add(seq=seq, **{name: convert(kind)})


def add_texts(events: Any, texts: Iterable[str], *, seq: int, offset: int) -> None:
    """Appends texts that follow on each other; otherwise as `add_event`.

    Args:
        events: A repeated field of RunEvent.
        texts: The deltas.
        seq: Number of the first one.
        offset: Where it begins in the answer, in code points.
    """
    add = events.add
    for delta in texts:
        added = add()
        added.seq = seq
        seq += 1
        text = added.text
        text.delta, text.offset = delta, offset
        if not delta and not offset:
            text.SetInParent()
        offset += len(delta)


def kind_of(event: chat_pb2.RunEvent) -> Kind | None:
    """Returns what an event says; None where it is of a kind that this release does not know."""
    name = event.WhichOneof("kind")
    return None if name is None else _FROM_PB[name](getattr(event, name))


def run_pb(run: Run) -> chat_pb2.Run:
    """Returns a run as the contract spells it."""
    return chat_pb2.Run(
        id=run.id,
        conversation_id=run.conversation_id,
        user_message_id=run.user_message_id,
        message_id=run.message_id,
        model=run.model,
        status=_STATUSES[run.status],
        error_reason=run.error_reason,
        create_time=timestamp(run.created_at),
        end_time=None if run.ended_at is None else timestamp(run.ended_at),
        response_model=run.response_model,
    )


def _usage_pb(usage: Usage) -> chat_pb2.Usage:
    return chat_pb2.Usage(
        input_tokens=usage.input_tokens,
        output_tokens=usage.output_tokens,
        cached_tokens=usage.cached_tokens,
        reasoning_tokens=usage.reasoning_tokens,
        cost_usd=usage.cost_usd,
        estimated=usage.estimated,
    )


def _usage_of(usage: chat_pb2.Usage) -> Usage:
    return Usage(
        usage.input_tokens,
        usage.output_tokens,
        usage.cached_tokens,
        usage.reasoning_tokens,
        usage.cost_usd if usage.HasField("cost_usd") else None,
        usage.estimated,
    )


def _started_pb(kind: RunStarted) -> chat_pb2.RunStarted:
    return chat_pb2.RunStarted(
        conversation_id=kind.conversation_id,
        message_id=kind.message_id,
        user_message_id=kind.user_message_id,
        model=kind.model,
    )


def _started_of(run: chat_pb2.RunStarted) -> RunStarted:
    return RunStarted(run.conversation_id, run.message_id, run.user_message_id, run.model)


def _message_pb(kind: UserMessage) -> chat_pb2.UserMessage:
    return chat_pb2.UserMessage(
        message_id=kind.message_id, content=kind.content, create_time=timestamp(kind.created_at)
    )


def _message_of(message: chat_pb2.UserMessage) -> UserMessage:
    return UserMessage(message.message_id, message.content, message.create_time.ToDatetime(UTC))


def _tool_use_pb(kind: ToolUse) -> chat_pb2.ToolUse:
    return chat_pb2.ToolUse(tool_call_id=kind.tool_call_id, name=kind.name, input_json=kind.input_json, step=kind.step)


def _tool_result_pb(kind: ToolResult) -> chat_pb2.ToolResult:
    return chat_pb2.ToolResult(
        tool_call_id=kind.tool_call_id, name=kind.name, content=kind.content, is_error=kind.is_error
    )


def _tool_result_of(result: chat_pb2.ToolResult) -> ToolResult:
    return ToolResult(result.tool_call_id, result.name, result.content, result.is_error)


def _done_pb(kind: Done) -> chat_pb2.Done:
    return chat_pb2.Done(status=_STATUSES[kind.status], message_id=kind.message_id, model=kind.model)


def _failed_pb(kind: Failed) -> chat_pb2.Error:
    return chat_pb2.Error(
        reason=kind.reason,
        message=kind.message,
        request_id=kind.request_id,
        retry_after_s=kind.retry_after_s,
        limit=None if kind.limit is None else _limit_pb(kind.limit),
    )


def _failed_of(error: chat_pb2.Error) -> Failed:
    retry_after_s = error.retry_after_s if error.HasField("retry_after_s") else None
    limit = _limit_of(error.limit) if error.HasField("limit") else None
    return Failed(error.reason, error.message, error.request_id, retry_after_s, limit)


def _limit_pb(limit: Limit) -> chat_pb2.Limit:
    reset_time = timestamp(limit.resets_at)
    return chat_pb2.Limit(type=limit.type, current=limit.current, limit=limit.limit, reset_time=reset_time)


def _limit_of(limit: chat_pb2.Limit) -> Limit:
    return Limit(limit.type, limit.current, limit.limit, limit.reset_time.ToDatetime(UTC))


_TO_PB: dict[type[Kind], tuple[str, Callable[[Any], Any]]] = {
    RunStarted: ("run", _started_pb),
    UserMessage: ("user_message", _message_pb),
    Thinking: ("thinking", lambda _: chat_pb2.Thinking()),
    Progress: ("progress", lambda kind: chat_pb2.Progress(step=kind.step, message=kind.message)),
    Reasoning: ("reasoning", lambda kind: chat_pb2.Reasoning(delta=kind.delta)),
    ToolUse: ("tool_use", _tool_use_pb),
    ToolResult: ("tool_result", _tool_result_pb),
    Reset: ("reset", lambda kind: chat_pb2.Reset(step=kind.step, offset=kind.offset)),
    Usage: ("usage", _usage_pb),
    Done: ("done", _done_pb),
    Failed: ("error", _failed_pb),
}

_FROM_PB: dict[str, Callable[[Any], Kind]] = {
    "run": _started_of,
    "user_message": _message_of,
    "thinking": lambda _: Thinking(),
    "text": lambda text: Text(text.delta, text.offset),
    "progress": lambda progress: Progress(progress.step, progress.message),
    "reasoning": lambda reasoning: Reasoning(reasoning.delta),
    "tool_use": lambda use: ToolUse(use.tool_call_id, use.name, use.input_json, use.step),
    "tool_result": _tool_result_of,
    "reset": lambda reset: Reset(reset.step, reset.offset),
    "usage": _usage_of,
    "done": lambda done: Done(_STATUS_OF[done.status], done.message_id, done.model),
    "error": _failed_of,
}
