"""The demo model is plainly a demo, knows the conversation, and does what its words promise."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deploy.local.demo_provider.answers import LABEL, answer, pieces


def say(*texts: str, tools: list[dict[str, Any]] | None = None) -> Any:
    messages = [{"role": "user", "content": text} for text in texts]
    return answer(messages, tools or [])


def tool(name: str, **parameters: Any) -> dict[str, Any]:
    return {"type": "function", "function": {"name": name, "parameters": parameters}}


@pytest.mark.parametrize("message", ["hello", "help", "table", "long", "context", "error late"])
def test_every_answer_says_that_it_is_a_demo(message: str) -> None:
    assert say(message).text.startswith(LABEL)


def test_it_quotes_what_was_said_and_what_was_said_before() -> None:
    text = say("I am Ada", "and who are you?").text
    assert "You said: “and who are you?”" in text
    assert "Before that you said: “I am Ada”" in text
    assert "message 2" in text


def test_a_quotation_stays_on_one_line() -> None:
    """A table or a fence in the user's message must not swallow the rest of the answer."""
    assert "“a | b ```”" in say("a | b\n\n```").text


def test_content_in_parts_is_understood() -> None:
    messages = [{"role": "user", "content": [{"type": "text", "text": "in parts"}]}]
    assert "“in parts”" in answer(messages, []).text


@pytest.mark.parametrize(("word", "markdown"), [("list", "1. The"), ("table", "|---|"), ("code", "```python")])
def test_a_word_shows_its_piece_of_markdown(word: str, markdown: str) -> None:
    assert markdown in say(f"show me a {word}, please").text
    assert markdown not in say("show me something").text


def test_words_combine() -> None:
    chosen = say("a slow table; think first")
    assert (chosen.slow, bool(chosen.reasoning), "|---|" in chosen.text) == (True, True, True)


def test_long_is_some_400_words() -> None:
    assert 380 <= len(say("long").text.split()) <= 520


def test_help_names_every_word() -> None:
    text = say("help").text
    for word in (
        "list",
        "table",
        "code",
        "long",
        "think",
        "slow",
        "context",
        "error",
        "error 429",
        "error late",
        "stall",
    ):
        assert f"`{word}`" in text, word


@pytest.mark.parametrize(
    ("message", "fault"),
    [("error", "server_error"), (" Error  429 ", "busy"), ("error late", "break"), ("stall", "stall")],
)
def test_a_fault_is_a_message_of_its_own(message: str, fault: str) -> None:
    assert say(message).fault == fault
    assert say(f"what does {message.strip()} mean?").fault == ""


def test_a_tool_that_is_named_is_called_with_the_arguments_that_follow() -> None:
    chosen = say('call get_weather {"city": "Oslo"} now', tools=[tool("other"), tool("get_weather")])
    assert chosen.tool_call.name == "get_weather"
    assert json.loads(chosen.tool_call.arguments) == {"city": "Oslo"}


def test_missing_arguments_are_made_up_from_the_schema() -> None:
    schema = {
        "type": "object",
        "properties": {
            "city": {"type": "string"},
            "days": {"type": "integer"},
            "unit": {"enum": ["c", "f"]},
            "note": {"type": "string"},
        },
        "required": ["city", "days", "unit"],
    }
    chosen = say("get_weather", tools=[tool("get_weather", **schema)])
    assert json.loads(chosen.tool_call.arguments) == {"city": "demo", "days": 1, "unit": "c"}


def test_a_tool_that_is_not_named_is_not_called() -> None:
    assert say("the weather?", tools=[tool("get_weather")]).tool_call is None


def test_a_tool_s_result_is_reported() -> None:
    messages = [{"role": "user", "content": "get_weather"}, {"role": "tool", "content": "12 degrees"}]
    chosen = answer(messages, [tool("get_weather")])
    assert chosen.tool_call is None
    assert "The tool answered: “12 degrees”" in chosen.text


@given(st.text(max_size=200))
def test_pieces_joined_are_the_text(text: str) -> None:
    assert "".join(pieces(text)) == text
