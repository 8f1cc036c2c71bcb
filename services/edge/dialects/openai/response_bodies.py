"""What a request for a response holds. What a conversation here does not take is refused by name, since it would change the answer."""

from __future__ import annotations

from typing import Any, Literal

from msgspec import Struct

from runtime.validation import invalid


class InputText(Struct, tag_field="type", tag="input_text"):
    """Words."""

    text: str


class InputMessage(Struct):
    """What the person says."""

    role: Literal["user"]
    content: str | list[InputText]
    type: Literal["message"] = "message"


class ConversationId(Struct):
    """Which conversation."""

    id: str


class ResponseBody(Struct):
    """Body of `POST /responses`."""

    input: str | list[InputMessage]
    model: str | None = None
    stream: bool | None = None
    background: bool | None = None
    conversation: str | ConversationId | None = None
    previous_response_id: str | None = None
    store: bool | None = None
    instructions: Any = None
    tools: list[Any] | None = None
    prompt: Any = None
    text: dict[str, Any] | None = None
    reasoning: Any = None
    temperature: float | None = None
    top_p: float | None = None
    max_output_tokens: int | None = None
    max_tool_calls: int | None = None


_NOT_TAKEN = (
    "instructions",
    "tools",
    "prompt",
    "reasoning",
    "temperature",
    "top_p",
    "max_output_tokens",
    "max_tool_calls",
)


def message_of(body: ResponseBody) -> str:
    """Returns the person's message.

    Raises: InvalidArgument: there is more than one, or something is asked for that a conversation does not take.
    """
    for name in _NOT_TAKEN:
        if getattr(body, name) not in (None, [], {}):
            raise invalid(name, "is not taken here, where a conversation has its own; chat/completions takes it.")
    if body.store is False:
        raise invalid("store", "must be true: responses are kept; chat/completions keeps nothing.")
    if ((body.text or {}).get("format") or {"type": "text"}) != {"type": "text"}:
        raise invalid("text.format", "must be text; chat/completions takes schemas.")
    if isinstance(body.input, str):
        return body.input
    if len(body.input) != 1:
        raise invalid("input", "must be one message: a conversation knows what was said before.")
    content = body.input[0].content
    return content if isinstance(content, str) else "\n".join(part.text for part in content)
