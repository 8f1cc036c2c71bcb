"""What a call must look like; each refusal names the field and the fix."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, NoReturn

from runtime.validation import invalid, number
from services.gateway.domain import Role

if TYPE_CHECKING:
    from services.gateway.domain import Call, Message, Tool

MAX_MESSAGES = 1000
MAX_TOOLS = 128
MAX_STOPS = 4
MAX_STOP_CHARS = 1000
MAX_OUTPUT_TOKENS = 1_000_000
MAX_TIMEOUT_S = 3600
MAX_ID_CHARS = 256
MAX_DESCRIPTION_CHARS = 10_000

_MODEL = re.compile(r"[A-Za-z0-9._:/@+-]{0,200}")
_TOOL_NAME = re.compile(r"[A-Za-z0-9_-]{1,64}")


def check(call: Call) -> None:
    """Checks a call against all that can be known without asking a provider.

    Raises: InvalidArgument: metadata `field` names the first field that breaks a rule, such as `messages[3].text`.
    """
    if not _MODEL.fullmatch(call.model):
        raise invalid("model", "must be at most 200 characters of A-Z a-z 0-9 . _ : / @ + -.")
    if not 1 <= len(call.messages) <= MAX_MESSAGES:
        raise invalid("messages", f"must hold 1-{MAX_MESSAGES} messages, this call has {len(call.messages)}.")
    called: set[str] = set()
    for place, message in enumerate(call.messages):
        _check_message(f"messages[{place}]", message, called)
    _check_tools(call.tools)
    if call.temperature is not None:
        number("temperature", call.temperature, minimum=0, maximum=2)
    number("max_output_tokens", call.max_output_tokens, minimum=0, maximum=MAX_OUTPUT_TOKENS)
    if len(call.stop) > MAX_STOPS:
        raise invalid("stop", f"must hold at most {MAX_STOPS} texts, this call has {len(call.stop)}.")
    for place, text in enumerate(call.stop):
        if not 1 <= len(text) <= MAX_STOP_CHARS:
            raise invalid(f"stop[{place}]", f"must have 1-{MAX_STOP_CHARS} characters.")
    for name in ("first_token", "gap", "total"):
        number(f"timeouts.{name}", getattr(call.timeouts, f"{name}_s"), minimum=0, maximum=MAX_TIMEOUT_S)
    if len(call.conversation_id) > MAX_ID_CHARS:
        raise invalid("conversation_id", f"must have at most {MAX_ID_CHARS} characters.")


def _check_message(field: str, message: Message, called: set[str]) -> None:
    """Checks one message; `called` holds the tool calls made so far and grows by those of this one."""
    if message.tool_calls and message.role is not Role.ASSISTANT:
        raise invalid(f"{field}.tool_calls", "may stand on an assistant's message only.")
    if message.tool_call_id and message.role is not Role.TOOL:
        raise invalid(f"{field}.tool_call_id", "may stand on a tool's message only.")
    if message.role is Role.TOOL:
        if message.tool_call_id not in called:
            raise invalid(f"{field}.tool_call_id", "must name a tool call of an earlier assistant message.")
    elif not message.text and not message.tool_calls:
        raise invalid(f"{field}.text", "must not be empty.")
    for place, call in enumerate(message.tool_calls):
        within = f"{field}.tool_calls[{place}]"
        if not 1 <= len(call.id) <= MAX_ID_CHARS:
            raise invalid(f"{within}.id", f"must have 1-{MAX_ID_CHARS} characters.")
        if call.id in called:
            raise invalid(f"{within}.id", "must not be used twice.")
        if not _TOOL_NAME.fullmatch(call.name):
            raise invalid(f"{within}.name", "must be 1-64 characters of A-Z a-z 0-9 _ -.")
        called.add(call.id)


def _check_tools(tools: tuple[Tool, ...]) -> None:
    if len(tools) > MAX_TOOLS:
        raise invalid("tools", f"must hold at most {MAX_TOOLS} tools, this call has {len(tools)}.")
    names: set[str] = set()
    for place, tool in enumerate(tools):
        field = f"tools[{place}]"
        if not _TOOL_NAME.fullmatch(tool.name):
            raise invalid(f"{field}.name", "must be 1-64 characters of A-Z a-z 0-9 _ -.")
        if tool.name in names:
            raise invalid(f"{field}.name", "must not be used twice.")
        names.add(tool.name)
        if len(tool.description) > MAX_DESCRIPTION_CHARS:
            raise invalid(f"{field}.description", f"must have at most {MAX_DESCRIPTION_CHARS} characters.")
        if tool.parameters_json:
            schema = _json_object(f"{field}.parameters_json", tool.parameters_json)
            if schema.get("type", "object") != "object":
                raise invalid(f"{field}.parameters_json", 'must be a JSON schema of type "object".')


def _json_object(field: str, text: str) -> dict[str, object]:
    try:
        value = json.loads(text, parse_constant=_refuse)
    except (ValueError, RecursionError):
        value = None
    if not isinstance(value, dict):
        raise invalid(field, "must be a JSON object as text.")
    return value


def _refuse(constant: str) -> NoReturn:
    raise ValueError(constant)
