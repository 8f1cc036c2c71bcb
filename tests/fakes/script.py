"""What the scripted provider can be told to do with one request; every behaviour is a struct that JSON spells with its `kind`."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Literal

import msgspec

if TYPE_CHECKING:
    from collections.abc import Sequence

DEFAULT_TEXT = "Hello from the scripted provider."


class ToolUse(msgspec.Struct, frozen=True):
    """A call of a tool.

    Attributes:
        name: Of the tool.
        arguments: JSON text; streamed in pieces of eight characters.
        id: The provider's id of the call; empty: made from its place.
    """

    name: str
    arguments: str = "{}"
    id: str = ""


class UsageReport(msgspec.Struct, frozen=True):
    """Token counts an answer reports; `None` in `output_tokens` counts the pieces."""

    input_tokens: int = 11
    output_tokens: int | None = None
    cached_tokens: int = 0
    reasoning_tokens: int = 0


class Answer(msgspec.Struct, frozen=True, tag_field="kind", tag="answer"):
    """Answers with a text, reasoning or tool calls.

    Attributes:
        text: The whole answer; streamed word by word unless `chunks` says otherwise.
        chunks: The pieces of the answer, or how many to cut `text` into. All are spelt before the first is sent: 100,000 take a second, or a timeout.
        reasoning: Thinking aloud before the text.
        tools: Tools called after the text.
        finish: OpenAI's finish reason; None: `stop`, or `tool_calls` where tools are called.
        usage: What is reported; None: nothing.
        first_delay_s: Wait before the first byte of the answer, headers included.
        delay_s: Wait between pieces.
        split_bytes: Size of the network writes; 0: a write per piece. 1 cuts every multi-byte character.
        joined: All pieces in one write.
        crlf: Ends lines with CRLF.
        done_marker: Sends `[DONE]` where the wire has it.
        finish_marker: Sends the finish reason, usage and whatever closes an answer on the wire.
        deaf: Goes on writing when the client has said goodbye, until the connection breaks.
        logprobs: OpenAI's log probabilities with each piece of text.
    """

    text: str = DEFAULT_TEXT
    chunks: list[str] | int | None = None
    reasoning: str = ""
    tools: list[ToolUse] = []
    finish: str | None = None
    usage: UsageReport | None = UsageReport()
    first_delay_s: float = 0.0
    delay_s: float = 0.0
    split_bytes: int = 0
    joined: bool = False
    crlf: bool = False
    done_marker: bool = True
    finish_marker: bool = True
    deaf: bool = False
    logprobs: bool = False

    def pieces(self) -> Sequence[str]:
        """Returns the pieces the text is streamed in."""
        if isinstance(self.chunks, list):
            return self.chunks
        if isinstance(self.chunks, int):
            size = -(-len(self.text) // max(self.chunks, 1)) or 1
            return [self.text[at : at + size] for at in range(0, len(self.text), size)]
        return re.findall(r"\s*\S+|\s+$", self.text)

    def finish_reason(self) -> str:
        """Returns OpenAI's word for why the answer ends."""
        return self.finish or ("tool_calls" if self.tools else "stop")


class Fault(msgspec.Struct, frozen=True, tag_field="kind", tag="fault"):
    """Refuses with a status and the provider's own error body.

    Attributes:
        status: HTTP status.
        message: The provider's words, which no caller of Parley may ever see.
        code: The provider's code, such as `context_length_exceeded`.
        retry_after: Value of the `Retry-After` header.
        body: The body, where it is to be something else than an error object.
        content_type: Its type.
        delay_s: Wait before the answer.
    """

    status: int = 500
    message: str = "The scripted provider was told to fail with PROVIDER-SECRET-WORDS."
    code: str | None = None
    retry_after: str | None = None
    body: str | None = None
    content_type: str = "application/json"
    delay_s: float = 0.0


