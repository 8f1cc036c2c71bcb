"""The demo model is plainly a demo, knows the conversation, and does what its words promise."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deploy.local.demo_provider.answers import LABEL, answer, pieces
from services.chat import titles


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
    [call] = say('call get_weather {"city": "Oslo"} now', tools=[tool("other"), tool("get_weather")]).tool_calls
    assert call.name == "get_weather"
    assert json.loads(call.arguments) == {"city": "Oslo"}


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
    [call] = say("get_weather", tools=[tool("get_weather", **schema)]).tool_calls
    assert json.loads(call.arguments) == {"city": "demo", "days": 1, "unit": "c"}


def test_a_question_calls_the_tool_it_is_about() -> None:
    [call] = say("What time is it?", tools=[tool("other"), tool("current_time", type="object")]).tool_calls
    assert (call.name, call.arguments) == ("current_time", "{}")


def test_tools_that_are_named_together_are_called_together() -> None:
    chosen = say('add {"a": 1} and current_time', tools=[tool("current_time", type="object"), tool("add")])
    assert [(call.name, call.arguments) for call in chosen.tool_calls] == [("current_time", "{}"), ("add", '{"a": 1}')]


@pytest.mark.parametrize("message", ["the weather", "the get", "who are you?", "?"])
def test_a_tool_that_is_neither_named_nor_asked_about_is_not_called(message: str) -> None:
    assert not say(message, tools=[tool("get_weather"), tool("")]).tool_calls


def test_results_are_reported_and_nothing_is_called_again() -> None:
    calls = [{"id": "1", "function": {"name": "get_weather"}}, {"id": "2", "function": {"name": "current_time"}}]
    messages: list[dict[str, Any]] = [
        {"role": "user", "content": "get_weather and current_time, then a table"},
        {"role": "assistant", "content": None, "tool_calls": calls},
        {"role": "tool", "tool_call_id": "1", "content": "12 degrees"},
        {"role": "tool", "tool_call_id": "2", "content": "noon"},
    ]
    chosen = answer(messages, [tool("get_weather"), tool("current_time")])
    assert not chosen.tool_calls
    assert "`get_weather` answered: “12 degrees”" in chosen.text
    assert "`current_time` answered: “noon”" in chosen.text
    assert "|---|" in chosen.text


def test_the_next_question_calls_again() -> None:
    messages: list[dict[str, Any]] = [
        {"role": "user", "content": "current_time"},
        {"role": "assistant", "tool_calls": [{"id": "1", "function": {"name": "current_time"}}]},
        {"role": "tool", "tool_call_id": "1", "content": "noon"},
        {"role": "assistant", "content": "It is noon."},
        {"role": "user", "content": "And the time now?"},
    ]
    assert answer(messages, [tool("current_time")]).tool_calls


def test_a_title_is_the_first_words_as_the_chat_service_asks_for_it() -> None:
    asked = [
        {"role": "system", "content": titles.INSTRUCTIONS},
        {"role": "user", "content": "How do  I boil an egg\nwell?"},
    ]
    assert answer(asked, []).text == "How do I boil an egg"


@given(st.text(max_size=200))
def test_pieces_joined_are_the_text(text: str) -> None:
    assert "".join(pieces(text)) == text
