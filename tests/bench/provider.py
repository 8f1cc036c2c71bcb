"""The benchmark's provider: an OpenAI-shaped server that does as little per token as Python allows.

    python -m tests.bench.provider        prints its port, ends when its standard input does

POST /v1/chat/completions streams (or, without `stream`, returns) what the model's name orders; the prompt plays no part.
GET /v1/models lists a few models. GET /_stats tells what happened since the last time it was asked.
"""

from __future__ import annotations

import asyncio
import functools
import gc
import json
import os
import sys
import time
import zlib
from typing import Any

import uvloop

from tests.bench import answers
from tests.bench.answers import Answer
from tests.bench.wheel import Wheel

_HEAD = (
    b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream; charset=utf-8\r\ncache-control: no-cache\r\n"
    b"x-request-id: req_bench\r\ntransfer-encoding: chunked\r\n\r\n"
)
_MODELS = ("bench-paced-50x100", "bench-burst-1000")
_PIECE_BYTES = 256 * 1024


def _chunk(payload: bytes) -> bytes:
    return b"%x\r\ndata: %s\n\n\r\n" % (len(payload) + len(b"data: \n\n"), payload)


def _frame(choices: str, more: str = "") -> bytes:
    return _chunk(
        b'{"id":"chatcmpl-bench","object":"chat.completion.chunk","created":1790000000,"model":"bench",'
        b'"service_tier":"default","system_fingerprint":"fp_bench","choices":%s%s}' % (choices.encode(), more.encode())
    )


def _delta(delta: str, finish: str = "null") -> bytes:
    return _frame(f'[{{"index":0,"delta":{delta},"logprobs":null,"finish_reason":{finish}}}]')


def _text(text: str) -> bytes:
    return _delta(json.dumps({"content": text}, separators=(",", ":")))


_ROLE = _delta('{"role":"assistant","content":"","refusal":null}')
_STOP = _delta("{}", '"stop"')
_DONE = _chunk(b"[DONE]") + b"0\r\n\r\n"
# The frame of a paced token, cut where the token stands: all of them have the same length.
_BEFORE, _AFTER = _text("~" * answers.TOKEN_WIDTH).split(b"~" * answers.TOKEN_WIDTH)


def _end(text_sum: int, answer: Answer) -> bytes:
    usage = f',"usage":{json.dumps(_usage(answer))}'
    return _text(answers.sum_piece(text_sum).decode()) + _STOP + _frame("[]", usage) + _DONE


def _usage(answer: Answer) -> dict[str, int]:
    return {"prompt_tokens": 10, "completion_tokens": answer.tokens, "total_tokens": answer.tokens + 10}


@functools.cache
def _burst(tokens: int) -> bytes:
    text_sum = zlib.crc32(answers.burst_text(tokens).encode())
    frames = b"".join(_text(text) for text in answers.burst_tokens(tokens))
    return _HEAD + _ROLE + frames + _end(text_sum, Answer(0, tokens))


