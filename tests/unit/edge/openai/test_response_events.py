"""A run's log as a response's events: numbered without gaps, the same however it is read."""

import json
from typing import Any

import pytest

from parley.chat.v1 import chat_pb2
from services.edge.dialects.openai.response_events import Projection

RUN = "0193f000-0000-7000-8000-000000000001"
Event = dict[str, Any]


def log(*kinds: Any) -> list[chat_pb2.RunEvent]:
    """A run's log: each entry a field's name and its message."""
    started = ("run", chat_pb2.RunStarted(conversation_id="c", model="fast"))
    return [chat_pb2.RunEvent(seq=n, **{name: value}) for n, (name, value) in enumerate([started, *kinds], start=1)]


def text(delta: str, offset: int) -> Any:
    return ("text", chat_pb2.Text(delta=delta, offset=offset))


def done(status: Any = chat_pb2.RUN_STATUS_COMPLETED) -> Any:
    return ("done", chat_pb2.Done(status=status, model="gpt-4o-mini"))


def use(call: str) -> Any:
    return ("tool_use", chat_pb2.ToolUse(tool_call_id=call, name="now", input_json="{}"))


def result(call: str, **more: Any) -> Any:
    return ("tool_result", chat_pb2.ToolResult(tool_call_id=call, name="now", content="noon", **more))


def reset(offset: int) -> Any:
    return ("reset", chat_pb2.Reset(step=1, offset=offset))


def parsed(frames: bytes) -> list[Event]:
    events = []
    for frame in frames.decode().removesuffix("\n\n").split("\n\n"):
        name, data = frame.split("\n")
        events.append(json.loads(data.removeprefix("data: ")))
        assert name == f"event: {events[-1]['type']}"
    return events


def told(events: list[chat_pb2.RunEvent], **more: Any) -> list[Event]:
    return parsed(Projection(RUN, **more).frames(events))


def output(events: list[chat_pb2.RunEvent]) -> list[Any]:
    items: list[Any] = told(events)[-1]["response"]["output"]
    return [item["content"][0]["text"] if item["type"] == "message" else item["output"] for item in items]


def test_a_text_is_told_in_the_order_clients_expect() -> None:
    usage = ("usage", chat_pb2.Usage(input_tokens=3, output_tokens=2, cached_tokens=1))
    events = told(log(("thinking", chat_pb2.Thinking()), text("Hel", 0), text("lo", 3), usage, done()))
    assert [event["sequence_number"] for event in events] == list(range(len(events)))
    assert [event["type"].removeprefix("response.") for event in events] == [
        "created",
        "in_progress",
        "output_item.added",
        "content_part.added",
        "output_text.delta",
        "output_text.delta",
        "output_text.done",
        "content_part.done",
        "output_item.done",
        "completed",
    ]
    response = events[-1]["response"]
    assert (response["id"], response["model"], response["status"]) == (
        "resp_0193f00000007000800000000000" + "0001",
        "gpt-4o-mini",
        "completed",
    )
    assert response["output"][0]["content"] == [{"type": "output_text", "text": "Hello", "annotations": []}]
    assert response["usage"]["total_tokens"] == 5
    assert events[0]["response"]["output"] == []


@pytest.mark.parametrize(
    ("status", "kind", "told_status", "reason"),
    [
        (chat_pb2.RUN_STATUS_LIMITED, "response.incomplete", "incomplete", "max_output_tokens"),
        (chat_pb2.RUN_STATUS_INTERRUPTED, "response.incomplete", "incomplete", "interrupted"),
        (chat_pb2.RUN_STATUS_CANCELLED, "response.incomplete", "cancelled", None),
    ],
)
def test_an_answer_that_is_not_whole_says_so(status: Any, kind: str, told_status: str, reason: str | None) -> None:
    last = told(log(text("Hel", 0), done(status)))[-1]
    details = last["response"]["incomplete_details"]
    assert (last["type"], last["response"]["status"]) == (kind, told_status)
    assert (details["reason"] if details else None) == reason
    assert last["response"]["output"][0]["status"] == "incomplete"


def test_a_failure_is_told_with_its_reason() -> None:
    last = told(log(("error", chat_pb2.Error(reason="STREAM_STALLED", message="Silent."))))[-1]
    assert last["type"] == "response.failed"
    assert last["response"]["error"] == {"code": "stream_stalled", "message": "Silent."}


@pytest.mark.parametrize(
    ("entries", "items"),
    [
        ([text("wrong", 0), reset(0), text("right", 0), done()], ["right"]),
        ([text("kept lost", 0), reset(4), text(" found", 4), done()], ["kept", " found"]),
        ([text("a", 0), use("1"), result("1"), text("b", 1), done()], ["a", "noon", "b"]),
        ([text("a", 0), use("1"), result("1"), text("b", 1), reset(1), text("c", 1), done()], ["a", "noon", "c"]),
        ([use("1"), reset(0), use("2"), result("2"), text("a", 0), done()], ["noon", "a"]),
        ([text("Hel", 0), text("Hello", 0), done()], ["Hello"]),
        ([text("Hello", 0), text("Ho", 0), done()], ["Ho"]),
    ],
)
def test_what_is_taken_back_is_not_in_the_response(entries: list[Any], items: list[str]) -> None:
    text_parts = output(log(*entries))
    assert "".join(text_parts) == "".join(items)
    assert [one for one in text_parts if one == "noon"] == [one for one in items if one == "noon"]


def test_a_tool_that_failed_says_so() -> None:
    events = told(log(use("1"), result("1", is_error=True), done()))
    [item] = events[-1]["response"]["output"]
    assert (item["type"], item["status"], item["error"]) == ("mcp_call", "failed", "noon")


@pytest.mark.parametrize("after", range(11))
def test_who_comes_back_gets_the_rest_and_nothing_twice(after: int) -> None:
    entries = log(text("Hel", 0), text("lo", 3), use("1"), result("1"), done())
    whole = told(entries)
    assert told(entries, starting_after=after) == whole[after + 1 :]


def test_how_events_came_together_makes_no_difference() -> None:
    entries = log(text("Hel", 0), text("lo", 3), use("1"), result("1"), text("!", 5), done())
    one_by_one = Projection(RUN)
    assert b"".join(one_by_one.frames([entry]) for entry in entries) == Projection(RUN).frames(entries)


def test_of_a_log_that_has_been_shortened_the_end_is_always_told() -> None:
    events = log(text("Hello", 0), done())[1:]
    [last] = told(events, conversation_id="c", model="m", starting_after=500)
    assert last["type"] == "response.completed"
    assert last["response"]["conversation"] == {"id": "c"}
