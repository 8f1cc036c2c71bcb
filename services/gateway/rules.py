"""What a call must look like; each refusal names the field and the fix."""

from __future__ import annotations

import json
import operator
import re
from typing import TYPE_CHECKING, NoReturn

from runtime.validation import identifier, invalid, number, text
from services.gateway.domain import NO_TIMEOUTS, Role, ToolMode

if TYPE_CHECKING:
    from services.gateway.domain import Call, Image, Message, ResponseFormat, Tool, ToolChoice

MAX_MESSAGES = 1000
MAX_TOOLS = 128
MAX_STOPS = 4
MAX_STOP_CHARS = 1000
MAX_OUTPUT_TOKENS = 1_000_000
MAX_TIMEOUT_S = 3600
MAX_ID_CHARS = 256
MAX_DESCRIPTION_CHARS = 10_000
MAX_IMAGES = 16
MAX_IMAGE_BYTES = 5 * 1024 * 1024
MAX_URL_CHARS = 8192
MAX_LOGPROBS = 20
MAX_SCHEMA_CHARS = 256 * 1024
MAX_BOT_CHARS = 200
REASONING_EFFORTS = ("", "minimal", "low", "medium", "high")
IMAGE_DETAILS = ("", "low", "high", "auto")

_MODEL = re.compile(r"[A-Za-z0-9._:/@+-]{0,200}")
_TOOL_NAME = re.compile(r"[A-Za-z0-9_-]{1,64}")
_DATA_URL = re.compile(r"data:image/[a-z0-9.+-]{1,64};base64,")
_BASE64 = re.compile(r"[A-Za-z0-9+/]+={0,2}")


_numbers = operator.attrgetter("temperature", "seed", "top_p", "frequency_penalty", "presence_penalty", "top_logprobs")
_NO_NUMBERS = (None,) * 6


def check_model(name: str) -> None:
    """Checks the name of a model or alias. Raises: InvalidArgument."""
    if not _MODEL.fullmatch(name):
        raise invalid("model", "must be at most 200 characters of A-Z a-z 0-9 . _ : / @ + -.")


def check(call: Call) -> None:
    """Checks a call against all that can be known without asking a provider.

    Raises: InvalidArgument: metadata `field` names the first field that breaks a rule, such as `messages[3].text`.
    """
    check_model(call.model)
    if not 1 <= len(call.messages) <= MAX_MESSAGES:
        raise invalid("messages", f"must hold 1-{MAX_MESSAGES} messages, this call has {len(call.messages)}.")
    called: set[str] = set()
    for place, message in enumerate(call.messages):
        # What is but a text, as nearly all are, breaks no rule.
        if (
            not message.text
            or message.role is Role.TOOL
            or message.tool_call_id
            or message.tool_calls
            or message.images
        ):
            _check_message(f"messages[{place}]", message, called)
    if call.tools:
        _check_tools(call.tools)
    _check_wishes(call)
    number("max_output_tokens", call.max_output_tokens, minimum=0, maximum=MAX_OUTPUT_TOKENS)
    if call.timeouts is not NO_TIMEOUTS:
        for name in ("first_token", "gap", "total"):
            number(f"timeouts.{name}", getattr(call.timeouts, f"{name}_s"), minimum=0, maximum=MAX_TIMEOUT_S)
    if len(call.conversation_id) > MAX_ID_CHARS:
        raise invalid("conversation_id", f"must have at most {MAX_ID_CHARS} characters.")
    if call.run_id:
        identifier("run_id", call.run_id)
    text("bot", call.bot, max_chars=MAX_BOT_CHARS)


def _check_wishes(call: Call) -> None:
    """Checks what the answer shall be like."""
    if call.tool_choice is not None:
        _check_tool_choice(call.tool_choice, call.tools)
    if call.response_format is not None:
        _check_response_format(call.response_format)
    _check_numbers(call)
    if call.reasoning_effort not in REASONING_EFFORTS:
        raise invalid("reasoning_effort", "must be minimal, low, medium, high or empty.")
    if len(call.stop) > MAX_STOPS:
        raise invalid("stop", f"must hold at most {MAX_STOPS} texts, this call has {len(call.stop)}.")
    for place, ending in enumerate(call.stop):
        if not 1 <= len(ending) <= MAX_STOP_CHARS:
            raise invalid(f"stop[{place}]", f"must have 1-{MAX_STOP_CHARS} characters.")


