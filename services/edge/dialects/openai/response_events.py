"""A run's log as OpenAI's response and its events: a pure projection, the same on every instance and however often it is read."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from uuid import UUID

import msgspec

from parley.chat.v1 import chat_pb2
from services.edge.dialects.openai.errors import spelt_code
from services.edge.dialects.openai.response_ids import response_id
from services.edge.runs.sse import when_again

if TYPE_CHECKING:
    from collections.abc import Iterable

_encode = msgspec.json.Encoder().encode
_ENDS = {
    chat_pb2.RUN_STATUS_COMPLETED: ("completed", None),
    chat_pb2.RUN_STATUS_LIMITED: ("incomplete", {"reason": "max_output_tokens"}),
    chat_pb2.RUN_STATUS_INTERRUPTED: ("incomplete", {"reason": "interrupted"}),
    chat_pb2.RUN_STATUS_CANCELLED: ("cancelled", None),
}
_LAST = {"completed": "response.completed", "failed": "response.failed"}
_RUNNING = {chat_pb2.RUN_STATUS_QUEUED: "queued", chat_pb2.RUN_STATUS_RUNNING: "in_progress"}


def bare(run_id: str, conversation_id: str, model: str, status: str) -> dict[str, Any]:
    """Returns a response without output. The time of a run is in its id."""
    return {
        "id": response_id(run_id),
        "object": "response",
        "created_at": (UUID(run_id).int >> 80) // 1000,
        "status": status,
        "conversation": {"id": conversation_id},
        "model": model,
        "output": [],
        "error": None,
        "incomplete_details": None,
        "instructions": None,
        "metadata": {},
        "parallel_tool_calls": True,
        "previous_response_id": None,
        "store": True,
        "temperature": None,
        "tool_choice": "auto",
        "tools": [],
        "top_p": None,
        "usage": None,
    }


def of_run(run: chat_pb2.Run) -> dict[str, Any]:
    """Returns the response of a run whose log is not read, since it has not ended."""
    return bare(run.id, run.conversation_id, run.response_model or run.model, _RUNNING.get(run.status, "in_progress"))


class Projection:
    """Spells one run's events, from the first one.

    What a step had written before it begins anew stays in the events, as an item that ends `incomplete`, and is not in the response.
    A tool is one of ours and has run here: it is told as a call to a server of tools.

    Args:
        run_id: The run.
        conversation_id: Its conversation, where that is known before its log tells.
        model: The same of its model.
        starting_after: Number of the last event that is not told again; -1: tells all.
    """

    def __init__(self, run_id: str, *, conversation_id: str = "", model: str = "", starting_after: int = -1) -> None:
        self.response = bare(run_id, conversation_id, model, "in_progress")
        self.number = -1
        self.ended = False
        self._run_id = run_id
        self._after = starting_after
        self._written: list[bytes] = []
        self._items: list[dict[str, Any]] = []
        self._starts: list[int] = []  # of each item, in the text
        self._indices: list[int] = []
        self._opened = 0
        self._open: dict[str, Any] | None = None
        self._text = ""

    def frames(self, events: Iterable[chat_pb2.RunEvent]) -> bytes:
        """Returns the frames of events that happened together, joined; those that are not told again are left out."""
        for event in events:
            self._take(event)
        written = b"".join(self._written)
        self._written.clear()
        return written

    def _take(self, event: chat_pb2.RunEvent) -> None:
        kind = event.WhichOneof("kind")
        if kind == "run":
            self.response |= {"conversation": {"id": event.run.conversation_id}, "model": event.run.model}
        if self.number < 0:
            # Also where what is left of the log begins later.
            self._tell("response.created", response=self.response)
            self._tell("response.in_progress", response=self.response)
        if kind == "text":
            self._take_text(event.text)
        elif kind == "reset":
            self._take_back(event.reset.offset)
        elif kind == "tool_use":
            self._call(event.tool_use)
        elif kind == "tool_result":
            self._answer(event.tool_result)
        elif kind == "usage":
            self.response["usage"] = _usage(event.usage)
        elif kind == "done":
            status, details = _ENDS.get(event.done.status, ("incomplete", None))
            self.response["model"] = event.done.model or self.response["model"]
            self._end(status, details, None)
        elif kind == "error":
            error = {"code": spelt_code(event.error.reason), "message": event.error.message}
            self._end("failed", None, error | when_again(event.error))

    def _tell(self, kind: str, **members: Any) -> None:
        self.number += 1
        if self.number > self._after or self.ended:
            data = _encode({"type": kind, "sequence_number": self.number, **members})
            self._written.append(b"event: %b\ndata: %b\n\n" % (kind.encode(), data))

    def _take_text(self, text: chat_pb2.Text) -> None:
        whole = self._text[: text.offset] + text.delta
        if not whole.startswith(self._text):
            self._take_back(text.offset)
        delta = whole[len(self._text) :]
        if not delta:
            return
        item = self._open or self._add_message()
        part = item["content"][0]
        part["text"] += delta
        self._text += delta
        place = {"item_id": item["id"], "output_index": self._indices[-1], "content_index": 0}
        self._tell("response.output_text.delta", **place, delta=delta, logprobs=[])

    def _take_back(self, offset: int) -> None:
        kept = self._text[:offset]
        if self._open is not None and self._text != kept:
            self._close("incomplete")
        while self._items and self._is_void(self._items[-1], self._starts[-1], offset):
            self._drop()
        shown = "".join(item["content"][0]["text"] for item in self._items if item["type"] == "message")
        if self._items and self._items[-1]["type"] == "message" and len(shown) > offset:
            # Part of the item still counts: it is told again as an item of its own.
            start = self._starts[-1]
            self._drop()
            self._text = kept[:start]
            self._take_text(chat_pb2.Text(offset=start, delta=kept[start:]))
        self._text = kept

    @staticmethod
    def _is_void(item: dict[str, Any], start: int, offset: int) -> bool:
        if item["type"] == "message":
            return start >= offset
        return start > offset or (start == offset and item["output"] is None)

    def _drop(self) -> None:
        self._items.pop()
        self._starts.pop()
        self._indices.pop()

    def _add(self, item: dict[str, Any]) -> dict[str, Any]:
        self._items.append(item)
        self._starts.append(len(self._text))
        self._indices.append(self._opened)
        self._opened += 1
        self._tell("response.output_item.added", output_index=self._indices[-1], item=item)
        return item

    def _item_id(self, kind: str) -> str:
        return f"{kind}_{UUID(self._run_id).hex}_{self._opened}"

    def _add_message(self) -> dict[str, Any]:
        item: dict[str, Any] = {
            "id": self._item_id("msg"),
            "type": "message",
            "role": "assistant",
            "status": "in_progress",
            "content": [],
        }
        self._open = self._add(item)
        part = {"type": "output_text", "text": "", "annotations": []}
        place = {"item_id": item["id"], "output_index": self._indices[-1], "content_index": 0}
        self._tell("response.content_part.added", **place, part=part)
        item["content"] = [part]
        return item

    def _close(self, status: str = "completed") -> None:
        item, self._open = self._open, None
        if item is None:
            return
        item["status"] = status
        [part] = item["content"]
        place = {"item_id": item["id"], "output_index": self._indices[-1], "content_index": 0}
        self._tell("response.output_text.done", **place, text=part["text"], logprobs=[])
        self._tell("response.content_part.done", **place, part=part)
        self._tell("response.output_item.done", output_index=self._indices[-1], item=item)

    def _call(self, use: chat_pb2.ToolUse) -> None:
        self._close()
        self._add(
            {
                "id": self._item_id("mcp"),
                "type": "mcp_call",
                "status": "in_progress",
                "server_label": "parley",
                "name": use.name,
                "arguments": use.input_json,
                "output": None,
                "error": None,
                "call_id": use.tool_call_id,
            }
        )

    def _answer(self, result: chat_pb2.ToolResult) -> None:
        for place, item in enumerate(self._items):
            if item["type"] == "mcp_call" and item["call_id"] == result.tool_call_id and item["output"] is None:
                item["output"] = result.content
                item["error"] = result.content if result.is_error else None
                item["status"] = "failed" if result.is_error else "completed"
                self._tell("response.output_item.done", output_index=self._indices[place], item=item)
                return

    def _end(self, status: str, details: dict[str, str] | None, error: dict[str, Any] | None) -> None:
        self._close("completed" if status == "completed" else "incomplete")
        self.response |= {
            "status": status,
            "incomplete_details": details,
            "error": error,
            "output": self._items,
        }
        self.ended = (
            True  # which is always told: a log that has been shortened has fewer events than its reader may have seen
        )
        self._tell(_LAST.get(status, "response.incomplete"), response=self.response)


def _usage(usage: chat_pb2.Usage) -> dict[str, Any]:
    return {
        "input_tokens": usage.input_tokens,
        "input_tokens_details": {"cached_tokens": usage.cached_tokens, "cache_write_tokens": 0},
        "output_tokens": usage.output_tokens,
        "output_tokens_details": {"reasoning_tokens": usage.reasoning_tokens},
        "total_tokens": usage.input_tokens + usage.output_tokens,
    }
