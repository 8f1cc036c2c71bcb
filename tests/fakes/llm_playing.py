"""Sends what a script says, at its pace."""

from __future__ import annotations

import asyncio
import json
import re
import urllib.parse
from typing import TYPE_CHECKING, Any

from tests.fakes import llm_wires
from tests.fakes.script import Answer, Cut, Fault, Kind, Stall, StreamError

if TYPE_CHECKING:
    from tests.fakes.http_server import Exchange, Request


async def stream(
    exchange: Exchange, kind: Kind, behaviour: Answer | Stall | Cut | StreamError, body: dict[str, Any]
) -> None:
    answer = behaviour if isinstance(behaviour, Answer) else behaviour.answer
    if isinstance(behaviour, Stall) and not (behaviour.headers or behaviour.after or behaviour.after_bytes):
        await exchange.until_closed()
    frames = llm_wires.frames(kind, answer, body, model_of(exchange.request, body))
    if answer.first_delay_s:
        await asyncio.sleep(answer.first_delay_s)
    exchange.deaf = answer.deaf
    await exchange.start(200, {"content-type": frames.content_type, "cache-control": "no-cache"})
    if isinstance(behaviour, Answer):
        await _play(exchange, [*frames.head, *frames.pieces], frames.tail, answer, leading=len(frames.head))
        await exchange.finish()
    elif (
        isinstance(behaviour, Cut | Stall)
        and not behaviour.after
        and (behaviour.after_bytes or behaviour.after is None)
    ):
        everything = b"".join([*frames.head, *frames.pieces, *frames.tail])
        await exchange.send(everything[: behaviour.after_bytes], split=answer.split_bytes)
        await _leave(exchange, behaviour, frames)
    else:
        after = behaviour.after or 0
        opening = frames.head if after or not isinstance(behaviour, Stall) else []
        await _play(exchange, [*opening, *frames.pieces[:after]], [], answer, leading=len(opening))
        if isinstance(behaviour, StreamError):
            await exchange.send(llm_wires.error_frame(kind, behaviour.message, behaviour.code))
            await exchange.finish()
        else:
            await _leave(exchange, behaviour, frames)


async def _leave(exchange: Exchange, behaviour: Cut | Stall, frames: llm_wires.Frames) -> None:
    if isinstance(behaviour, Stall):
        while behaviour.ping_s and frames.ping:
            await exchange.send(frames.ping)
            await asyncio.sleep(behaviour.ping_s)
        await exchange.until_closed()
    elif behaviour.clean:
        await exchange.finish()
    else:
        exchange.abort()


async def _play(exchange: Exchange, pieces: list[bytes], tail: list[bytes], answer: Answer, *, leading: int) -> None:
    """Sends the pieces at the answer's pace; the head leaves with the first piece and the tail with the last."""
    if answer.joined or (not answer.delay_s and answer.split_bytes):
        await exchange.send(b"".join([*pieces, *tail]), split=answer.split_bytes)
        return
    loop = asyncio.get_running_loop()
    due = loop.time()
    batch: list[bytes] = []
    for place, piece in enumerate(pieces):
        batch.append(piece)
        if place < leading:
            continue
        await exchange.send(b"".join(batch), split=answer.split_bytes)
        batch.clear()
        if answer.delay_s:
            # By the clock, not by adding up sleeps: fifty streams on a busy machine keep their pace.
            due += answer.delay_s
            await asyncio.sleep(max(0.0, due - loop.time()))
    if batch or tail:
        await exchange.send(b"".join([*batch, *tail]), split=answer.split_bytes)


async def refuse(exchange: Exchange, kind: Kind, fault: Fault) -> None:
    body = fault.body
    if body is None:
        body = json.dumps(llm_wires.error_body(kind, fault.status, fault.message, fault.code))
    headers = {"retry-after": fault.retry_after} if fault.retry_after is not None else {}
    await exchange.reply(fault.status, body.encode(), fault.content_type, headers)


def model_of(request: Request, body: dict[str, Any]) -> str:
    if found := re.search(r"/(?:deployments|model)/([^/]+)/", request.path):
        return urllib.parse.unquote(found[1])
    return str(body.get("model", "scripted"))
