"""The model provider: it answers each task with its right words, from wherever the prompt leaves off, and notes every call."""

from __future__ import annotations

import asyncio
import json
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

from tests.chaos.task import Task
from tests.fakes.http_server import Exchange, HttpServer

if TYPE_CHECKING:
    from collections.abc import Sequence

TURN = "You take part in a test of endurance."
"""The system prompt of turns, by which they are told from the calls that make titles."""
TOOL = "note_effect"
_MODELS = ("gpt-4o-mini", "gpt-4o")


@dataclass
class Call:
    """One model call.

    Attributes:
        task: Its id.
        step: Which model call of the run it wants to be, by the prompt: from 1.
        began_at: `time.monotonic()`.
        words: How many words were sent.
        whole: The answer was sent to its end.
        fault: What was done instead.
        ended_at: When it was over; None: it is not.
    """

    task: str
    step: int
    began_at: float
    words: int = 0
    whole: bool = False
    fault: str = ""
    ended_at: float | None = None


class Provider:
    """Speaks OpenAI's chat completions on loopback; an async context manager.

    Attributes:
        calls: Every call for a turn so far.
    """

    def __init__(self) -> None:
        self.calls: list[Call] = []
        self._server = HttpServer(self._handle, port=0, changed=lambda: None)

    async def __aenter__(self) -> Self:
        await self._server.__aenter__()
        return self

    async def __aexit__(self, *error: object) -> None:
        await self._server.__aexit__(*error)

    @property
    def base_url(self) -> str:
        """What `OPENAI_BASE_URL` is set to."""
        return f"http://127.0.0.1:{self._server.port}/v1"

    async def _handle(self, exchange: Exchange) -> None:
        request = exchange.request
        if request.method == "GET":
            models = [{"id": name, "object": "model", "owned_by": "chaos"} for name in _MODELS]
            await exchange.reply(200, json.dumps({"object": "list", "data": models}).encode(), "application/json")
            return
        body = request.body
        messages: list[dict[str, Any]] = body["messages"]
        task, after = _asked(messages)
        if task is None or not any(TURN in _text(one) for one in messages if one.get("role") == "system"):
            await _stream(exchange, ["A", " title"], body)
            return
        call = Call(
            task.id,
            sum(1 for one in after if one.get("role") == "assistant" and one.get("tool_calls")) + 1,
            time.monotonic(),
        )
        first = not any(before.task == task.id for before in self.calls)
        self.calls.append(call)
        try:
            await self._answer(exchange, task, call, after, body, fault=task.fault if first else "")
        finally:
            call.ended_at = time.monotonic()

    async def _answer(
        self,
        exchange: Exchange,
        task: Task,
        call: Call,
        after: Sequence[dict[str, Any]],
        body: dict[str, Any],
        *,
        fault: str,
    ) -> None:
        kind, _, at = fault.partition(":")
        call.fault = kind
        if kind in {"429", "500"}:
            error = {"error": {"message": "PROVIDER-SECRET-WORDS", "type": "server_error"}}
            await exchange.reply(int(kind), json.dumps(error).encode(), "application/json")
            return
        pieces = _left(task, call.step, "".join(_text(one) for one in after if one.get("role") == "assistant"))
        if kind:
            await self._play(exchange, task, call, pieces[: int(at)], body)
            if kind == "stall":
                await exchange.until_closed()
            exchange.abort()
            return
        await self._play(exchange, task, call, pieces, body)
        calls_tool = task.effect and call.step == 1 and bool(body.get("tools"))
        await _end(exchange, task, calls_tool=calls_tool, words=len(pieces), body=body)
        call.whole = True

    async def _play(
        self, exchange: Exchange, task: Task, call: Call, pieces: Sequence[str], body: dict[str, Any]
    ) -> None:
        await exchange.start(200, {"content-type": "text/event-stream"})
        loop = asyncio.get_running_loop()
        due = loop.time()
        for piece in pieces:
            due += task.every_ms / 1000
            await asyncio.sleep(max(0.0, due - loop.time()))
            await exchange.send(_chunk({"content": piece}, body))
            call.words += 1


def _asked(messages: Sequence[dict[str, Any]]) -> tuple[Task | None, Sequence[dict[str, Any]]]:
    """Returns the task at hand and the messages after it."""
    for place in range(len(messages) - 1, -1, -1):
        if messages[place].get("role") == "user" and (task := Task.find(_text(messages[place]))):
            return task, messages[place + 1 :]
    return None, ()


def _left(task: Task, step: int, said: str) -> list[str]:
    """Returns the words of a step that the prompt does not hold yet."""
    before = "".join(word for earlier in range(1, step) for word in task.pieces(earlier))
    own = said[len(before) :]
    pieces = task.pieces(step)
    for place in range(len(pieces) + 1):
        if "".join(pieces[:place]) == own:
            return pieces[place:]
    return pieces


def _text(message: dict[str, Any]) -> str:
    content = message.get("content")
    parts = content if isinstance(content, list) else [{"text": content or ""}]
    return "".join(str(part.get("text", "")) for part in parts if isinstance(part, dict))


async def _stream(exchange: Exchange, pieces: Sequence[str], body: dict[str, Any]) -> None:
    await exchange.start(200, {"content-type": "text/event-stream"})
    for piece in pieces:
        await exchange.send(_chunk({"content": piece}, body))
    await _end(exchange, None, calls_tool=False, words=len(pieces), body=body)


async def _end(exchange: Exchange, task: Task | None, *, calls_tool: bool, words: int, body: dict[str, Any]) -> None:
    if calls_tool and task is not None:
        function = {"name": TOOL, "arguments": json.dumps({"task": task.id})}
        call = {"index": 0, "id": f"call-{task.id}", "type": "function", "function": function}
        await exchange.send(_chunk({"tool_calls": [call]}, body))
    await exchange.send(_chunk({}, body, finish="tool_calls" if calls_tool else "stop"))
    usage = {"prompt_tokens": 11, "completion_tokens": words, "total_tokens": 11 + words}
    await exchange.send(_data({**_base(body), "choices": [], "usage": usage}) + b"data: [DONE]\n\n")
    await exchange.finish()


def _chunk(delta: dict[str, Any], body: dict[str, Any], *, finish: str | None = None) -> bytes:
    return _data({**_base(body), "choices": [{"index": 0, "delta": delta, "finish_reason": finish}]})


def _base(body: dict[str, Any]) -> dict[str, Any]:
    return {
        "id": "chatcmpl-chaos",
        "object": "chat.completion.chunk",
        "created": 1_760_000_000,
        "model": body.get("model"),
    }


def _data(value: object) -> bytes:
    return b"data: " + json.dumps(value, ensure_ascii=False).encode() + b"\n\n"
