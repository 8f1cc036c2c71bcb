"""Every field of a call has a rule, and a refusal that names the field."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import pytest

from runtime.errors import InvalidArgument
from services.gateway import rules
from services.gateway.domain import (
    AnswerSchema,
    Call,
    Image,
    Message,
    ResponseFormat,
    Role,
    Timeouts,
    Tool,
    ToolCall,
    ToolChoice,
    ToolMode,
)

ASK = Message(Role.USER, "What time is it?")
CALL = Call(model="", messages=(ASK,))


def calls(*tools: ToolCall) -> Message:
    return Message(Role.ASSISTANT, tool_calls=tools)


PICTURE = Image("data:image/png;base64,iVBORw0KGgo=")


def seen(image: Image) -> Message:
    return Message(Role.USER, "What is this?", images=(image,))


BAD: list[tuple[str, dict[str, Any]]] = [
    ("model", {"model": "x" * 201}),
    ("model", {"model": "gpt 4"}),
    ("model", {"model": "gpt\n4"}),
    ("messages", {"messages": ()}),
    ("messages", {"messages": (ASK,) * 1001}),
    ("messages[1].text", {"messages": (ASK, Message(Role.USER, ""))}),
    ("messages[0].text", {"messages": (Message(Role.SYSTEM, ""),)}),
    ("messages[0].text", {"messages": (Message(Role.ASSISTANT, ""),)}),
    ("messages[0].tool_calls", {"messages": (Message(Role.USER, "a", (ToolCall("1", "f", "{}"),)),)}),
    ("messages[0].tool_call_id", {"messages": (Message(Role.USER, "a", tool_call_id="1"),)}),
    ("messages[0].tool_call_id", {"messages": (Message(Role.TOOL, "42", tool_call_id="unknown"),)}),
    ("messages[0].tool_call_id", {"messages": (Message(Role.TOOL, "42"),)}),
    ("messages[0].tool_calls[0].id", {"messages": (calls(ToolCall("", "f", "{}")),)}),
    ("messages[0].tool_calls[0].id", {"messages": (calls(ToolCall("x" * 257, "f", "{}")),)}),
    ("messages[0].tool_calls[1].id", {"messages": (calls(ToolCall("1", "f", "{}"), ToolCall("1", "f", "{}")),)}),
    ("messages[0].tool_calls[0].name", {"messages": (calls(ToolCall("1", "", "{}")),)}),
    ("messages[0].tool_calls[0].name", {"messages": (calls(ToolCall("1", "a b", "{}")),)}),
    ("tools", {"tools": tuple(Tool(f"t{n}", "", "") for n in range(129))}),
    ("tools[0].name", {"tools": (Tool("", "", ""),)}),
    ("tools[0].name", {"tools": (Tool("x" * 65, "", ""),)}),
    ("tools[0].name", {"tools": (Tool("a.b", "", ""),)}),
    ("tools[1].name", {"tools": (Tool("a", "", ""), Tool("a", "", ""))}),
    ("tools[0].description", {"tools": (Tool("a", "x" * 10_001, ""),)}),
    ("tools[0].parameters_json", {"tools": (Tool("a", "", "not json"),)}),
    ("tools[0].parameters_json", {"tools": (Tool("a", "", "[]"),)}),
    ("tools[0].parameters_json", {"tools": (Tool("a", "", '{"type": "string"}'),)}),
    ("messages[0].images", {"messages": (Message(Role.SYSTEM, "a", images=(PICTURE,)),)}),
    ("messages[0].images", {"messages": (Message(Role.USER, "a", images=(PICTURE,) * 17),)}),
    ("messages[0].images[0].detail", {"messages": (seen(Image(PICTURE.url, "sharp")),)}),
    ("messages[0].images[0].url", {"messages": (seen(Image("http://example.org/a.png")),)}),
    ("messages[0].images[0].url", {"messages": (seen(Image("file:///etc/passwd")),)}),
    ("messages[0].images[0].url", {"messages": (seen(Image("data:text/html;base64,AAAA")),)}),
    ("messages[0].images[0].url", {"messages": (seen(Image("data:image/png;base64,no base64")),)}),
    ("messages[0].images[0].url", {"messages": (seen(Image("data:image/png;base64," + "A" * 7_000_000)),)}),
    ("tool_choice.mode", {"tool_choice": ToolChoice(ToolMode.REQUIRED)}),
    ("tool_choice.name", {"tools": (Tool("a", "", ""),), "tool_choice": ToolChoice(ToolMode.NAMED, "b")}),
    ("tool_choice.name", {"tool_choice": ToolChoice(ToolMode.AUTO, "a")}),
    ("response_format.json_schema.name", {"response_format": ResponseFormat(AnswerSchema("a b", "{}"))}),
    ("response_format.json_schema.schema_json", {"response_format": ResponseFormat(AnswerSchema("a", "[]"))}),
    ("top_p", {"top_p": 1.1}),
    ("top_p", {"top_p": math.nan}),
    ("frequency_penalty", {"frequency_penalty": -2.1}),
    ("presence_penalty", {"presence_penalty": 2.1}),
    ("top_logprobs", {"top_logprobs": 21}),
    ("reasoning_effort", {"reasoning_effort": "extreme"}),
    ("run_id", {"run_id": "not a uuid"}),
    ("bot", {"bot": "x" * 201}),
    ("temperature", {"temperature": -0.1}),
    ("temperature", {"temperature": 2.1}),
    ("temperature", {"temperature": math.nan}),
    ("max_output_tokens", {"max_output_tokens": -1}),
    ("max_output_tokens", {"max_output_tokens": 1_000_001}),
    ("stop", {"stop": ("a",) * 5}),
    ("stop[1]", {"stop": ("a", "")}),
    ("stop[0]", {"stop": ("x" * 1001,)}),
    ("timeouts.first_token", {"timeouts": Timeouts(-1, 0, 0)}),
    ("timeouts.gap", {"timeouts": Timeouts(0, 3601, 0)}),
    ("timeouts.total", {"timeouts": Timeouts(0, 0, -0.5)}),
    ("conversation_id", {"conversation_id": "x" * 257}),
]


@pytest.mark.parametrize(("field", "change"), BAD)
def test_a_broken_rule_is_told_by_field(field: str, change: dict[str, Any]) -> None:
    with pytest.raises(InvalidArgument) as raised:
        rules.check(dataclasses.replace(CALL, **change))

    assert raised.value.metadata["field"] == field
    assert raised.value.message.startswith(f"{field}: ")


def test_everything_a_call_may_hold_is_accepted() -> None:
    rules.check(
        Call(
            model="openrouter/meta-llama/llama-3.3-70b-instruct:free",
            messages=(
                Message(Role.SYSTEM, "Be brief."),
                ASK,
                calls(ToolCall("1", "now", "{}"), ToolCall("2", "now", '{"zone": "UTC"}')),
                Message(Role.TOOL, "", tool_call_id="2"),
                Message(Role.TOOL, "noon", tool_call_id="1"),
                Message(Role.ASSISTANT, "It is noon."),
            ),
            tools=(Tool("now", "Tells the time.", '{"type": "object", "properties": {}}'), Tool("none", "", "")),
            temperature=2,
            max_output_tokens=1_000_000,
            stop=("a", "b", "c", "d"),
            timeouts=Timeouts(1, 0.5, 3600),
            conversation_id="c" * 256,
        )
    )


def test_a_tool_answers_only_calls_that_came_before_it() -> None:
    messages = (ASK, Message(Role.TOOL, "noon", tool_call_id="1"), calls(ToolCall("1", "now", "{}")))

    with pytest.raises(InvalidArgument):
        rules.check(dataclasses.replace(CALL, messages=messages))
