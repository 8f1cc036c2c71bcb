"""Anthropic's message stream."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from services.gateway.domain import Counts, Ended, FinishReason, ToolCallPiece
from services.gateway.wires.parser import MAX_TOOL_CALLS, ErrorInStream, Parser, Unreadable, argue, counted, say, think
from services.gateway.wires.sse import Events

if TYPE_CHECKING:
    from services.gateway.domain import ProviderDelta

_FINISH = {
    "max_tokens": FinishReason.LENGTH,
    "model_context_window_exceeded": FinishReason.LENGTH,
    "tool_use": FinishReason.TOOL_CALLS,
    "refusal": FinishReason.CONTENT_FILTER,
}
_STATUS = {
    "invalid_request_error": 400,
    "authentication_error": 401,
    "permission_error": 403,
    "not_found_error": 404,
    "request_too_large": 413,
    "rate_limit_error": 429,
    "api_error": 500,
    "timeout_error": 504,
    "overloaded_error": 529,
}


class _Usage(msgspec.Struct):
    input_tokens: int | None = None
    output_tokens: int | None = None
    cache_read_input_tokens: int | None = None
    cache_creation_input_tokens: int | None = None


class _Message(msgspec.Struct):
    usage: _Usage | None = None


class _Block(msgspec.Struct):
    type: str = ""
    id: str = ""
    name: str = ""
    text: str | None = None
    thinking: str | None = None


class _Delta(msgspec.Struct):
    type: str = ""
    text: str | None = None
    thinking: str | None = None
    partial_json: str | None = None
    stop_reason: str | None = None


class _Error(msgspec.Struct):
    type: str = ""
    message: str = ""


class _Event(msgspec.Struct):
    type: str
    index: int = 0
    message: _Message | None = None
    content_block: _Block | None = None
    delta: _Delta | None = None
    usage: _Usage | None = None
    error: _Error | None = None


class _OpenCall:
    """A tool call whose block is open: where it stands among the answer's calls, and whether arguments have come."""

    __slots__ = ("index", "written")

    def __init__(self, index: int) -> None:
        self.index = index
        self.written = False


_decode = msgspec.json.Decoder(_Event).decode


class AnthropicParser(Parser):
    """Parses a stream of message events; see `Parser`. Unknown events and blocks are passed over, as the format asks.

    Args:
        text_tool: What is passed to this tool is the answer's text; empty: there is no such tool.
    """

    def __init__(self, *, text_tool: str = "") -> None:
        super().__init__(Events())
        self._text_tool = text_tool
        self._telling: set[int] = set()
        self._reason: FinishReason | None = None
        self._usage = _Usage()
        self._open: dict[int, _OpenCall] = {}
        self._calls = 0

    def _take(self, item: bytes, out: list[ProviderDelta], *, last: bool) -> None:
        try:
            event = _decode(item)
        except (msgspec.DecodeError, RecursionError, UnicodeError):
            if last:
                return
            raise Unreadable("bad_event") from None
        kind = event.type
        if kind == "content_block_delta":
            self._delta(event, out)
        elif kind == "content_block_start":
            self._start(event, out)
        elif kind == "content_block_stop":
            self._stop(event, out)
        elif kind == "message_stop":
            if self.finished:
                self._complete(out)
        else:
            self._take_message(event)

    def _take_message(self, event: _Event) -> None:
        if event.type == "message_start":
            self._count(event.message.usage if event.message else None)
            # What is written is not known before the end; the start says 1 or so.
            self._usage.output_tokens = None
        elif event.type == "message_delta":
            self._count(event.usage)
            if event.delta is not None and event.delta.stop_reason:
                self._reason = _FINISH.get(event.delta.stop_reason, FinishReason.STOP)
                self.finished = True
        elif event.type == "error":
            error = event.error or _Error()
            raise ErrorInStream(error.type, status=_STATUS.get(error.type, 0), text=error.message)

    def _delta(self, event: _Event, out: list[ProviderDelta]) -> None:
        delta = event.delta
        if delta is None:
            raise Unreadable("bad_event")
        if delta.text:
            say(delta.text, out)
        elif delta.thinking:
            think(delta.thinking, out)
        elif delta.partial_json and event.index in self._telling:
            say(delta.partial_json, out)
        elif delta.partial_json and (call := self._open.get(event.index)) is not None:
            call.written = True
            argue(call.index, delta.partial_json, out)

    def _start(self, event: _Event, out: list[ProviderDelta]) -> None:
        block = event.content_block
        if block is None:
            raise Unreadable("bad_event")
        if block.type == "tool_use" and block.name and block.name == self._text_tool:
            self._telling.add(event.index)
        elif block.type == "tool_use":
            if self._calls == MAX_TOOL_CALLS:
                raise Unreadable("too_many_tool_calls")
            self._open[event.index] = _OpenCall(self._calls)
            out.append(ToolCallPiece(self._calls, block.id, block.name))
            self._calls += 1
        elif block.text:
            say(block.text, out)
        elif block.thinking:
            think(block.thinking, out)

    def _stop(self, event: _Event, out: list[ProviderDelta]) -> None:
        call = self._open.pop(event.index, None)
        if call is not None and not call.written:
            # A call without arguments streams none at all; callers are promised a JSON object.
            argue(call.index, "{}", out)

    def _count(self, usage: _Usage | None) -> None:
        for name in _Usage.__struct_fields__ if usage is not None else ():
            if (value := getattr(usage, name)) is not None:
                setattr(self._usage, name, value)

    def _complete(self, out: list[ProviderDelta]) -> None:
        self.done = True
        usage = self._usage
        counts: Counts | None = None
        if usage.input_tokens is not None and usage.output_tokens is not None:
            read, written = usage.cache_read_input_tokens or 0, usage.cache_creation_input_tokens or 0
            # Anthropic's input_tokens leave the cached ones out.
            counts = counted(Counts(usage.input_tokens + read + written, usage.output_tokens, read, written))
        if self._reason is FinishReason.TOOL_CALLS and self._telling and not self._calls:
            self._reason = FinishReason.STOP
        out.append(Ended(self._reason or FinishReason.STOP, counts))
