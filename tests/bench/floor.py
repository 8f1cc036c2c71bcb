"""The least a gRPC server can do: `GatewayService.Chat` that makes up the paced tokens itself, with no chain and no provider.

    python -m tests.bench.floor        prints its port, ends when its standard input does

What the gateway costs beyond this is the gateway's; what this costs is gRPC's.
"""

from __future__ import annotations

import asyncio
import gc
import json
import os
import sys
import time
import zlib
from typing import Any

import grpc
import uvloop

from parley.gateway.v1 import gateway_pb2 as pb
from tests.bench import answers
from tests.bench.wheel import Wheel

_STARTED = pb.ChatDelta(started=pb.Started(provider="openai", model="bench"))
_FINISHED = pb.ChatDelta(finished=pb.Finished(reason=pb.FINISH_REASON_STOP))
_BURST_TOKENS_A_MESSAGE = 64


class _Stream:
    """A call on the wheel: the wheel puts tokens in, the call takes out all there are."""

    def __init__(self, tokens: int) -> None:
        self._left = tokens
        self._waiting: list[bytes] = []
        self._arrived = asyncio.Event()
        self.gone = False

    def send(self, text: bytes) -> bool:
        self._left -= 1
        self._waiting.append(text)
        self._arrived.set()
        return self._left > 0 and not self.gone

    async def take(self) -> list[bytes]:
        await self._arrived.wait()
        self._arrived.clear()
        taken, self._waiting = self._waiting, []
        return taken


def _message(*texts: str) -> bytes:
    return pb.ChatResponse(deltas=[pb.ChatDelta(text=text) for text in texts]).SerializeToString()


def _last(text_sum: int) -> bytes:
    total = pb.ChatDelta(text=answers.sum_piece(text_sum).decode())
    return pb.ChatResponse(deltas=[total, _FINISHED]).SerializeToString()


async def _paced(wheel: Wheel, answer: answers.Answer, context: Any) -> None:
    first = answers.token(time.monotonic_ns())
    opening = pb.ChatResponse(deltas=[_STARTED, pb.ChatDelta(text=first.decode())])
    await context.write(opening.SerializeToString())
    text_sum, left = zlib.crc32(first), answer.tokens - 1
    stream = _Stream(left)
    if left:
        wheel.join(stream, answer.rate)
    try:
        while left:
            for text in await stream.take():
                text_sum = zlib.crc32(text, text_sum)
                left -= 1
                await context.write(_message(text.decode()))
    finally:
        stream.gone = True
    await context.write(_last(text_sum))


async def _burst(answer: answers.Answer, context: Any) -> None:
    tokens = answers.burst_tokens(answer.tokens)
    await context.write(pb.ChatResponse(deltas=[_STARTED]).SerializeToString())
    for start in range(0, len(tokens), _BURST_TOKENS_A_MESSAGE):
        await context.write(_message(*tokens[start : start + _BURST_TOKENS_A_MESSAGE]))
    await context.write(_last(zlib.crc32("".join(tokens).encode())))


async def main() -> None:
    """Serves until standard input ends."""
    loop = asyncio.get_running_loop()
    wheel = Wheel(loop)

    async def chat(request: bytes, context: Any) -> None:
        answer = answers.ordered(pb.ChatRequest.FromString(request).model.rpartition("/")[2])
        if answer is None:
            await context.abort(grpc.StatusCode.NOT_FOUND, "unknown model")
        elif answer.rate:
            await _paced(wheel, answer, context)
        else:
            await _burst(answer, context)

    server = grpc.aio.server()
    handler = grpc.unary_stream_rpc_method_handler(chat)
    server.add_generic_rpc_handlers(
        (grpc.method_handlers_generic_handler("parley.gateway.v1.GatewayService", {"Chat": handler}),)
    )
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    sys.stdout.write(json.dumps({"port": port, "pid": os.getpid()}) + "\n")
    sys.stdout.flush()
    gc.freeze()
    gc.disable()
    await loop.run_in_executor(None, sys.stdin.read)
    await server.stop(0)


if __name__ == "__main__":
    uvloop.run(main())
