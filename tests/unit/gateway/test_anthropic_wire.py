"""What Anthropic's stream has of its own."""

from __future__ import annotations

import json

import pytest

from services.gateway.domain import FinishReason
from services.gateway.wires.anthropic import AnthropicParser
from services.gateway.wires.parser import ErrorInStream
from tests.fakes.script import Answer, ToolUse
from tests.unit.gateway.wire_streams import hear, spell


def event(**body: object) -> bytes:
    return f"event: {body['type']}\ndata: {json.dumps(body)}\n\n".encode()


END = event(type="message_delta", delta={"stop_reason": "end_turn"}) + event(type="message_stop")


def test_a_call_without_arguments_gets_an_empty_object() -> None:
    said = hear("anthropic", [spell("anthropic", Answer(text="", tools=[ToolUse("now", "")]))])

    assert said.calls == {0: ("call_scripted_0", "now", "{}")}


def test_calls_are_counted_among_themselves_whatever_blocks_stand_between() -> None:
    said = hear("anthropic", [spell("anthropic", Answer(reasoning="hm", tools=[ToolUse("a"), ToolUse("b")]))])

    assert {index: name for index, (_, name, _) in said.calls.items()} == {0: "a", 1: "b"}


def test_unknown_events_blocks_and_deltas_are_passed_over() -> None:
    data = (
        event(type="brand_new", anything=[1])
        + event(type="content_block_start", index=0, content_block={"type": "hologram"})
        + event(type="content_block_delta", index=0, delta={"type": "hologram_delta", "shape": "cube"})
        + event(type="content_block_delta", index=1, delta={"type": "text_delta", "text": "seen"})
        + END
    )

    assert hear("anthropic", [data]).text == "seen"


@pytest.mark.parametrize(
    ("stop_reason", "reason"),
    [
        ("end_turn", FinishReason.STOP),
        ("stop_sequence", FinishReason.STOP),
        ("max_tokens", FinishReason.LENGTH),
        ("model_context_window_exceeded", FinishReason.LENGTH),
        ("tool_use", FinishReason.TOOL_CALLS),
        ("refusal", FinishReason.CONTENT_FILTER),
        ("brand_new", FinishReason.STOP),
    ],
)
def test_every_stop_reason_has_a_finish_reason(stop_reason: str, reason: FinishReason) -> None:
    data = event(type="message_delta", delta={"stop_reason": stop_reason}) + event(type="message_stop")

    said = hear("anthropic", [data])

    assert said.ended is not None
    assert said.ended.reason is reason


def test_an_answer_with_a_stop_reason_is_whole_without_its_last_event() -> None:
    assert hear("anthropic", [spell("anthropic", Answer(done_marker=False))]).ended is not None


@pytest.mark.parametrize(("kind", "status"), [("overloaded_error", 529), ("rate_limit_error", 429), ("brand_new", 0)])
def test_an_error_event_stands_for_a_status(kind: str, status: int) -> None:
    with pytest.raises(ErrorInStream) as raised:
        AnthropicParser().feed(event(type="error", error={"type": kind, "message": "m"}))

    assert (raised.value.code, raised.value.status) == (kind, status)


@pytest.mark.parametrize("broken", [{"type": "content_block_delta"}, {"type": "content_block_start"}, {"no": "type"}])
def test_an_event_without_its_parts_is_unreadable(broken: dict[str, str]) -> None:
    data = f"data: {json.dumps(broken)}\n\n".encode()

    assert hear("anthropic", [data]).failure == "Unreadable"


def test_a_count_of_the_start_is_no_count_of_the_answer() -> None:
    """Where the end says nothing of tokens, nothing is known: the start counts one token of every answer."""
    start = event(type="message_start", message={"usage": {"input_tokens": 11, "output_tokens": 1}})

    said = hear("anthropic", [start, END])

    assert said.ended is not None
    assert said.ended.counts is None
