"""How OpenAI, Anthropic, Ollama and Bedrock spell an answer, streamed and whole."""

from __future__ import annotations

import json
import struct
import zlib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tests.fakes.script import Answer, Kind

_CREATED = 1_760_000_000
_ANTHROPIC_STOP = {"stop": "end_turn", "length": "max_tokens", "tool_calls": "tool_use", "content_filter": "refusal"}
_BEDROCK_STOP = {
    "stop": "end_turn",
    "length": "max_tokens",
    "tool_calls": "tool_use",
    "content_filter": "content_filtered",
}


@dataclass
class Frames:
    """A streamed answer as bytes.

    Attributes:
        content_type: Of the response.
        head: Frames before the first piece; sent together with it.
        pieces: A frame per piece of reasoning, text and tool call.
        tail: Frames that end the answer.
        ping: A sign of life that says nothing; empty where the wire has none.
    """

    content_type: str
    head: list[bytes] = field(default_factory=list)
    pieces: list[bytes] = field(default_factory=list)
    tail: list[bytes] = field(default_factory=list)
    ping: bytes = b""


def frames(kind: Kind, answer: Answer, body: Mapping[str, Any], model: str) -> Frames:
    """Spells a streamed answer on a wire."""
    return {"openai": _openai, "anthropic": _anthropic, "ollama": _ollama, "bedrock": _bedrock}[kind](
        answer, body, model
    )


def whole(answer: Answer, model: str) -> dict[str, Any]:
    """Spells an answer that is not streamed as OpenAI's `chat.completion`."""
    message: dict[str, Any] = {"role": "assistant", "content": "".join(answer.pieces())}
    if answer.reasoning:
        message["reasoning_content"] = answer.reasoning
    if answer.tools:
        message["tool_calls"] = [
            {"id": _id(n, t.id), "type": "function", "function": {"name": t.name, "arguments": t.arguments}}
            for n, t in enumerate(answer.tools)
        ]
    return {
        "id": "chatcmpl-scripted",
        "object": "chat.completion",
        "created": _CREATED,
        "model": model,
        "choices": [{"index": 0, "message": message, "finish_reason": answer.finish_reason()}],
        "usage": _openai_usage(answer),
    }


def error_frame(kind: Kind, message: str, code: str | None) -> bytes:
    """Spells an error in the middle of a stream."""
    if kind == "anthropic":
        error = {"type": "error", "error": {"type": code or "overloaded_error", "message": message}}
        return _event("error", error)
    if kind == "ollama":
        return _line({"error": message})
    if kind == "bedrock":
        exception = code or "serviceUnavailableException"
        return _aws_frame({":message-type": "exception", ":exception-type": exception}, {"message": message})
    return _data({"error": {"message": message, "type": "server_error", "code": code, "param": None}})


def error_body(kind: Kind, status: int, message: str, code: str | None) -> dict[str, Any]:
    """Spells the body of a refusal."""
    if kind == "anthropic":
        return {"type": "error", "error": {"type": code or "api_error", "message": message}}
    if kind == "ollama":
        return {"error": message}
    if kind == "bedrock":
        return {"message": message, "__type": code or "InternalServerException"}
    kind_of = "invalid_request_error" if status < 500 else "server_error"
    return {"error": {"message": message, "type": kind_of, "code": code, "param": None}}


def _openai(answer: Answer, body: Mapping[str, Any], model: str) -> Frames:
    base = {"id": "chatcmpl-scripted", "object": "chat.completion.chunk", "created": _CREATED, "model": model}

    def chunk(delta: dict[str, Any], finish: str | None = None) -> bytes:
        told = None
        if answer.logprobs and delta.get("content"):
            told = {"content": [{"token": delta["content"], "logprob": -0.5, "bytes": None, "top_logprobs": []}]}
        return _data({**base, "choices": [{"index": 0, "delta": delta, "finish_reason": finish, "logprobs": told}]})

    out = Frames("text/event-stream; charset=utf-8", ping=b": ping\n\n")
    out.head.append(chunk({"role": "assistant", "content": ""}))
    if answer.reasoning:
        out.pieces.append(chunk({"reasoning_content": answer.reasoning}))
    out.pieces += [chunk({"content": piece}) for piece in answer.pieces()]
    for n, tool in enumerate(answer.tools):
        first = {
            "index": n,
            "id": _id(n, tool.id),
            "type": "function",
            "function": {"name": tool.name, "arguments": ""},
        }
        out.pieces.append(chunk({"tool_calls": [first]}))
        out.pieces += [
            chunk({"tool_calls": [{"index": n, "function": {"arguments": part}}]}) for part in _parts(tool.arguments)
        ]
    if answer.finish_marker:
        out.tail.append(chunk({}, answer.finish_reason()))
        if answer.usage is not None and (body.get("stream_options") or {}).get("include_usage"):
            out.tail.append(_data({**base, "choices": [], "usage": _openai_usage(answer)}))
    if answer.done_marker:
        out.tail.append(b"data: [DONE]\n\n")
    return _with_line_ends(out, answer)


