"""Messages of other services as the domain's values, and back."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import TYPE_CHECKING

from google.protobuf.duration_pb2 import Duration

from parley.data.v1 import data_pb2
from services.chat.domain import Part, PartKind, Run, RunStatus, Usage

if TYPE_CHECKING:
    from google.protobuf.timestamp_pb2 import Timestamp

    from parley.gateway.v1 import gateway_pb2

STATUSES = {
    RunStatus.QUEUED: data_pb2.RUN_STATUS_QUEUED,
    RunStatus.RUNNING: data_pb2.RUN_STATUS_RUNNING,
    RunStatus.COMPLETED: data_pb2.RUN_STATUS_COMPLETED,
    RunStatus.CANCELLED: data_pb2.RUN_STATUS_CANCELLED,
    RunStatus.FAILED: data_pb2.RUN_STATUS_FAILED,
    RunStatus.INTERRUPTED: data_pb2.RUN_STATUS_INTERRUPTED,
    RunStatus.LIMITED: data_pb2.RUN_STATUS_LIMITED,
}
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_STATUS_OF = {number: status for status, number in STATUSES.items()}


def run_of(run: data_pb2.Run) -> Run:
    """Returns data's run."""
    return Run(
        id=run.id,
        conversation_id=run.conversation_id,
        user_message_id=run.user_message_id,
        message_id=run.answer_message_id,
        model=run.model,
        status=_STATUS_OF[run.status],
        error_reason=run.error_reason,
        created_at=moment(run.create_time),
        ended_at=moment(run.end_time) if run.HasField("end_time") else None,
        response_model=run.response_model,
    )


def usage_of(usage: data_pb2.Usage | gateway_pb2.Usage) -> Usage:
    """Returns what was used."""
    return Usage(
        usage.input_tokens,
        usage.output_tokens,
        usage.cached_tokens,
        usage.reasoning_tokens,
        usage.cost_usd if usage.HasField("cost_usd") else None,
        usage.estimated,
    )


def usage_pb(usage: Usage) -> data_pb2.Usage:
    """Returns usage as data takes it."""
    return data_pb2.Usage(
        input_tokens=usage.input_tokens,
        output_tokens=usage.output_tokens,
        cached_tokens=usage.cached_tokens,
        reasoning_tokens=usage.reasoning_tokens,
        cost_usd=usage.cost_usd,
        estimated=usage.estimated,
    )


def parts_of(message: data_pb2.Message) -> tuple[Part, ...]:
    """Returns the parts of a stored message, without those of a kind that this release does not know."""
    stored = message.parts
    if len(stored) == 1 and (
        text := stored[0].text
    ):  # nearly always; a history has many, and its model waits to be asked
        return (Part(PartKind.TEXT, text),)
    parts: list[Part] = []
    for part in stored:
        match part.WhichOneof("kind"):
            case "text":
                parts.append(Part(PartKind.TEXT, part.text))
            case "reasoning":
                parts.append(Part(PartKind.REASONING, part.reasoning))
            case "tool_use":
                use = part.tool_use
                parts.append(Part(PartKind.TOOL_USE, use.input_json, use.tool_call_id, use.name))
            case "tool_result":
                result = part.tool_result
                parts.append(
                    Part(PartKind.TOOL_RESULT, result.content, result.tool_call_id, result.name, result.is_error)
                )
    return tuple(parts)


def part_pb(part: Part) -> data_pb2.Part:
    """Returns a part as data takes it."""
    match part.kind:
        case PartKind.TEXT:
            return data_pb2.Part(text=part.text)
        case PartKind.REASONING:
            return data_pb2.Part(reasoning=part.text)
        case PartKind.TOOL_USE:
            return data_pb2.Part(
                tool_use=data_pb2.ToolUse(tool_call_id=part.tool_call_id, name=part.name, input_json=part.text)
            )
        case PartKind.TOOL_RESULT:
            return data_pb2.Part(
                tool_result=data_pb2.ToolResult(
                    tool_call_id=part.tool_call_id, name=part.name, content=part.text, is_error=part.is_error
                )
            )


def text_of(message: data_pb2.Message) -> str:
    """Returns the text of a stored message."""
    parts = message.parts
    return parts[0].text if len(parts) == 1 else "".join([part.text for part in parts])  # empty in parts of other kinds


@lru_cache(maxsize=16)
def duration(seconds: float) -> Duration:
    """Returns a length of time as contracts spell it, to the millisecond; it is shared, and must not be changed."""
    whole, rest = divmod(int(seconds * 1000), 1000)
    return Duration(seconds=whole, nanos=rest * 1_000_000)


def moment(timestamp: Timestamp) -> datetime:
    """Returns a moment in UTC."""
    return _EPOCH + timedelta(0, timestamp.seconds, timestamp.nanos // 1000)
