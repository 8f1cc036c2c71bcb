"""OpenAI's chat completion chunks, also as Azure, OpenRouter, vLLM and other compatible servers send them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from services.gateway.domain import Counts, Ended, FinishReason, Logprobs, ToolCallPiece
from services.gateway.wires.parser import MAX_TOOL_CALLS, ErrorInStream, Parser, Unreadable, argue, counted, say, think
from services.gateway.wires.sse import Events

if TYPE_CHECKING:
    from services.gateway.domain import ProviderDelta

_FINISH = {
    "stop": FinishReason.STOP,
    "length": FinishReason.LENGTH,
    "tool_calls": FinishReason.TOOL_CALLS,
    "function_call": FinishReason.TOOL_CALLS,
    "content_filter": FinishReason.CONTENT_FILTER,
}


_NULL_BYTES = len(b"null")


class _Function(msgspec.Struct):
    name: str | None = None
    arguments: str | None = None


class _ToolCall(msgspec.Struct):
    index: int | None = None
    id: str | None = None
    function: _Function | None = None


class _Delta(msgspec.Struct):
    content: str | None = None
    reasoning_content: str | None = None
    reasoning: str | None = None
    refusal: str | None = None
    tool_calls: list[_ToolCall] | None = None


class _Choice(msgspec.Struct):
    index: int = 0
    delta: _Delta | None = None
    finish_reason: str | None = None
    logprobs: msgspec.Raw = msgspec.Raw()


class _InputDetails(msgspec.Struct):
    cached_tokens: int | None = None


class _OutputDetails(msgspec.Struct):
    reasoning_tokens: int | None = None


class _Usage(msgspec.Struct):
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    prompt_tokens_details: _InputDetails | None = None
    completion_tokens_details: _OutputDetails | None = None
    cost: float | None = None


class _Chunk(msgspec.Struct):
    choices: list[_Choice] | None = None
    usage: _Usage | None = None
    error: Any = None


_decode = msgspec.json.Decoder(_Chunk).decode


class OpenAIParser(Parser):
    """Parses a stream of `chat.completion.chunk`; see `Parser`."""

    def __init__(self) -> None:
        super().__init__(Events())
        self._reason: FinishReason | None = None
        self._usage: _Usage | None = None
        self._tool = -1
        self._called = False

    def _take(self, item: bytes, out: list[ProviderDelta], *, last: bool) -> None:
        if item == b"[DONE]":
            # Without a reason to have stopped, the marker alone does not make an answer whole.
            if self.finished:
                self._complete(out)
            return
        try:
            chunk = _decode(item)
        except (msgspec.DecodeError, RecursionError, UnicodeError):
            if last:
                # The last event was never ended: it is half of one, and what is missing is told by `end`.
                return
            raise Unreadable("bad_chunk") from None
        if chunk.error:
            raise _error(chunk.error)
        if chunk.usage is not None:
            self._usage = chunk.usage
        for choice in chunk.choices or ():
            if choice.index == 0:
                self._choose(choice, out)

    def _choose(self, choice: _Choice, out: list[ProviderDelta]) -> None:
        delta = choice.delta
        if delta is not None:
            if thought := delta.reasoning_content or delta.reasoning:
                think(thought, out)
            if said := delta.content or delta.refusal:
                say(said, out)
            for call in delta.tool_calls or ():
                self._call(call, out)
        # Most servers say `null` with each chunk, and nothing as short as that says anything.
        if len(choice.logprobs) > _NULL_BYTES and (told := bytes(choice.logprobs)).startswith(b"{"):
            out.append(Logprobs(told.decode()))
        if choice.finish_reason:
            if choice.finish_reason == "error":
                raise ErrorInStream("finish_reason_error")
            reason = _FINISH.get(choice.finish_reason, FinishReason.STOP)
            # Some servers say `stop` although they called tools.
            self._reason = FinishReason.TOOL_CALLS if self._called and reason is FinishReason.STOP else reason
            self.finished = True

    def _call(self, call: _ToolCall, out: list[ProviderDelta]) -> None:
        place = call.index
        if place is None:
            # Servers that leave the index out begin a new call with each id.
            place = self._tool + 1 if call.id or self._tool < 0 else self._tool
        if not 0 <= place < MAX_TOOL_CALLS:
            raise Unreadable("bad_tool_index")
        first = place > self._tool
        self._tool = max(self._tool, place)
        self._called = True
        function = call.function or _Function()
        arguments = function.arguments or ""
        if first:
            out.append(ToolCallPiece(place, call.id or "", function.name or "", arguments))
        elif arguments:
            argue(place, arguments, out)

    def _complete(self, out: list[ProviderDelta]) -> None:
        self.done = True
        out.append(Ended(self._reason or FinishReason.STOP, _counts(self._usage)))


def _counts(usage: _Usage | None) -> Counts | None:
    if usage is None or usage.prompt_tokens is None or usage.completion_tokens is None:
        return None
    read = usage.prompt_tokens_details
    written = usage.completion_tokens_details
    return counted(
        Counts(
            input_tokens=usage.prompt_tokens,
            output_tokens=usage.completion_tokens,
            cached_tokens=(read.cached_tokens or 0) if read else 0,
            reasoning_tokens=(written.reasoning_tokens or 0) if written else 0,
            cost_usd=usage.cost,
        )
    )


def _error(error: object) -> ErrorInStream:
    if not isinstance(error, dict):
        return ErrorInStream("", text=str(error))
    code = error.get("code")
    # OpenRouter's code is the status the error would have had.
    status = code if isinstance(code, int) and not isinstance(code, bool) else 0
    word = code if isinstance(code, str) else error.get("type")
    return ErrorInStream(word if isinstance(word, str) else "", status=status, text=str(error.get("message", "")))