def _anthropic(answer: Answer, _: Mapping[str, Any], model: str) -> Frames:
    usage = answer.usage
    read = usage.cached_tokens if usage else 0
    started = {"input_tokens": usage.input_tokens - read if usage else 0, "output_tokens": 1}
    message = {"id": "msg_scripted", "type": "message", "role": "assistant", "model": model, "content": []}
    counts = {**started, "cache_read_input_tokens": read, "cache_creation_input_tokens": 0}
    opening = {**message, "usage": counts} if usage else message
    out = Frames("text/event-stream; charset=utf-8", ping=_event("ping", {"type": "ping"}))
    out.head += [
        _event("message_start", {"type": "message_start", "message": opening}),
        _event("ping", {"type": "ping"}),
    ]
    blocks: list[tuple[dict[str, Any], list[dict[str, Any]]]] = []
    if answer.reasoning:
        deltas = [
            {"type": "thinking_delta", "thinking": answer.reasoning},
            {"type": "signature_delta", "signature": "c2ln"},
        ]
        blocks.append(({"type": "thinking", "thinking": ""}, deltas))
    if answer.pieces():
        blocks.append(({"type": "text", "text": ""}, [{"type": "text_delta", "text": p} for p in answer.pieces()]))
    for n, tool in enumerate(answer.tools):
        start = {"type": "tool_use", "id": _id(n, tool.id), "name": tool.name, "input": {}}
        blocks.append((start, [{"type": "input_json_delta", "partial_json": p} for p in _parts(tool.arguments)]))
    for n, (start, deltas) in enumerate(blocks):
        opened = _event("content_block_start", {"type": "content_block_start", "index": n, "content_block": start})
        frames_of = [
            _event("content_block_delta", {"type": "content_block_delta", "index": n, "delta": d}) for d in deltas
        ]
        closed = _event("content_block_stop", {"type": "content_block_stop", "index": n})
        out.pieces += [opened + frames_of[0], *frames_of[1:]] if frames_of else [opened]
        out.pieces[-1] += closed
    if answer.finish_marker:
        delta = {
            "stop_reason": _ANTHROPIC_STOP.get(answer.finish_reason(), answer.finish_reason()),
            "stop_sequence": None,
        }
        end: dict[str, Any] = {"type": "message_delta", "delta": delta}
        if usage is not None:
            end["usage"] = {"output_tokens": _written(answer)}
        out.tail.append(_event("message_delta", end))
        if answer.done_marker:
            out.tail.append(_event("message_stop", {"type": "message_stop"}))
    return _with_line_ends(out, answer)


def _ollama(answer: Answer, _: Mapping[str, Any], model: str) -> Frames:
    base = {"model": model, "created_at": "2026-01-01T00:00:00Z"}

    def line(message: dict[str, Any], **more: Any) -> bytes:
        return _line({**base, "message": {"role": "assistant", "content": "", **message}, "done": False, **more})

    out = Frames("application/x-ndjson")
    if answer.reasoning:
        out.pieces.append(line({"thinking": answer.reasoning}))
    out.pieces += [line({"content": piece}) for piece in answer.pieces()]
    for tool in answer.tools:
        out.pieces.append(
            line({"tool_calls": [{"function": {"name": tool.name, "arguments": json.loads(tool.arguments)}}]})
        )
    if answer.finish_marker:
        reason = "length" if answer.finish_reason() == "length" else "stop"
        counts: dict[str, Any] = {}
        if answer.usage is not None:
            counts = {"prompt_eval_count": answer.usage.input_tokens, "eval_count": _written(answer)}
        out.tail.append(line({}, done=True, done_reason=reason, total_duration=1, **counts))
    return out


