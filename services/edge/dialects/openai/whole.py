"""An answer that comes at once, as a `chat.completion`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from services.edge.dialects.openai.chunks import FINISH_REASONS, usage_of

if TYPE_CHECKING:
    from collections.abc import Iterable

    from parley.gateway.v1 import gateway_pb2 as pb


class Whole:
    """Gathers the deltas of one answer.

    Args:
        answer_id: Of the answer.
        created: When it began, seconds since the epoch.
        model: The one that was asked for, told where it is not known which one answered.
    """

    def __init__(self, answer_id: str, created: int, model: str) -> None:
        self.finished: pb.Finished | None = None
        self._id = answer_id
        self._created = created
        self._model = model
        self._begin_anew()

    def take(self, deltas: Iterable[pb.ChatDelta]) -> None:
        """Takes deltas, in order."""
        for delta in deltas:
            kind = delta.WhichOneof("kind")
            if kind == "text":
                self._texts.append(delta.text)
            elif kind == "reasoning":
                self._reasoning.append(delta.reasoning)
            elif kind == "tool_call":
                self._take_call(delta.tool_call)
            elif kind == "logprobs_json":
                self._logprobs.append(delta.logprobs_json)
            elif kind == "reset":
                self._begin_anew()
            elif kind == "finished":
                self.finished = delta.finished
            elif kind == "started":
                self._model = delta.started.model

    def body(self) -> bytes:
        """Returns the answer, which has finished."""
        assert self.finished is not None  # noqa: S101 - the caller's to see to
        text = "".join(self._texts)
        message: dict[str, Any] = {
            "role": "assistant",
            "content": text if text or not self._calls else None,
            "refusal": None,
        }
        if self._reasoning:
            message["reasoning_content"] = "".join(self._reasoning)
        if self._calls:
            message["tool_calls"] = [
                {"id": call["id"], "type": "function", "function": {"name": call["name"], "arguments": "".join(parts)}}
                for call, parts in (self._calls[index] for index in sorted(self._calls))
            ]
        choice = {
            "index": 0,
            "message": message,
            "logprobs": self._told_logprobs(),
            "finish_reason": FINISH_REASONS.get(self.finished.reason, "stop"),
        }
        return msgspec.json.encode(
            {
                "id": self._id,
                "object": "chat.completion",
                "created": self._created,
                "model": self._model,
                "choices": [choice],
                "usage": usage_of(self.finished.usage),
            }
        )

    def _begin_anew(self) -> None:
        self._texts: list[str] = []
        self._reasoning: list[str] = []
        self._logprobs: list[str] = []
        self._calls: dict[int, tuple[dict[str, str], list[str]]] = {}

    def _take_call(self, piece: pb.ToolCallDelta) -> None:
        call, parts = self._calls.setdefault(piece.index, ({"id": "", "name": ""}, []))
        call["id"] = call["id"] or piece.id
        call["name"] = call["name"] or piece.name
        parts.append(piece.arguments_delta)

    def _told_logprobs(self) -> dict[str, Any] | None:
        """Joins what came piece by piece, member by member."""
        if not self._logprobs:
            return None
        joined: dict[str, Any] = {"content": None, "refusal": None}
        for piece in self._logprobs:
            for name, entries in msgspec.json.decode(piece).items():
                if isinstance(entries, list):
                    joined[name] = [*(joined.get(name) or []), *entries]
        return joined
