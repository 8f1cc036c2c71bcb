"""A run's events as server-sent events: a pure projection of the log."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from parley.chat.v1 import chat_pb2
from services.edge import tool_input

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

OPENING = b": ok\n\n"
"""What a stream begins with: proxies hold the headers back until there is a byte."""
COME_BACK = b"retry: 1000\n\n"
"""What tells a client to come back after a second, with the last id it saw."""

_TEXT = b'%bevent: text\ndata: {"run_id":%b,"seq":%d,"delta":%b,"offset":%d}\n\n'
_encode = msgspec.json.Encoder().encode


def frames(run_id: str, events: Iterable[chat_pb2.RunEvent], *, numbered: bool = True) -> bytes:
    """Returns the frames of events that happened together, joined. Lines end with LF alone.

    An event whose kind this edge does not know yet is left out: its clients do not know it either.

    Args:
        run_id: The run they belong to.
        events: The events, in order.
        numbered: Whether frames have an `id`, which is what a client comes back with.
    """
    run = run_id.encode()
    spelt_run = _encode(run_id)
    written = []
    for event in events:
        kind = event.WhichOneof("kind")
        if kind is None:
            continue
        seq = event.seq
        position = b"id: %b:%d\n" % (run, seq) if numbered else b""
        if kind == "text":  # nearly all are
            text = event.text
            written.append(_TEXT % (position, spelt_run, seq, _encode(text.delta), text.offset))
            continue
        data = {"run_id": run_id, "seq": seq, **_PROJECTIONS[kind](getattr(event, kind))}
        written.append(b"%bevent: %b\ndata: %b\n\n" % (position, kind.encode(), _encode(data)))
    return b"".join(written)


def text_frame(run_id: str) -> bytes:
    """Returns what `frames` writes of a text, for a run of which there are many: to be filled with `%` by `text_of`."""
    run, spelt_run = run_id.encode().replace(b"%", b"%%"), _encode(run_id).replace(b"%", b"%%")
    return b'id: %b:%%d\nevent: text\ndata: {"run_id":%b,"seq":%%d,"delta":%%b,"offset":%%d}\n\n' % (run, spelt_run)


def text_of(event: chat_pb2.RunEvent) -> tuple[int, int, bytes, int] | None:
    """Returns what a `text_frame` is filled with; None: the event is no text."""
    if event.WhichOneof("kind") != "text":
        return None
    seq, text = event.seq, event.text
    return seq, seq, _encode(text.delta), text.offset


def status_name(status: chat_pb2.RunStatus.ValueType) -> str:
    """Returns a run's status as the API spells it, such as `completed`."""
    return chat_pb2.RunStatus.Name(status).removeprefix("RUN_STATUS_").lower()


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


def _progress(progress: chat_pb2.Progress) -> dict[str, Any]:
    return {"step": progress.step, "message": progress.message}


def _reasoning(reasoning: chat_pb2.Reasoning) -> dict[str, Any]:
    return {"delta": reasoning.delta}


def _tool_use(use: chat_pb2.ToolUse) -> dict[str, Any]:
    return {
        "tool_call_id": use.tool_call_id,
        "name": use.name,
        "input": tool_input.parsed(use.input_json),
        "step": use.step,
    }


def _tool_result(result: chat_pb2.ToolResult) -> dict[str, Any]:
    return {
        "tool_call_id": result.tool_call_id,
        "name": result.name,
        "content": result.content,
        "is_error": result.is_error,
    }


def _reset(reset: chat_pb2.Reset) -> dict[str, Any]:
    return {"step": reset.step, "offset": reset.offset}


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
    return {"status": status_name(done.status), "message_id": done.message_id, "model": done.model}


def _error(error: chat_pb2.Error) -> dict[str, Any]:
    return {
        "code": error.reason.lower(),
        "message": error.message,
        "request_id": error.request_id,
        **when_again(error),
    }


def when_again(error: chat_pb2.Error) -> dict[str, Any]:
    """Returns what is known of when it makes sense to try again: `retry_after`, seconds, and the limit that is reached, if one is."""
    told: dict[str, Any] = {}
    if error.HasField("retry_after_s"):
        told["retry_after"] = round(error.retry_after_s, 3)
    if error.HasField("limit"):
        limit = error.limit
        told |= {"limit_type": limit.type, "current": limit.current, "limit": limit.limit}
        told["resets_at"] = limit.reset_time.ToJsonString()
    return told


_PROJECTIONS: dict[str, Callable[[Any], dict[str, Any]]] = {
    "run": _run,
    "user_message": _user_message,
    "thinking": _thinking,
    "progress": _progress,
    "reasoning": _reasoning,
    "tool_use": _tool_use,
    "tool_result": _tool_result,
    "reset": _reset,
    "usage": _usage,
    "done": _done,
    "error": _error,
}
