"""OpenAI's request for an answer in the gateway's words."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from parley.gateway.v1 import gateway_pb2 as pb
from runtime.validation import invalid
from services.edge.dialects.openai.bodies import (
    AsObject,
    AsSchema,
    Assistant,
    Developer,
    ImagePart,
    RefusalPart,
    System,
    ToolResult,
)

if TYPE_CHECKING:
    from msgspec import Raw

    from services.edge.dialects.openai.bodies import ChatBody, Message, OfferedTool

_NO_PARAMETERS = '{"type":"object","properties":{}}'
_MODES = {"auto": pb.ToolChoice.MODE_AUTO, "none": pb.ToolChoice.MODE_NONE, "required": pb.ToolChoice.MODE_REQUIRED}


def request_of(body: ChatBody) -> pb.ChatRequest:
    """Returns the gateway's request.

    Raises: InvalidArgument: something is asked for that there is not, such as several answers.
    """
    _refuse_what_is_not_there(body)
    request = pb.ChatRequest(
        model=body.model,
        messages=[_message(message) for message in body.messages],
        tools=[_tool(tool) for tool in body.tools or ()],
        max_output_tokens=body.max_completion_tokens or body.max_tokens or 0,
        stop=[body.stop] if isinstance(body.stop, str) else body.stop or (),
        reasoning_effort=body.reasoning_effort or "",
        # Nobody has seen anything of an answer that comes whole.
        allow_reset=not body.stream,
    )
    for name in ("temperature", "top_p", "frequency_penalty", "presence_penalty", "seed", "parallel_tool_calls"):
        if (value := getattr(body, name)) is not None:
            setattr(request, name, value)
    if body.logprobs:
        request.top_logprobs = body.top_logprobs or 0
    elif body.top_logprobs:
        raise invalid("top_logprobs", "needs logprobs to be true.")
    _choose(request, body)
    _shape(request, body)
    return request


def _refuse_what_is_not_there(body: ChatBody) -> None:
    if body.n not in {None, 1}:
        raise invalid("n", "must be 1: there is one answer to a request.")
    if body.functions or body.function_call:
        raise invalid("functions" if body.functions else "function_call", "is not taken; use tools and tool_choice.")
    if body.modalities not in (None, [], ["text"]):
        raise invalid("modalities", "must be text.")


def _choose(request: pb.ChatRequest, body: ChatBody) -> None:
    choice = body.tool_choice
    if choice is None:
        return
    if isinstance(choice, str):
        request.tool_choice.mode = _MODES[choice]
    else:
        request.tool_choice.mode = pb.ToolChoice.MODE_NAMED
        request.tool_choice.name = choice.function.name


def _shape(request: pb.ChatRequest, body: ChatBody) -> None:
    wanted = body.response_format
    if isinstance(wanted, AsObject):
        request.response_format.json_object = True
    elif isinstance(wanted, AsSchema):
        schema = wanted.json_schema
        target = request.response_format.json_schema
        target.name = schema.name
        target.description = schema.description or ""
        target.schema_json = _text(schema.schema, "response_format.json_schema.schema") or "{}"
        if schema.strict is not None:
            target.strict = schema.strict


def _tool(tool: OfferedTool) -> pb.Tool:
    function = tool.function
    parameters = _text(function.parameters, "tools") or _NO_PARAMETERS
    return pb.Tool(name=function.name, description=function.description or "", parameters_json=parameters)


def _message(message: Message) -> pb.PromptMessage:
    if isinstance(message, System | Developer):
        return pb.PromptMessage(role=pb.ROLE_SYSTEM, text=_words(message.content))
    if isinstance(message, Assistant):
        calls = [
            pb.ToolCall(id=call.id, name=call.function.name, arguments_json=call.function.arguments)
            for call in message.tool_calls or ()
        ]
        text = _words(message.content) or message.refusal or ""
        return pb.PromptMessage(role=pb.ROLE_ASSISTANT, text=text, tool_calls=calls)
    if isinstance(message, ToolResult):
        return pb.PromptMessage(role=pb.ROLE_TOOL, text=_words(message.content), tool_call_id=message.tool_call_id)
    images = (
        [] if isinstance(message.content, str) else [part for part in message.content if isinstance(part, ImagePart)]
    )
    return pb.PromptMessage(
        role=pb.ROLE_USER,
        text=_words(message.content),
        images=[pb.Image(url=part.image_url.url, detail=part.image_url.detail) for part in images],
    )


def _words(content: str | list[Any] | None) -> str:
    if not isinstance(content, list):
        return content or ""
    return "\n".join(
        part.refusal if isinstance(part, RefusalPart) else part.text
        for part in content
        if not isinstance(part, ImagePart)
    )


def _text(raw: Raw, field: str) -> str:
    try:
        text = bytes(raw).decode()
    except UnicodeDecodeError:
        raise invalid(field, "must be valid Unicode.") from None
    return "" if text == "null" else text
