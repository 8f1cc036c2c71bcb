"""OpenAI's chat completions over HTTP for the demo model: streamed word by word, or whole."""

from __future__ import annotations

import asyncio
import json
import time
import uuid
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from deploy.local.demo_provider.answers import Answer, ToolCall, answer, pieces

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from deploy.local.http_server import Request, Response

MODEL = "demo"

_SLOWER = 10
_RETRY_AFTER_S = 2


class _BadRequestError(Exception):
    """The body is none of ours; the message goes to the caller."""


@dataclass(frozen=True)
class _Call:
    messages: list[dict[str, Any]]
    tools: list[dict[str, Any]]
    model: str
    stream: bool
    include_usage: bool
    max_tokens: int | None

    @classmethod
    def parse(cls, body: bytes) -> _Call:
        try:
            given = json.loads(body)
        except ValueError:
            raise _BadRequestError("The body is not JSON.") from None
        messages = given.get("messages") if isinstance(given, dict) else None
        if not isinstance(messages, list) or not messages or not all(isinstance(item, dict) for item in messages):
            raise _BadRequestError("`messages` must be a list of at least one message.")
        limit = given.get("max_completion_tokens") or given.get("max_tokens")
        return cls(
            messages=messages,
            tools=[tool for tool in given.get("tools") or [] if isinstance(tool, dict)],
            model=str(given.get("model") or MODEL),
            stream=given.get("stream") is True,
            include_usage=bool((given.get("stream_options") or {}).get("include_usage")),
            max_tokens=limit if isinstance(limit, int) and limit > 0 else None,
        )


class DemoProvider:
    """The HTTP side of the demo model.

    Args:
        tokens_per_s: How fast it speaks; a word is a token.
    """

    def __init__(self, tokens_per_s: float = 40) -> None:
        self._pause_s = 1 / tokens_per_s

    async def handle(self, request: Request, response: Response) -> None:
        """Answers one request; what it does not know is left to the server's 404."""
        path = request.path.removeprefix("/v1")
        if (request.method, path) == ("GET", "/healthz"):
            response.send_json(200, {"status": "ok"})
        elif (request.method, path) == ("GET", "/models"):
            model = {"id": MODEL, "object": "model", "created": 0, "owned_by": "parley-demo"}
            response.send_json(200, {"object": "list", "data": [model]})
        elif (request.method, path) == ("POST", "/chat/completions"):
            try:
                call = _Call.parse(request.body)
            except _BadRequestError as fault:
                response.send_json(400, _error(str(fault), "invalid_request_error"))
            else:
                await self._complete(call, response)

    async def _complete(self, call: _Call, response: Response) -> None:
        chosen = answer(call.messages, call.tools)
        if chosen.fault == "server_error":
            response.send_json(500, _error("The demo model was asked to fail.", "server_error"))
        elif chosen.fault == "busy":
            busy = _error("The demo model was asked to be busy.", "rate_limit_error")
            response.send_json(429, busy, {"retry-after": str(_RETRY_AFTER_S)})
        elif call.stream:
            await self._stream(call, chosen, response)
        else:
            await self._whole(call, chosen, response)

    async def _stream(self, call: _Call, chosen: Answer, response: Response) -> None:
        head = _head(call, "chat.completion.chunk")
        response.begin(200, "text/event-stream")
        await response.write(_event(head | {"choices": [_choice({"role": "assistant", "content": ""})]}))
        said = 0
        async for delta in self._deltas(call, chosen):
            said += 1
            await response.write(_event(head | {"choices": [_choice(delta)]}))
        if chosen.fault == "break":
            response.cut()
            return
        if chosen.fault == "stall":
            await asyncio.Event().wait()
        await response.write(_event(head | {"choices": [_choice({}, _finish(call, chosen))]}))
        if call.include_usage:
            await response.write(_event(head | {"choices": [], "usage": _usage(call, chosen, said)}))
        await response.write(b"data: [DONE]\n\n")
        response.end()

    async def _whole(self, call: _Call, chosen: Answer, response: Response) -> None:
        deltas = [delta async for delta in self._deltas(call, chosen)]
        message: dict[str, Any] = {"role": "assistant", "content": "".join(d.get("content", "") for d in deltas)}
        if reasoning := "".join(delta.get("reasoning_content", "") for delta in deltas):
            message["reasoning_content"] = reasoning
        if calls := [call for delta in deltas for call in delta.get("tool_calls", ())]:
            message["tool_calls"] = calls
        choice = {"index": 0, "message": message, "finish_reason": _finish(call, chosen)}
        usage = _usage(call, chosen, len(deltas))
        response.send_json(200, _head(call, "chat.completion") | {"choices": [choice], "usage": usage})

    async def _deltas(self, call: _Call, chosen: Answer) -> AsyncIterator[dict[str, Any]]:
        """Yields the answer in OpenAI's deltas at the pace of speech, which a slow reader does not shift."""
        clock = asyncio.get_running_loop().time
        due = clock()
        thoughts = [{"reasoning_content": piece} for piece in pieces(chosen.reasoning)]
        words = [{"content": piece} for piece in pieces(chosen.text)][: call.max_tokens]
        if chosen.fault:
            words = words[: len(words) // 2]
        calls: list[dict[str, Any]] = [
            {"tool_calls": [_called(place, made)]} for place, made in enumerate(chosen.tool_calls)
        ]
        for delta in [*thoughts, *words, *calls]:
            yield delta
            due += self._pause_s * (_SLOWER if chosen.slow else 1)
            await asyncio.sleep(due - clock())


def _called(place: int, made: ToolCall) -> dict[str, Any]:
    function = {"name": made.name, "arguments": made.arguments}
    return {"index": place, "id": f"call_{uuid.uuid4().hex}", "type": "function", "function": function}


def _head(call: _Call, kind: str) -> dict[str, Any]:
    return {"id": f"chatcmpl-{uuid.uuid4().hex}", "object": kind, "created": int(time.time()), "model": call.model}


def _choice(delta: dict[str, Any], finish_reason: str | None = None) -> dict[str, Any]:
    return {"index": 0, "delta": delta, "finish_reason": finish_reason}


def _finish(call: _Call, chosen: Answer) -> str:
    if chosen.tool_calls:
        return "tool_calls"
    return "length" if call.max_tokens is not None and len(pieces(chosen.text)) > call.max_tokens else "stop"


def _usage(call: _Call, chosen: Answer, said: int) -> dict[str, Any]:
    """Counts a word as a token, on both sides."""
    given = sum(len(str(message.get("content") or "").split()) for message in call.messages)
    return {
        "prompt_tokens": given,
        "completion_tokens": said,
        "total_tokens": given + said,
        "prompt_tokens_details": {"cached_tokens": 0},
        "completion_tokens_details": {"reasoning_tokens": len(pieces(chosen.reasoning))},
    }


def _event(value: dict[str, Any]) -> bytes:
    return b"data: " + json.dumps(value, separators=(",", ":"), ensure_ascii=False).encode() + b"\n\n"


def _error(message: str, kind: str) -> dict[str, Any]:
    return {"error": {"message": message, "type": kind, "param": None, "code": None}}