def _bedrock(answer: Answer, _: Mapping[str, Any], __: str) -> Frames:
    out = Frames("application/vnd.amazon.eventstream")
    out.head.append(_aws_event("messageStart", {"role": "assistant"}))
    index = 0
    if answer.reasoning:
        delta: dict[str, Any] = {"reasoningContent": {"text": answer.reasoning}}
        out.pieces.append(_aws_event("contentBlockDelta", {"contentBlockIndex": index, "delta": delta}))
        index += 1
    for piece in answer.pieces():
        out.pieces.append(_aws_event("contentBlockDelta", {"contentBlockIndex": index, "delta": {"text": piece}}))
    for n, tool in enumerate(answer.tools):
        index += 1
        start = {"toolUse": {"toolUseId": _id(n, tool.id), "name": tool.name}}
        out.pieces.append(_aws_event("contentBlockStart", {"contentBlockIndex": index, "start": start}))
        for part in _parts(tool.arguments):
            delta = {"toolUse": {"input": part}}
            out.pieces.append(_aws_event("contentBlockDelta", {"contentBlockIndex": index, "delta": delta}))
    if answer.finish_marker:
        stop = _BEDROCK_STOP.get(answer.finish_reason(), answer.finish_reason())
        out.tail += [
            _aws_event("contentBlockStop", {"contentBlockIndex": index}),
            _aws_event("messageStop", {"stopReason": stop}),
        ]
        if answer.usage is not None:
            written = _written(answer)
            usage = {
                "inputTokens": answer.usage.input_tokens - answer.usage.cached_tokens,
                "outputTokens": written,
                "totalTokens": answer.usage.input_tokens + written,
                "cacheReadInputTokens": answer.usage.cached_tokens,
            }
            out.tail.append(_aws_event("metadata", {"usage": usage, "metrics": {"latencyMs": 1}}))
    return out


def _openai_usage(answer: Answer) -> dict[str, Any] | None:
    if answer.usage is None:
        return None
    written = _written(answer)
    return {
        "prompt_tokens": answer.usage.input_tokens,
        "completion_tokens": written,
        "total_tokens": answer.usage.input_tokens + written,
        "prompt_tokens_details": {"cached_tokens": answer.usage.cached_tokens},
        "completion_tokens_details": {"reasoning_tokens": answer.usage.reasoning_tokens},
    }


def _written(answer: Answer) -> int:
    if answer.usage is not None and answer.usage.output_tokens is not None:
        return answer.usage.output_tokens
    return len(answer.pieces()) + (answer.usage.reasoning_tokens if answer.usage else 0)


def _id(place: int, given: str) -> str:
    return given or f"call_scripted_{place}"


def _parts(arguments: str) -> list[str]:
    return [arguments[at : at + 8] for at in range(0, len(arguments), 8)]


def _data(value: object) -> bytes:
    return b"data: " + _json(value) + b"\n\n"


def _event(name: str, value: object) -> bytes:
    return b"event: " + name.encode() + b"\ndata: " + _json(value) + b"\n\n"


def _line(value: object) -> bytes:
    return _json(value) + b"\n"


def _json(value: object) -> bytes:
    # Unescaped, as the providers do it: multi-byte characters then really cross the wire.
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()


def _with_line_ends(out: Frames, answer: Answer) -> Frames:
    if answer.crlf:
        for part in (out.head, out.pieces, out.tail):
            part[:] = [frame.replace(b"\n", b"\r\n") for frame in part]
    return out


def _aws_event(name: str, payload: object) -> bytes:
    headers = {":message-type": "event", ":event-type": name, ":content-type": "application/json"}
    return _aws_frame(headers, payload)


def _aws_frame(headers: Mapping[str, str], payload: object) -> bytes:
    """Encodes a frame of `application/vnd.amazon.eventstream`: two lengths, their CRC, headers, payload, CRC of it all."""
    packed = b"".join(
        bytes([len(name)]) + name.encode() + b"\x07" + struct.pack(">H", len(value)) + value.encode()
        for name, value in headers.items()
    )
    body = _json(payload)
    prelude = struct.pack(">II", len(packed) + len(body) + 16, len(packed))
    message = prelude + struct.pack(">I", zlib.crc32(prelude)) + packed + body
    return message + struct.pack(">I", zlib.crc32(message))
