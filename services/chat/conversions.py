"""Messages of other services as the domain's values, and back."""

from __future__ import annotations

from datetime import UTC
from typing import TYPE_CHECKING

from parley.data.v1 import data_pb2
from services.chat.domain import Part, PartKind, Run, RunStatus, Usage

if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import datetime

    from google.protobuf.timestamp_pb2 import Timestamp

    from parley.gateway.v1 import gateway_pb2

STATUSES = {
    RunStatus.RUNNING: data_pb2.RUN_STATUS_RUNNING,
    RunStatus.COMPLETED: data_pb2.RUN_STATUS_COMPLETED,
    RunStatus.CANCELLED: data_pb2.RUN_STATUS_CANCELLED,
    RunStatus.FAILED: data_pb2.RUN_STATUS_FAILED,
    RunStatus.INTERRUPTED: data_pb2.RUN_STATUS_INTERRUPTED,
    RunStatus.LIMITED: data_pb2.RUN_STATUS_LIMITED,
}
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


def parts_of(message: data_pb2.Message) -> Iterator[Part]:
    """Yields the parts of a stored message."""
    for part in message.parts:
        kind = part.WhichOneof("kind")
        if kind in _PART_KINDS:
            yield Part(_PART_KINDS[kind], getattr(part, kind))


_PART_KINDS = {"text": PartKind.TEXT, "reasoning": PartKind.REASONING}


def part_pb(part: Part) -> data_pb2.Part:
    """Returns a part as data takes it."""
    return data_pb2.Part(text=part.text) if part.kind is PartKind.TEXT else data_pb2.Part(reasoning=part.text)


def text_of(message: data_pb2.Message) -> str:
    """Returns the text of a stored message."""
    return "".join(part.text for part in parts_of(message) if part.kind is PartKind.TEXT)


def moment(timestamp: Timestamp) -> datetime:
    """Returns a moment in UTC."""
    return timestamp.ToDatetime(UTC)
