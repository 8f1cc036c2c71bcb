"""Ollama's `/api/chat`: a JSON object a line."""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING

import msgspec

from services.gateway.domain import Counts, Ended, FinishReason, ToolCallPiece
from services.gateway.wires.lines import Lines
from services.gateway.wires.parser import MAX_TOOL_CALLS, ErrorInStream, Parser, Unreadable, counted, say, think

if TYPE_CHECKING:
    from services.gateway.domain import ProviderDelta


class _Function(msgspec.Struct):
    name: str = ""
    arguments: msgspec.Raw = msgspec.Raw(b"{}")


class _ToolCall(msgspec.Struct):
    function: _Function
    id: str | None = None


class _Message(msgspec.Struct):
    content: str | None = None
    thinking: str | None = None
    tool_calls: list[_ToolCall] | None = None


class _Line(msgspec.Struct):
    message: _Message | None = None
    done: bool = False
    done_reason: str | None = None
    prompt_eval_count: int | None = None
    eval_count: int | None = None
    error: str | None = None


_decode = msgspec.json.Decoder(_Line).decode


class OllamaParser(Parser):
    """Parses a stream of chat lines; see `Parser`. Tool calls come whole and mostly without an id, so they are given one."""

    def __init__(self) -> None:
        super().__init__(Lines())
        self._calls = 0
        self._end = _Line()

    def _take(self, item: bytes, out: list[ProviderDelta], *, last: bool) -> None:
        if not item.strip():
            return
        try:
            line = _decode(item)
        except (msgspec.DecodeError, RecursionError, UnicodeError):
            if last:
                return
            raise Unreadable("bad_line") from None
        if line.error is not None:
            raise ErrorInStream("", text=line.error)
        if line.message is not None:
            self._read(line.message, out)
        if line.done:
            self._end = line
            self.finished = True
            self._complete(out)

    def _read(self, message: _Message, out: list[ProviderDelta]) -> None:
        if message.thinking:
            think(message.thinking, out)
        if message.content:
            say(message.content, out)
        for call in message.tool_calls or ():
            self._call(call, out)

    def _call(self, call: _ToolCall, out: list[ProviderDelta]) -> None:
        arguments = bytes(call.function.arguments)
        if arguments in {b"null", b'""'}:
            arguments = b"{}"
        if not arguments.startswith(b"{") or self._calls == MAX_TOOL_CALLS:
            raise Unreadable("bad_tool_call")
        try:
            text = arguments.decode()
        except UnicodeDecodeError:
            # Raw JSON is passed over, not read, when a line is decoded.
            raise Unreadable("bad_tool_call") from None
        name = call.id or f"call_{secrets.token_hex(8)}"
        out.append(ToolCallPiece(self._calls, name, call.function.name, text))
        self._calls += 1

    def _complete(self, out: list[ProviderDelta]) -> None:
        self.done = True
        line = self._end
        reason = FinishReason.TOOL_CALLS if self._calls else FinishReason.STOP
        if line.done_reason == "length":
            reason = FinishReason.LENGTH
        counts: Counts | None = None
        if line.prompt_eval_count is not None and line.eval_count is not None:
            counts = counted(Counts(line.prompt_eval_count, line.eval_count))
        out.append(Ended(reason, counts))
