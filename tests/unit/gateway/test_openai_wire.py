"""What OpenAI-shaped servers do that the others do not."""

from __future__ import annotations

import json
from typing import Any

import pytest

from services.gateway.domain import Counts, FinishReason
from services.gateway.wires.openai import OpenAIParser
from services.gateway.wires.parser import ErrorInStream
from tests.fakes.script import Answer
from tests.unit.gateway.wire_streams import Heard, hear, spell


def lines(*chunks: object) -> bytes:
    return b"".join(b"data: " + (c if isinstance(c, bytes) else json.dumps(c).encode()) + b"\n\n" for c in chunks)


def chunk(delta: dict[str, Any], finish: str | None = None, **more: Any) -> dict[str, Any]:
    return {"choices": [{"index": 0, "delta": delta, "finish_reason": finish}], **more}


def heard(*chunks: object) -> Heard:
    return hear("openai", [lines(*chunks)])


STOP = chunk({}, "stop")
DONE = b"[DONE]"


def test_an_answer_with_a_reason_to_stop_is_whole_without_the_end_marker() -> None:
    said = hear("openai", [spell("openai", Answer(text="whole", done_marker=False))])

    assert (said.text, said.failure) == ("whole", "")


def test_the_end_marker_alone_does_not_make_an_answer_whole() -> None:
    assert heard(chunk({"content": "half"}), DONE).failure == "CutOff"


def test_nothing_counts_after_the_end_marker() -> None:
    said = heard(chunk({"content": "all"}), STOP, DONE, chunk({"content": " but this"}))

    assert said.text == "all"


def test_the_last_event_may_lack_its_blank_line() -> None:
    data = lines(chunk({"content": "a"}), STOP).rstrip(b"\n")

    assert hear("openai", [data]).ended is not None


@pytest.mark.parametrize("finish", ["", None])
def test_an_empty_finish_reason_is_none(finish: str | None) -> None:
    assert heard(chunk({"content": "a"}, finish)).failure == "CutOff"


@pytest.mark.parametrize("spelling", ["reasoning_content", "reasoning"])
def test_both_spellings_of_reasoning_are_read(spelling: str) -> None:
    assert heard(chunk({spelling: "hm"}), STOP, DONE).reasoning == "hm"


def test_a_refusal_is_visible_text() -> None:
    assert heard(chunk({"content": None, "refusal": "I cannot."}), STOP, DONE).text == "I cannot."


def test_comments_and_unknown_fields_of_the_format_are_passed_over() -> None:
    data = b": OPENROUTER PROCESSING\n\nevent: message\nid: 7\nretry: 100\n" + lines(
        chunk({"content": "a"}), STOP, DONE
    )

    assert hear("openai", [data]).text == "a"


def test_a_space_after_the_colon_is_optional() -> None:
    data = lines(chunk({"content": " a"}), STOP, DONE).replace(b"data: ", b"data:")

    assert hear("openai", [data]).text == " a"


def test_only_the_first_choice_is_read() -> None:
    other = {"choices": [{"index": 1, "delta": {"content": "other"}, "finish_reason": "stop"}]}

    assert heard(chunk({"content": "first"}), other, STOP, DONE).text == "first"


def test_usage_may_come_with_any_chunk_and_the_last_one_counts() -> None:
    early = chunk({"content": "a"}, usage={"prompt_tokens": 5, "completion_tokens": 1})
    late = {"choices": [], "usage": {"prompt_tokens": 5, "completion_tokens": 9, "cost": 0.25}}

    said = heard(early, STOP, late, DONE)

    assert said.ended is not None
    assert said.ended.counts == Counts(5, 9, cost_usd=0.25)


@pytest.mark.parametrize("usage", [{"prompt_tokens": -1, "completion_tokens": 2}, {"prompt_tokens": 10**30}, {}])
def test_impossible_usage_is_none(usage: dict[str, Any]) -> None:
    said = heard(STOP, {"choices": [], "usage": {"completion_tokens": 1, **usage}}, DONE)

    assert said.ended is None or said.ended.counts is None


def test_calls_without_an_index_begin_with_their_id() -> None:
    def piece(**call: Any) -> dict[str, Any]:
        return chunk({"tool_calls": [call]})

    said = heard(
        piece(id="a", function={"name": "f", "arguments": "{"}),
        piece(function={"arguments": "}"}),
        piece(id="b", function={"name": "g", "arguments": "{}"}),
        chunk({}, "tool_calls"),
        DONE,
    )

    assert said.calls == {0: ("a", "f", "{}"), 1: ("b", "g", "{}")}


def test_an_answer_that_called_tools_did_not_merely_stop() -> None:
    call = {"index": 0, "id": "a", "function": {"name": "f", "arguments": "{}"}}

    said = heard(chunk({"tool_calls": [call]}), STOP, DONE)

    assert said.ended is not None
    assert said.ended.reason is FinishReason.TOOL_CALLS


@pytest.mark.parametrize("index", [-1, 128, 2**40])
def test_a_call_at_an_impossible_place_is_unreadable(index: int) -> None:
    assert heard(chunk({"tool_calls": [{"index": index, "id": "a"}]})).failure == "Unreadable"


def test_an_unknown_reason_to_stop_is_one() -> None:
    said = heard(chunk({}, "eos_token"), DONE)

    assert said.ended is not None
    assert said.ended.reason is FinishReason.STOP


@pytest.mark.parametrize(
    ("error", "code", "status"),
    [
        ({"code": "context_length_exceeded", "message": "m"}, "context_length_exceeded", 0),
        ({"code": 429, "message": "m"}, "", 429),
        ({"code": None, "type": "server_error", "message": "m"}, "server_error", 0),
        ("m", "", 0),
    ],
)
def test_an_error_object_is_told_by_code_and_status(error: object, code: str, status: int) -> None:
    with pytest.raises(ErrorInStream) as raised:
        OpenAIParser().feed(lines({"error": error}))

    assert (raised.value.code, raised.value.status, raised.value.text) == (code, status, "m")


@pytest.mark.parametrize("content", [7, ["a"], {"a": 1}])
def test_content_of_another_type_is_unreadable(content: object) -> None:
    assert heard(chunk({"content": content})).failure == "Unreadable"


def test_text_that_is_no_event_stream_is_unreadable() -> None:
    assert hear("openai", [b"<html>\n<body>Bad gateway</body>\n</html>\n"]).failure == "Unreadable"


def test_json_nested_without_end_is_unreadable() -> None:
    assert hear("openai", [b'data: {"error":' + b"[" * 200_000 + b"\n\n"]).failure == "Unreadable"
