"""A streamed answer as `chat.completion.chunk`s: a pure projection of the gateway's deltas, whose frames are pre-built but for the piece."""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING, Any

import msgspec

from parley.gateway.v1 import gateway_pb2 as pb

if TYPE_CHECKING:
    from collections.abc import Iterable

FINISH_REASONS: dict[int, str] = {
    pb.FINISH_REASON_STOP: "stop",
    pb.FINISH_REASON_LENGTH: "length",
    pb.FINISH_REASON_TOOL_CALLS: "tool_calls",
    pb.FINISH_REASON_CONTENT_FILTER: "content_filter",
}
DONE = b"data: [DONE]\n\n"
"""What a whole answer ends with."""

_encode = msgspec.json.Encoder().encode
_NO_LOGPROBS = b"null"


def new_id() -> str:
    """Returns the id of an answer."""
    return f"chatcmpl-{secrets.token_hex(14)}"


class Chunks:
    """Spells the deltas of one answer, in order.

    Args:
        answer_id: Of the answer.
        created: When it began, seconds since the epoch.
        model: The one that was asked for, told until it is known which one answers.
        include_usage: Whether the tokens used are told.
    """

    def __init__(self, answer_id: str, created: int, model: str, *, include_usage: bool) -> None:
        self.finished = False
        self._id = answer_id
        self._created = created
        self._include_usage = include_usage
        self._greeted = False
        self._tail = b',"usage":null}\n\n' if include_usage else b"}\n\n"
        self._head = b""
        self._name(model)

    def spell(self, deltas: Iterable[pb.ChatDelta]) -> bytes:
        """Returns the frames of deltas that came together, joined; empty where there is nothing to show yet."""
        frames: list[bytes] = []
        for delta in deltas:
            kind = delta.WhichOneof("kind")
            if kind == "text":
                self._add(frames, b'{"content":%b}' % _encode(delta.text))
            elif kind == "tool_call":
                self._add(frames, _encode({"tool_calls": [_tool_call(delta.tool_call)]}))
            elif kind == "reasoning":
                # The name that servers of open models gave it.
                self._add(frames, b'{"reasoning_content":%b}' % _encode(delta.reasoning))
            elif kind == "logprobs_json":
                self._add(frames, b"{}", logprobs=_one_line(delta.logprobs_json))
            elif kind == "finished":
                self._finish(frames, delta.finished)
            elif kind == "started":
                self._name(delta.started.model)
        return b"".join(frames)

    def _name(self, model: str) -> None:
        told = _encode(
            {"id": self._id, "object": "chat.completion.chunk", "created": self._created, "model": model, "choices": []}
        )
        self._bare = b"data: " + told[:-1]
        self._head = self._bare[:-1] + b'{"index":0,"delta":'

    def _add(
        self, frames: list[bytes], delta: bytes, *, finish: bytes = b"null", logprobs: bytes = _NO_LOGPROBS
    ) -> None:
        if not self._greeted:
            self._greeted = True
            self._add(frames, b'{"role":"assistant","content":""}')
        frames.append(b'%b%b,"logprobs":%b,"finish_reason":%b}]%b' % (self._head, delta, logprobs, finish, self._tail))

    def _finish(self, frames: list[bytes], finished: pb.Finished) -> None:
        self.finished = True
        self._add(frames, b"{}", finish=_encode(FINISH_REASONS.get(finished.reason, "stop")))
        if self._include_usage:
            frames.append(b'%b,"usage":%b}\n\n' % (self._bare, _encode(usage_of(finished.usage))))
        frames.append(DONE)


def usage_of(usage: pb.Usage) -> dict[str, Any]:
    """Returns tokens used, as OpenAI tells them."""
    return {
        "prompt_tokens": usage.input_tokens,
        "completion_tokens": usage.output_tokens,
        "total_tokens": usage.input_tokens + usage.output_tokens,
        "prompt_tokens_details": {"cached_tokens": usage.cached_tokens},
        "completion_tokens_details": {"reasoning_tokens": usage.reasoning_tokens},
    }


def _one_line(text: str) -> bytes:
    raw = text.encode()
    # A frame is a line: what a provider has laid out over several is written anew.
    return _encode(msgspec.json.decode(raw)) if b"\n" in raw or b"\r" in raw else raw


def _tool_call(piece: pb.ToolCallDelta) -> dict[str, Any]:
    if not piece.id and not piece.name:
        return {"index": piece.index, "function": {"arguments": piece.arguments_delta}}
    return {
        "index": piece.index,
        "id": piece.id,
        "type": "function",
        "function": {"name": piece.name, "arguments": piece.arguments_delta},
    }