class Provider:
    """What the connections share."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.wheel = Wheel(loop)
        self.asked = 0
        self.finished = 0
        self.closed_early_ns: list[int] = []

    def stats(self) -> dict[str, Any]:
        """Returns what happened since the last call: counts, moments (CLOCK_MONOTONIC, ns) and the wheel's lateness in ms."""
        late = sorted(self.wheel.lateness_ns)
        found = {
            "asked": self.asked,
            "finished": self.finished,
            "closed_early_ns": self.closed_early_ns,
            "late_p99_ms": late[len(late) * 99 // 100] / 1e6 if late else None,
        }
        self.asked = self.finished = 0
        self.closed_early_ns = []
        self.wheel.lateness_ns.clear()
        return found


class Connection(asyncio.Protocol):
    """One client; it asks again only when it has its answer."""

    def __init__(self, provider: Provider) -> None:
        self._provider = provider
        self._transport: Any = None
        self._received = b""
        self._paused = False
        self._answer: Answer | None = None
        self._left = 0
        self._sum = 0
        self._burst = memoryview(b"")

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport

    def connection_lost(self, exc: Exception | None) -> None:
        del exc
        if self._answer is not None:
            self._provider.closed_early_ns.append(time.monotonic_ns())
            self._answer = None
        self._transport = None

    def data_received(self, data: bytes) -> None:
        self._received += data
        head, separator, rest = self._received.partition(b"\r\n\r\n")
        if not separator:
            return
        lines = head.split(b"\r\n")
        headers = {name.lower(): value for name, _, value in (line.partition(b":") for line in lines[1:])}
        length = int(headers.get(b"content-length", b"0"))
        if len(rest) < length:
            return
        self._received = rest[length:]
        self._asked(lines[0].split(b" "), rest[:length])

    def pause_writing(self) -> None:
        self._paused = True

    def resume_writing(self) -> None:
        self._paused = False
        self._write_burst()

    def send(self, text: bytes) -> bool:
        """Sends a paced token; returns whether more are to come."""
        if self._transport is None or self._answer is None:
            return False
        self._sum = zlib.crc32(text, self._sum)
        self._left -= 1
        if self._left:
            self._transport.write(_BEFORE + text + _AFTER)
            return True
        self._transport.write(_BEFORE + text + _AFTER + _end(self._sum, self._answer))
        self._finish()
        return False

    def _asked(self, request: list[bytes], body: bytes) -> None:
        path = request[1].partition(b"?")[0]
        if path.endswith(b"/chat/completions"):
            order = json.loads(body)
            answer = answers.ordered(order.get("model", ""))
            if answer is None:
                self._json({"error": {"message": "unknown model", "type": "invalid_request_error"}}, 404)
            elif order.get("stream"):
                self._stream(answer)
            else:
                self._json(_completion(answer))
        elif path.endswith(b"/models"):
            self._json({"object": "list", "data": [{"id": name, "object": "model"} for name in _MODELS]})
        elif path == b"/_stats":
            self._json(self._provider.stats())
        else:
            self._json({"error": {"message": "unknown path", "type": "invalid_request_error"}}, 404)

    def _stream(self, answer: Answer) -> None:
        self._provider.asked += 1
        self._answer = answer
        if answer.rate == 0:
            self._burst = memoryview(_burst(answer.tokens))
            self._write_burst()
            return
        text = answers.token(time.monotonic_ns())
        self._sum = zlib.crc32(text)
        self._left = answer.tokens - 1
        opening = _HEAD + _ROLE + _BEFORE + text + _AFTER
        if self._left:
            self._transport.write(opening)
            self._provider.wheel.join(self, answer.rate)
        else:
            self._transport.write(opening + _end(self._sum, answer))
            self._finish()

    def _write_burst(self) -> None:
        while self._burst and not self._paused and self._transport is not None:
            piece, self._burst = self._burst[:_PIECE_BYTES], self._burst[_PIECE_BYTES:]
            if not self._burst:
                self._finish()
            self._transport.write(piece)

    def _finish(self) -> None:
        self._answer = None
        self._provider.finished += 1

    def _json(self, value: object, status: int = 200) -> None:
        body = json.dumps(value).encode()
        head = f"HTTP/1.1 {status} Bench\r\ncontent-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n"
        self._transport.write(head.encode() + body)


def _completion(answer: Answer) -> dict[str, Any]:
    text = answers.burst_text(answer.tokens)
    message = {"role": "assistant", "content": text + answers.sum_piece(zlib.crc32(text.encode())).decode()}
    return {
        "id": "chatcmpl-bench",
        "object": "chat.completion",
        "created": 1790000000,
        "model": "bench",
        "choices": [{"index": 0, "message": message, "finish_reason": "stop"}],
        "usage": _usage(answer),
    }


async def main() -> None:
    """Serves until standard input ends."""
    loop = asyncio.get_running_loop()
    provider = Provider(loop)
    server = await loop.create_server(lambda: Connection(provider), "127.0.0.1", 0, backlog=1024)
    sys.stdout.write(json.dumps({"port": server.sockets[0].getsockname()[1], "pid": os.getpid()}) + "\n")
    sys.stdout.flush()
    # A collection would show up as a pause of the provider; nothing here makes cycles.
    gc.freeze()
    gc.disable()
    await loop.run_in_executor(None, sys.stdin.read)


if __name__ == "__main__":
    uvloop.run(main())
