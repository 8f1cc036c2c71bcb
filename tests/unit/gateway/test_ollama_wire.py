"""What Ollama's lines have of their own."""

from __future__ import annotations

import json

import pytest

from services.gateway.wires.ollama import OllamaParser
from services.gateway.wires.parser import ErrorInStream
from tests.fakes.script import Answer, ToolUse
from tests.unit.gateway.wire_streams import hear, spell


def test_calls_without_ids_get_ones_that_differ() -> None:
    data = spell("ollama", Answer(tools=[ToolUse("a"), ToolUse("a")]))

    first, second = hear("ollama", [data]), hear("ollama", [data])

    ids = [id_ for said in (first, second) for id_, _, _ in said.calls.values()]
    assert all(ids)
    assert len(set(ids)) == 4


def test_the_last_line_may_lack_its_end() -> None:
    assert hear("ollama", [spell("ollama", Answer(text="all")).rstrip()]).ended is not None


def test_an_error_line_is_an_error() -> None:
    with pytest.raises(ErrorInStream) as raised:
        OllamaParser().feed(b'{"error":"out of memory"}\n')

    assert raised.value.text == "out of memory"


@pytest.mark.parametrize("arguments", ['"text"', "[1]", "7"])
def test_arguments_that_are_no_object_are_unreadable(arguments: str) -> None:
    line = {"message": {"tool_calls": [{"function": {"name": "f", "arguments": json.loads(arguments)}}]}}

    assert hear("ollama", [json.dumps(line).encode() + b"\n"]).failure == "Unreadable"


def test_arguments_that_are_no_utf_8_are_unreadable() -> None:
    line = b'{"message":{"tool_calls":[{"function":{"name":"f","arguments":{"a":"\x80"}}}]}}\n'

    assert hear("ollama", [line]).failure == "Unreadable"


def test_html_is_unreadable() -> None:
    assert hear("ollama", [b"<html>\n"]).failure == "Unreadable"


@pytest.mark.parametrize("arguments", ["{}", "null", '""'])
def test_no_arguments_are_an_empty_object(arguments: str) -> None:
    call = {"function": {"name": "f", "arguments": json.loads(arguments)}}
    lines = [{"message": {"tool_calls": [call]}}, {"message": {}, "done": True}]

    said = hear("ollama", [json.dumps(line).encode() + b"\n" for line in lines])

    assert [told for _, _, told in said.calls.values()] == ["{}"]
