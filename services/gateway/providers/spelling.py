"""Spells a call in OpenAI's words, which litellm turns into each provider's."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, NoReturn

from services.gateway.domain import Role, ToolMode

if TYPE_CHECKING:
    from services.gateway.domain import Call, Image, Message, ResponseFormat, Tool, ToolCall, ToolChoice

_UNREADABLE_ARGUMENTS = "not_a_json_object"


def params(call: Call, max_output_tokens: int) -> dict[str, Any]:
    """Returns everything but the messages; what a call does not ask for is not there."""
    wanted: dict[str, Any] = {"stream": True, "max_tokens": max_output_tokens}
    for name in ("temperature", "seed", "top_p", "frequency_penalty", "presence_penalty"):
        if (value := getattr(call, name)) is not None:
            wanted[name] = value
    if call.stop:
        wanted["stop"] = list(call.stop)
    if call.tools:
        wanted["tools"] = [_tool(tool) for tool in call.tools]
        # Without tools both are refused by most providers, and mean nothing.
        if call.tool_choice is not None:
            wanted["tool_choice"] = _tool_choice(call.tool_choice)
        if call.parallel_tool_calls is not None:
            wanted["parallel_tool_calls"] = call.parallel_tool_calls
    if call.response_format is not None:
        wanted["response_format"] = _response_format(call.response_format)
    if call.top_logprobs is not None:
        wanted |= {"logprobs": True, "top_logprobs": call.top_logprobs}
    if call.reasoning_effort:
        wanted["reasoning_effort"] = call.reasoning_effort
    return wanted


def messages(call: Call) -> list[dict[str, Any]]:
    """Returns the prompt."""
    return [_message(message) for message in call.messages]


def is_plain(call: Call) -> bool:
    """Tells whether the prompt is nothing but texts."""
    return not any(message.tool_calls or message.images or message.role is Role.TOOL for message in call.messages)


def _tool(tool: Tool) -> dict[str, Any]:
    schema = json.loads(tool.parameters_json) if tool.parameters_json else {}
    parameters = {"type": "object", "properties": {}, **schema}
    return {
        "type": "function",
        "function": {"name": tool.name, "description": tool.description, "parameters": parameters},
    }


def _tool_choice(choice: ToolChoice) -> str | dict[str, Any]:
    if choice.mode is ToolMode.NAMED:
        return {"type": "function", "function": {"name": choice.name}}
    return choice.mode.value


def _response_format(shape: ResponseFormat) -> dict[str, Any]:
    if shape.schema is None:
        return {"type": "json_object"}
    spelt: dict[str, Any] = {"name": shape.schema.name, "schema": json.loads(shape.schema.schema_json)}
    if shape.schema.description:
        spelt["description"] = shape.schema.description
    if shape.schema.strict is not None:
        spelt["strict"] = shape.schema.strict
    return {"type": "json_schema", "json_schema": spelt}


def _message(message: Message) -> dict[str, Any]:
    spelt: dict[str, Any] = {"role": message.role._value_, "content": message.text}
    if message.role is Role.TOOL:
        spelt["tool_call_id"] = message.tool_call_id
    if message.images:
        text = [{"type": "text", "text": message.text}] if message.text else []
        spelt["content"] = [*text, *(_image(image) for image in message.images)]
    if message.tool_calls:
        spelt["content"] = message.text or None
        spelt["tool_calls"] = [
            {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": _arguments(call)}}
            for call in message.tool_calls
        ]
    return spelt


def _image(image: Image) -> dict[str, Any]:
    detail = {"detail": image.detail} if image.detail else {}
    return {"type": "image_url", "image_url": {"url": image.url, **detail}}


def _arguments(call: ToolCall) -> str:
    """Spells the arguments of a call that was made: every wire wants an object, and a model may have written anything."""
    text = call.arguments_json
    try:
        if isinstance(json.loads(text, parse_constant=_refuse), dict):
            return text
    except (ValueError, RecursionError):
        pass
    return json.dumps({_UNREADABLE_ARGUMENTS: text}) if text.strip() else "{}"


def _refuse(constant: str) -> NoReturn:
    raise ValueError(constant)
