"""The demo provider speaks OpenAI's chat completions over HTTP."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest

from deploy.local import http_server
from deploy.local.demo_provider.answers import LABEL
from deploy.local.demo_provider.wire import DemoProvider

CHAT = "/v1/chat/completions"


@pytest.fixture
async def port() -> AsyncIterator[int]:
    server = await http_server.serve("127.0.0.1", 0, DemoProvider(tokens_per_s=10_000).handle)
    yield server.sockets[0].getsockname()[1]
    server.close()
    await server.wait_closed()


async def call(port: int, path: str, body: Any = None) -> tuple[int, dict[str, str], bytes]:
    data = b"" if body is None else body if isinstance(body, bytes) else json.dumps(body).encode()
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    method = "GET" if body is None else "POST"
    writer.write(
        f"{method} {path} HTTP/1.1\r\nhost: x\r\ncontent-length: {len(data)}\r\nconnection: close\r\n\r\n".encode()
    )
    writer.write(data)
    answer = await reader.read()
    writer.close()
    await writer.wait_closed()
    head, _, rest = answer.partition(b"\r\n\r\n")
    status, *lines = head.decode().split("\r\n")
    headers = dict(line.lower().split(": ", 1) for line in lines)
    if headers.get("transfer-encoding") == "chunked":
        chunks = b""
        while rest:
            size, _, rest = rest.partition(b"\r\n")
            chunks += rest[: int(size, 16)]
            rest = rest[int(size, 16) + 2 :]
        rest = chunks
    return int(status.split()[1]), headers, rest


def ask(text: str, **more: Any) -> dict[str, Any]:
    return {"model": "demo", "messages": [{"role": "user", "content": text}], **more}


def events(body: bytes) -> list[Any]:
    lines = [line.removeprefix("data: ") for line in body.decode().split("\n\n") if line]
    return [line if line == "[DONE]" else json.loads(line) for line in lines]


async def test_a_stream_is_words_then_the_reason_then_usage_then_done(port: int) -> None:
    status, headers, body = await call(port, CHAT, ask("hi", stream=True, stream_options={"include_usage": True}))
    *chunks, usage, done = events(body)
    deltas = [chunk["choices"][0]["delta"] for chunk in chunks]
    assert (status, headers["content-type"], done) == (200, "text/event-stream", "[DONE]")
    assert deltas[0] == {"role": "assistant", "content": ""}
    assert "".join(delta.get("content", "") for delta in deltas).startswith(LABEL)
    assert [chunk["choices"][0]["finish_reason"] for chunk in chunks][-2:] == [None, "stop"]
    assert usage["choices"] == []
    assert usage["usage"]["completion_tokens"] == len(chunks) - 2
    assert len({chunk["id"] for chunk in chunks}) == 1


async def test_usage_is_sent_only_when_asked_for(port: int) -> None:
    _, _, body = await call(port, CHAT, ask("hi", stream=True))
    assert not any("usage" in event for event in events(body)[:-1])


async def test_a_whole_answer_holds_the_same(port: int) -> None:
    status, _, body = await call(port, CHAT, ask("think"))
    message = json.loads(body)["choices"][0]["message"]
    assert status == 200
    assert message["content"].startswith(LABEL)
    assert message["reasoning_content"]


async def test_max_tokens_cuts_the_answer(port: int) -> None:
    _, _, body = await call(port, CHAT, ask("hi", max_tokens=3))
    choice = json.loads(body)["choices"][0]
    assert (choice["message"]["content"], choice["finish_reason"]) == ("This is Parley's ", "length")


async def test_a_tool_call_ends_with_its_own_reason(port: int) -> None:
    tools = [{"type": "function", "function": {"name": "look_up"}}]
    _, _, body = await call(port, CHAT, ask('look_up {"q": 1}', stream=True, tools=tools))
    chunks = events(body)[:-1]
    (called,) = [c for e in chunks for c in e["choices"][0]["delta"].get("tool_calls", [])]
    assert called["function"] == {"name": "look_up", "arguments": '{"q": 1}'}
    assert chunks[-1]["choices"][0]["finish_reason"] == "tool_calls"


async def test_faults_come_when_asked_for(port: int) -> None:
    assert (await call(port, CHAT, ask("error", stream=True)))[0] == 500
    status, headers, _ = await call(port, CHAT, ask("error 429", stream=True))
    assert (status, headers["retry-after"]) == (429, "2")


async def test_a_break_has_neither_reason_nor_end(port: int) -> None:
    _, _, body = await call(port, CHAT, ask("error late", stream=True))
    assert body.startswith(b"data: ")
    assert all(event["choices"][0]["finish_reason"] is None for event in events(body))


@pytest.mark.parametrize("body", [b"{", b"[]", b"{}", b'{"messages": []}', b'{"messages": ["x"]}', b'{"messages": 1}'])
async def test_a_body_that_is_none_is_refused_in_openai_s_shape(port: int, body: bytes) -> None:
    status, _, answer = await call(port, CHAT, body)
    assert (status, json.loads(answer)["error"]["type"]) == (400, "invalid_request_error")


async def test_models_are_listed(port: int) -> None:
    _, _, body = await call(port, "/v1/models")
    assert [model["id"] for model in json.loads(body)["data"]] == ["demo"]


async def test_an_unknown_path_is_not_found(port: int) -> None:
    assert (await call(port, "/v1/nothing"))[0] == 404


async def test_what_is_not_http_is_refused(port: int) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(b"\x00\x01 nonsense\r\n\r\n")
    assert (await reader.read()).startswith(b"HTTP/1.1 400 ")
    writer.close()
    await writer.wait_closed()