def _check_numbers(call: Call) -> None:
    if _numbers(call) == _NO_NUMBERS:
        return
    for name, least, most in (
        ("temperature", 0, 2),
        ("seed", -(2**63), 2**63 - 1),
        ("top_p", 0, 1),
        ("frequency_penalty", -2, 2),
        ("presence_penalty", -2, 2),
        ("top_logprobs", 0, MAX_LOGPROBS),
    ):
        if (value := getattr(call, name)) is not None:
            number(name, value, minimum=least, maximum=most)


def _check_tool_choice(choice: ToolChoice, tools: tuple[Tool, ...]) -> None:
    if choice.mode in {ToolMode.REQUIRED, ToolMode.NAMED} and not tools:
        raise invalid("tool_choice.mode", "asks for a tool, and this call offers none.")
    if choice.mode is ToolMode.NAMED and choice.name not in {tool.name for tool in tools}:
        raise invalid("tool_choice.name", "must be the name of a tool on offer.")
    if choice.mode is not ToolMode.NAMED and choice.name:
        raise invalid("tool_choice.name", "may stand with the mode named only.")


def _check_response_format(shape: ResponseFormat) -> None:
    schema, field = shape.schema, "response_format.json_schema"
    if schema is None:
        return
    if not _TOOL_NAME.fullmatch(schema.name):
        raise invalid(f"{field}.name", "must be 1-64 characters of A-Z a-z 0-9 _ -.")
    if len(schema.description) > MAX_DESCRIPTION_CHARS:
        raise invalid(f"{field}.description", f"must have at most {MAX_DESCRIPTION_CHARS} characters.")
    if len(schema.schema_json) > MAX_SCHEMA_CHARS:
        raise invalid(f"{field}.schema_json", f"must have at most {MAX_SCHEMA_CHARS} characters.")
    _json_object(f"{field}.schema_json", schema.schema_json)


def _check_message(field: str, message: Message, called: set[str]) -> None:
    """Checks one message; `called` holds the tool calls made so far and grows by those of this one."""
    _check_place(field, message)
    if message.role is Role.TOOL:
        if message.tool_call_id not in called:
            raise invalid(f"{field}.tool_call_id", "must name a tool call of an earlier assistant message.")
    elif not message.text and not message.tool_calls and not message.images:
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


def _check_place(field: str, message: Message) -> None:
    """Checks that a message holds only what whoever speaks may say."""
    if message.tool_calls and message.role is not Role.ASSISTANT:
        raise invalid(f"{field}.tool_calls", "may stand on an assistant's message only.")
    if message.tool_call_id and message.role is not Role.TOOL:
        raise invalid(f"{field}.tool_call_id", "may stand on a tool's message only.")
    if message.images:
        _check_images(f"{field}.images", message)


def _check_images(field: str, message: Message) -> None:
    if message.role is not Role.USER:
        raise invalid(field, "may stand on a user's message only.")
    if len(message.images) > MAX_IMAGES:
        raise invalid(field, f"must hold at most {MAX_IMAGES} images, this one has {len(message.images)}.")
    for place, image in enumerate(message.images):
        _check_image(f"{field}[{place}]", image)


def _check_image(field: str, image: Image) -> None:
    if image.detail not in IMAGE_DETAILS:
        raise invalid(f"{field}.detail", "must be low, high, auto or empty.")
    url = image.url
    if head := _DATA_URL.match(url):
        if not _BASE64.fullmatch(url, head.end()):
            raise invalid(f"{field}.url", "must hold base64 after `base64,`.")
        if (len(url) - head.end()) * 3 // 4 > MAX_IMAGE_BYTES:
            raise invalid(f"{field}.url", f"must hold at most {MAX_IMAGE_BYTES} bytes.")
    elif not url.startswith("https://") or len(url) > MAX_URL_CHARS or not url.isprintable() or " " in url:
        raise invalid(f"{field}.url", "must be https://… or data:image/…;base64,….")


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
