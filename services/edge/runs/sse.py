"""A run's events as server-sent events: a pure projection of the log, and the cursor it hands out."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from parley.chat.v1 import chat_pb2
from runtime.validation import invalid

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

OPENING = b": ok\n\n"
"""What a stream begins with: proxies hold the headers back until there is a byte."""
HEARTBEAT = b": ping\n\n"
"""What keeps an idle stream alive."""
COME_BACK = b"retry: 1000\n\n"
"""What tells a client to come back after a second, with the last id it saw."""

_GREATEST_SEQ = 2**63 - 1
_encode = msgspec.json.Encoder().encode


def frames(run_id: str, events: Iterable[chat_pb2.RunEvent]) -> bytes:
    """Returns the frames of events that happened together, joined. Lines end with LF alone.

    An event whose kind this edge does not know yet is left out: its clients do not know it either.
    """
    written = []
    for event in events:
        kind = event.WhichOneof("kind")
        if kind is None:
            continue
        data = {"run_id": run_id, "seq": event.seq, **_PROJECTIONS[kind](getattr(event, kind))}
        written.append(
            b"id: %b:%d\nevent: %b\ndata: %b\n\n" % (run_id.encode(), event.seq, kind.encode(), _encode(data))
        )
    return b"".join(written)


def cursor(run_id: str, last_event_id: str, after: int | None) -> int:
    """Returns the position in the log after which a client wants events; 0: all.

    Args:
        run_id: The run in the path.
        last_event_id: The header `Last-Event-ID`, which wins; empty: there was none.
        after: The query's `after`.

    Raises: InvalidArgument: the header is no id of this run.
    """
    if not last_event_id:
        return after or 0
    run, _, seq = last_event_id.rpartition(":")
    if run != run_id or not (seq.isascii() and seq.isdigit()) or len(seq) > len(str(_GREATEST_SEQ)):
        raise invalid("last_event_id", f"must be an id of this run's events, such as {run_id}:1.")
    position = int(seq)
    if position > _GREATEST_SEQ:
        raise invalid("last_event_id", "is past the end of any log.")
    return position


def accepts(header: str) -> bool:
    """Says whether an `Accept` header takes `text/event-stream`; the most specific range decides, as RFC 9110 has it."""
    found: tuple[int, bool] = (-1, True)
    for item in header.split(","):
        media_range, *parameters = (part.strip().lower() for part in item.split(";"))
        specificity = _RANGES.get(media_range)
        if specificity is None:
            continue
        refused = any(_weight(parameter) == 0 for parameter in parameters)
        found = max(found, (specificity, not refused))
    return found[1] if found[0] >= 0 else not header.strip()


def status_name(status: chat_pb2.RunStatus.ValueType) -> str:
    """Returns a run's status as the API spells it, such as `completed`."""
    return chat_pb2.RunStatus.Name(status).removeprefix("RUN_STATUS_").lower()


_RANGES = {"*/*": 0, "text/*": 1, "text/event-stream": 2}


def _weight(parameter: str) -> float | None:
    name, _, value = parameter.partition("=")
    if name.strip() != "q":
        return None
    try:
        return float(value)
    except ValueError:
        return None


def _run(run: chat_pb2.RunStarted) -> dict[str, Any]:
    return {
        "conversation_id": run.conversation_id,
        "message_id": run.message_id,
        "user_message_id": run.user_message_id,
        "model": run.model,
    }


def _user_message(message: chat_pb2.UserMessage) -> dict[str, Any]:
    return {
        "message_id": message.message_id,
        "content": message.content,
        "created_at": message.create_time.ToJsonString(),
    }


def _thinking(_: chat_pb2.Thinking) -> dict[str, Any]:
    return {}


def _text(text: chat_pb2.Text) -> dict[str, Any]:
    return {"delta": text.delta, "offset": text.offset}


def _reasoning(reasoning: chat_pb2.Reasoning) -> dict[str, Any]:
    return {"delta": reasoning.delta}


def _usage(usage: chat_pb2.Usage) -> dict[str, Any]:
    return {
        "input_tokens": usage.input_tokens,
        "output_tokens": usage.output_tokens,
        "total_tokens": usage.input_tokens + usage.output_tokens,
        "cached_tokens": usage.cached_tokens,
        "reasoning_tokens": usage.reasoning_tokens,
        "cost": usage.cost_usd if usage.HasField("cost_usd") else None,
        "estimated": usage.estimated,
    }


def _done(done: chat_pb2.Done) -> dict[str, Any]:
    return {"status": status_name(done.status), "message_id": done.message_id}


def _error(error: chat_pb2.Error) -> dict[str, Any]:
    data: dict[str, Any] = {
        "code": error.reason.lower(),
        "message": error.message,
        "request_id": error.request_id,
    }
    if error.HasField("retry_after_s"):
        data["retry_after"] = error.retry_after_s
    return data


_PROJECTIONS: dict[str, Callable[[Any], dict[str, Any]]] = {
    "run": _run,
    "user_message": _user_message,
    "thinking": _thinking,
    "text": _text,
    "reasoning": _reasoning,
    "usage": _usage,
    "done": _done,
    "error": _error,
}
