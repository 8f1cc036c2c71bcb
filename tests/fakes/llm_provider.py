"""A model provider over HTTP that does what its script says.

It speaks OpenAI's chat completions (under any path that ends in `/chat/completions`, so also Azure's and OpenRouter's), Anthropic's
messages, Ollama's `/api/chat` (with `/api/show` and `/api/tags`) and Bedrock's `converse-stream`,
and makes embeddings in OpenAI's and Ollama's way. Without a script it answers
"Hello from the scripted provider.", word by word.

In a test:

    async with ScriptedProvider() as provider:
        provider.script(Fault(status=429, retry_after="1"), Answer(text="after the wait"))
        provider.script(Stall(after=2), match="please hang")    # only for a prompt whose last user message says so
        provider.script(Answer(text="", tools=[ToolUse("now")]), match="the time", step=0, times=99)  # however often it is asked …
        provider.script(Answer(text="It is noon."), match="the time", step=1, times=99)              # … each step has its answer
        ...                                                     # OPENAI_BASE_URL = provider.base_url + "/v1"
        assert provider.requests[0].body["model"] == "gpt-4o-mini"
        await provider.until(lambda: provider.closed_early)     # the client has hung up on an unfinished answer

As a process: `python -m tests.fakes.llm_provider --port 9000`; it prints `listening on http://127.0.0.1:9000`. Another process scripts it by

    POST   /_script    {"kind": "fault", "status": 429}                       the next request
                       {"behaviour": {"kind": "answer", "text": "Hi"}, "match": "greet me", "times": 2}, or a list of either
    DELETE /_script    forgets the script and the requests
    GET    /_requests  [{"number", "method", "path", "query", "headers", "body", "answered", "closed_early"}, …]; `authorization` is masked

The fields of every behaviour are those of the structs in `tests/fakes/script.py`.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import sys
from typing import TYPE_CHECKING, Any

import msgspec

from tests.fakes import llm_embeddings, llm_playing, llm_wires
from tests.fakes.http_server import Exchange, Gone, HttpServer, Request
from tests.fakes.script import (
    Answer,
    Behaviour,
    Cut,
    Fault,
    Garbage,
    Hangup,
    Kind,
    Scripted,
    Stall,
    StreamError,
    ToolUse,
    UsageReport,
)

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Self

__all__ = [
    "Answer",
    "Cut",
    "Fault",
    "Garbage",
    "Hangup",
    "Request",
    "ScriptedProvider",
    "Stall",
    "StreamError",
    "ToolUse",
    "UsageReport",
]

MODELS = ("gpt-4o-mini", "gpt-4o", "scripted")
_SECRET_HEADERS = {"authorization", "x-api-key", "api-key"}


class ScriptedProvider:
    """The provider in this process; an async context manager.

    Args:
        port: 0 takes a free one.
        api_key: Refuses requests that do not carry it (bearer, `x-api-key` or `api-key`); None: anyone may come in.
        default: What is done when the script is empty.

    Attributes:
        requests: Every model call so far, in order of arrival.
    """

    def __init__(self, *, port: int = 0, api_key: str | None = None, default: Behaviour | None = None) -> None:
        self.requests: list[Request] = []
        self.default: Behaviour = default or Answer()
        self._api_key = api_key
        self._queue: list[Behaviour] = []
        self._matched: list[Scripted] = []
        self._changed = asyncio.Event()
        self._server = HttpServer(self._handle, port=port, changed=self._announce)

    async def __aenter__(self) -> Self:
        await self._server.__aenter__()
        return self

    async def __aexit__(self, *error: object) -> None:
        await self._server.__aexit__(*error)

    @property
    def base_url(self) -> str:
        """`http://127.0.0.1:port`, without a path: OpenAI's base is this plus `/v1`, Ollama's and Anthropic's is this."""
        return f"http://127.0.0.1:{self._server.port}"

    @property
    def closed_early(self) -> list[Request]:
        """The requests whose client hung up before the answer was complete."""
        return [request for request in self.requests if request.closed_early]

    @property
    def open_connections(self) -> int:
        """Connections that are open now, idle ones included."""
        return len(self._server.connections)

    def script(self, *behaviours: Behaviour, match: str = "", times: int = 1, step: int | None = None) -> None:
        """Adds what the next requests meet, one behaviour each.

        Args:
            behaviours: In order.
            match: Only for requests whose last user message holds this text; they come before the unmatched ones.
            times: How many requests each serves.
            step: Only for this step of a turn, from 0; see `script.Scripted`. These, too, come before the unmatched ones.
        """
        for behaviour in behaviours:
            if match or step is not None:
                self._matched.append(Scripted(behaviour, match, times, step))
            else:
                self._queue += [behaviour] * times

    def reset(self) -> None:
        """Forgets the script and the requests."""
        self._queue.clear()
        self._matched.clear()
        self.requests.clear()

    async def until(self, condition: Callable[[], object], *, timeout_s: float = 10) -> None:
        """Waits until the condition holds; it is looked at whenever a request begins, ends or is hung up on.

        Raises: TimeoutError.
        """
        async with asyncio.timeout(timeout_s):
            while not condition():
                self._changed.clear()
                await self._changed.wait()

    def _announce(self) -> None:
        self._changed.set()

    async def _handle(self, exchange: Exchange) -> None:
        request = exchange.request
        if request.path in {"/_script", "/_requests"}:
            await self._control(exchange)
        elif request.method == "GET" or request.path == "/api/show":
            await self._describe(exchange)
        elif request.path.endswith(("/embeddings", "/api/embed")):
            self.requests.append(request)
            self._announce()
            await self._embed(exchange)
        elif (kind := _kind(request.path)) is None:
            await exchange.reply(404, b'{"error":{"message":"no such path"}}', "application/json")
        else:
            self.requests.append(request)
            self._announce()
            await self._call(exchange, kind)

    async def _call(self, exchange: Exchange, kind: Kind) -> None:
        request = exchange.request
        if not self._admits(request):
            await llm_playing.refuse(
                exchange, kind, Fault(status=401, message=f"Incorrect API key PROVIDER-SECRET-WORDS: {_key(request)}")
            )
            return
        body = request.body
        if not isinstance(body, dict) or not isinstance(body.get("messages"), list):
            await llm_playing.refuse(
                exchange, kind, Fault(status=400, message="PROVIDER-SECRET-WORDS: the body has no messages")
            )
            return
        behaviour = self._next(body)
        if isinstance(behaviour, Hangup):
            exchange.abort()
        elif isinstance(behaviour, Fault):
            await asyncio.sleep(behaviour.delay_s)
            await llm_playing.refuse(exchange, kind, behaviour)
        elif isinstance(behaviour, Garbage):
            content_type = behaviour.content_type or llm_wires.frames(kind, Answer(), {}, "").content_type
            await exchange.start(behaviour.status, {"content-type": content_type})
            await exchange.send(behaviour.data, split=behaviour.split_bytes)
            await exchange.finish()
        elif isinstance(behaviour, Answer) and not _streams(kind, body):
            await asyncio.sleep(behaviour.first_delay_s)
            whole = json.dumps(llm_wires.whole(behaviour, llm_playing.model_of(request, body))).encode()
            await exchange.reply(200, whole, "application/json")
        else:
            await llm_playing.stream(exchange, kind, behaviour, body)

    async def _embed(self, exchange: Exchange) -> None:
        behaviour = self._queue.pop(0) if self._queue else None
        if not self._admits(exchange.request):
            behaviour = Fault(status=401)
        if isinstance(behaviour, Hangup):
            exchange.abort()
        elif isinstance(behaviour, Fault):
            await llm_playing.refuse(exchange, "openai", behaviour)
        elif isinstance(behaviour, Garbage):
            await exchange.reply(behaviour.status, behaviour.data, behaviour.content_type or "application/json")
        else:
            answer = llm_embeddings.answer(exchange.request.path, exchange.request.body)
            await exchange.reply(200, json.dumps(answer).encode(), "application/json")

    def _admits(self, request: Request) -> bool:
        return self._api_key is None or _key(request) == self._api_key

    def _next(self, body: dict[str, Any]) -> Behaviour:
        for place, entry in enumerate(self._matched):
            if entry.fits(body):
                if entry.times > 1:
                    self._matched[place] = Scripted(entry.behaviour, entry.match, entry.times - 1, entry.step)
                else:
                    del self._matched[place]
                return entry.behaviour
        return self._queue.pop(0) if self._queue else self.default

    async def _control(self, exchange: Exchange) -> None:
        request = exchange.request
        if request.path == "/_requests":
            seen = [_described(one) for one in self.requests]
            await exchange.reply(200, json.dumps(seen).encode(), "application/json")
            return
        if request.method == "DELETE":
            self.reset()
        else:
            try:
                for entry in _scripted(request.raw):
                    self.script(entry.behaviour, match=entry.match, times=entry.times, step=entry.step)
            except msgspec.ValidationError as error:
                await exchange.reply(400, json.dumps({"error": str(error)}).encode(), "application/json")
                return
        await exchange.reply(204, b"", "application/json")

    async def _describe(self, exchange: Exchange) -> None:
        path = exchange.request.path
        if path == "/api/tags":
            answer: object = {"models": [{"name": "llama3.2:latest", "model": "llama3.2:latest"}]}
        elif path == "/api/version":
            answer = {"version": "0.0.0-scripted"}
        elif path == "/api/show":
            answer = {
                "capabilities": ["completion", "tools"],
                "model_info": {"llama.context_length": 8192},
                "template": "",
            }
        elif path.endswith("/v1/models"):
            answer = {
                "object": "list",
                "data": [{"id": name, "object": "model", "owned_by": "scripted"} for name in MODELS],
            }
        else:
            await exchange.reply(404, b"{}", "application/json")
            return
        await exchange.reply(200, json.dumps(answer).encode(), "application/json")