class Stall(msgspec.Struct, frozen=True, tag_field="kind", tag="stall"):
    """Goes silent after some pieces until the client leaves.

    Attributes:
        after: Pieces that are sent first.
        after_bytes: Bytes of the body that are sent first, where `after` is 0.
        headers: Whether status and headers are sent before the silence (with pieces or bytes they always are).
        ping_s: Not quite silent: the wire's sign of life at this pace, where it has one; 0: none.
        answer: What is begun.
    """

    after: int = 0
    after_bytes: int = 0
    headers: bool = True
    ping_s: float = 0.0
    answer: Answer = Answer()


class Cut(msgspec.Struct, frozen=True, tag_field="kind", tag="cut"):
    """Breaks the connection off.

    Attributes:
        after: Pieces that are sent first; None: as `after_bytes` says.
        after_bytes: Bytes of the body that are sent first; it may be in the middle of a character.
        clean: Ends the body properly (the answer is merely incomplete) instead of resetting the connection.
        answer: What is begun.
    """

    after: int | None = None
    after_bytes: int = 0
    clean: bool = False
    answer: Answer = Answer()


class Hangup(msgspec.Struct, frozen=True, tag_field="kind", tag="hangup"):
    """Closes the connection without any answer."""


class Garbage(msgspec.Struct, frozen=True, tag_field="kind", tag="garbage"):
    """Answers with bytes of the test's choice.

    Attributes:
        data: The body; through JSON it is base64.
        status: HTTP status.
        content_type: None: what the wire would use.
        split_bytes: Size of the network writes; 0: one write.
    """

    data: bytes = b"\x00\xff\xfe{{{ not a stream \xc3"
    status: int = 200
    content_type: str | None = None
    split_bytes: int = 0


class StreamError(msgspec.Struct, frozen=True, tag_field="kind", tag="stream_error"):
    """Sends the wire's error object in the middle of a stream.

    Attributes:
        after: Pieces that are sent first.
        message: The provider's words.
        code: OpenAI's `code`, Anthropic's and Bedrock's error type; None: what the wire uses for an overload.
        answer: What is begun.
    """

    after: int = 1
    message: str = "The scripted provider broke with PROVIDER-SECRET-WORDS."
    code: str | None = None
    answer: Answer = Answer()


Behaviour = Answer | Fault | Stall | Cut | Hangup | Garbage | StreamError


class Scripted(msgspec.Struct, frozen=True):
    """One entry of a script sent over HTTP.

    Attributes:
        behaviour: What to do.
        match: Text that the last user message of the request must hold; empty: the next request, whatever it says.
        times: How many requests it serves.
        step: Only the request of this step of a turn: 0 before any tool was called since the user last spoke, 1 after the first calls, …;
            None: any.
    """

    behaviour: Behaviour
    match: str = ""
    times: int = 1
    step: int | None = None

    def fits(self, body: dict[str, Any]) -> bool:
        """Tells whether a request is one of those it is for."""
        return self.match in last_user_text(body) and self.step in {None, step_of(body)}


def last_user_text(body: dict[str, Any]) -> str:
    """Returns what the user said last, on any wire; what tools answered is not theirs, though some wires say it in their name."""
    return next((text for message in reversed(body["messages"]) if (text := _said(message))), "")


def step_of(body: dict[str, Any]) -> int:
    """Returns how often tools were called since the user last spoke."""
    steps = 0
    for message in reversed(body["messages"]):
        if _said(message):
            break
        steps += _calls_tools(message)
    return steps


def _said(message: Any) -> str:
    if not isinstance(message, dict) or message.get("role") != "user":
        return ""
    return "".join(str(part.get("text", "")) for part in _parts(message))


def _calls_tools(message: Any) -> bool:
    if not isinstance(message, dict) or message.get("role") != "assistant":
        return False
    used = any(part.get("type") == "tool_use" or "toolUse" in part for part in _parts(message))
    return used or bool(message.get("tool_calls"))


def _parts(message: dict[str, Any]) -> list[dict[str, Any]]:
    content = message.get("content")
    return [
        part for part in (content if isinstance(content, list) else [{"text": content or ""}]) if isinstance(part, dict)
    ]


Kind = Literal["openai", "anthropic", "ollama", "bedrock"]
