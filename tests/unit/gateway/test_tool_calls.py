"""Tool calls are what callers are promised, whatever a provider makes of them."""

from __future__ import annotations

import re

import pytest

from services.gateway import rules
from services.gateway.domain import Call, FinishReason, Message, Role, Tool, ToolCall, ToolCallPiece
from services.gateway.tool_calls import ToolCalls

NOW = Tool("now", "", "")


def asked(*made: ToolCall, tools: tuple[Tool, ...] = (NOW,)) -> Call:
    before = (Message(Role.ASSISTANT, tool_calls=made),) if made else ()
    return Call("", (Message(Role.USER, "?"), *before), tools)


@pytest.mark.parametrize("given", ["", "used", "\x00", "x" * 300])
def test_an_id_is_there_short_and_new(given: str) -> None:
    piece = ToolCalls(asked(ToolCall("used", "now", "{}"))).take(ToolCallPiece(0, given, "now"))

    assert piece is not None
    assert piece.id != "used"
    assert 1 <= len(piece.id) <= rules.MAX_ID_CHARS


def test_a_good_id_stays_the_provider_s() -> None:
    piece = ToolCalls(asked()).take(ToolCallPiece(0, "toolu_1", "now"))

    assert piece == ToolCallPiece(0, "toolu_1", "now")


def test_two_calls_of_one_answer_have_two_ids() -> None:
    calls = ToolCalls(asked())
    first, second = calls.take(ToolCallPiece(0, "same", "now")), calls.take(ToolCallPiece(1, "same", "now"))

    assert first is not None
    assert second is not None
    assert first.id != second.id


@pytest.mark.parametrize(
    ("given", "told"), [("now", "now"), ("functions.now", "functions_now"), ("", "unnamed"), ("n" * 80, "n" * 64)]
)
def test_a_name_is_one_that_a_prompt_may_hold(given: str, told: str) -> None:
    piece = ToolCalls(asked()).take(ToolCallPiece(0, "1", given))

    assert piece is not None
    assert piece.name == told
    assert re.fullmatch(r"[A-Za-z0-9_-]{1,64}", piece.name)


def test_arguments_are_passed_on_as_they_are_but_for_the_character_nobody_can_store() -> None:
    calls = ToolCalls(asked())
    begun = calls.take(ToolCallPiece(0, "1", "now", '{"a'))
    more = calls.take(ToolCallPiece(0, arguments='": \x00tru'))

    assert begun == ToolCallPiece(0, "1", "now", '{"a')
    assert more == ToolCallPiece(0, arguments='": tru')
    assert calls.end(FinishReason.TOOL_CALLS) == ([], FinishReason.TOOL_CALLS)


def test_calls_without_arguments_get_an_empty_object() -> None:
    calls = ToolCalls(asked())
    calls.take(ToolCallPiece(0, "1", "now"))
    calls.take(ToolCallPiece(1, "2", "now", '{"zone":"UTC"}'))
    calls.take(ToolCallPiece(2, "3", "now"))

    lacking, _ = calls.end(FinishReason.TOOL_CALLS)

    assert lacking == [ToolCallPiece(0, arguments="{}"), ToolCallPiece(2, arguments="{}")]


def test_a_call_that_the_limit_cut_off_is_not_completed() -> None:
    calls = ToolCalls(asked())
    calls.take(ToolCallPiece(0, "1", "now"))

    assert calls.end(FinishReason.LENGTH) == ((), FinishReason.LENGTH)


@pytest.mark.parametrize("reason", FinishReason)
def test_where_no_tool_was_offered_none_is_called(reason: FinishReason) -> None:
    calls = ToolCalls(asked(tools=()))

    assert calls.take(ToolCallPiece(0, "1", "now", "{}")) is None
    lacking, told = calls.end(reason)
    assert not lacking
    assert told is (FinishReason.STOP if reason is FinishReason.TOOL_CALLS else reason)