def _kind(path: str) -> Kind | None:
    if path.endswith("/chat/completions"):
        return "openai"
    if path.endswith("/messages"):
        return "anthropic"
    if path == "/api/chat":
        return "ollama"
    if path.endswith(("/converse-stream", "/converse")):
        return "bedrock"
    return None


def _streams(kind: Kind, body: dict[str, Any]) -> bool:
    return kind == "bedrock" or bool(body.get("stream", kind == "ollama"))


def _key(request: Request) -> str:
    bearer = request.headers.get("authorization", "").removeprefix("Bearer ")
    return bearer or request.headers.get("x-api-key", "") or request.headers.get("api-key", "")


def _scripted(raw: bytes) -> list[Scripted]:
    try:
        sent = json.loads(raw)
    except ValueError as error:
        raise msgspec.ValidationError(str(error)) from None
    entries = sent if isinstance(sent, list) else [sent]
    wrapped = [one if isinstance(one, dict) and "behaviour" in one else {"behaviour": one} for one in entries]
    return msgspec.convert(wrapped, list[Scripted])


def _described(request: Request) -> dict[str, Any]:
    return {
        "number": request.number,
        "method": request.method,
        "path": request.path,
        "query": request.query,
        "headers": {name: "***" if name in _SECRET_HEADERS else value for name, value in request.headers.items()},
        "body": request.body,
        "answered": request.answered,
        "closed_early": request.closed_early,
    }


async def _serve(port: int) -> None:
    async with ScriptedProvider(port=port) as provider:
        sys.stdout.write(f"listening on {provider.base_url}\n")
        sys.stdout.flush()
        with contextlib.suppress(Gone):
            await asyncio.Event().wait()


def main() -> None:
    """Serves until it is interrupted."""
    parser = argparse.ArgumentParser(description="A model provider with scripted behaviour.")
    parser.add_argument("--port", type=int, default=0, help="0 takes a free one")
    import uvloop

    with contextlib.suppress(KeyboardInterrupt):
        uvloop.run(_serve(parser.parse_args().port))


if __name__ == "__main__":
    main()
