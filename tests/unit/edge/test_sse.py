"""A run's events become frames."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from parley.chat.v1 import chat_pb2
from services.edge.runs.sse import frames, text_frame, text_of

RUN = "0193f000-0000-7000-8000-000000000001"


def parse(stream: bytes) -> list[tuple[str, str, dict[str, object]]]:
    """Returns id, name and data of each frame."""
    found = []
    for frame in stream.decode().split("\n\n")[:-1]:
        fields = dict(line.split(": ", 1) for line in frame.split("\n"))
        found.append((fields["id"], fields["event"], json.loads(fields["data"])))
    return found


def only(event: chat_pb2.RunEvent) -> tuple[str, dict[str, object]]:
    [(_, name, data)] = parse(frames(RUN, [event]))
    return name, data


def test_a_frame_has_id_name_and_data_with_the_run_and_the_place_in_its_log() -> None:
    event = chat_pb2.RunEvent(seq=4, text=chat_pb2.Text(delta="Hi", offset=3))
    expected = f'id: {RUN}:4\nevent: text\ndata: {{"run_id":"{RUN}","seq":4,"delta":"Hi","offset":3}}\n\n'
    assert frames(RUN, [event]) == expected.encode()


def test_events_that_happened_together_are_joined_in_order() -> None:
    events = [chat_pb2.RunEvent(seq=seq, text=chat_pb2.Text(delta=str(seq), offset=seq)) for seq in (1, 2, 3)]
    assert [data["seq"] for _, _, data in parse(frames(RUN, events))] == [1, 2, 3]


@given(st.text())
def test_no_text_can_break_a_frame(delta: str) -> None:
    """Whatever a model writes (line ends, blank lines, `data:`), the frame stays one frame and the text comes back."""
    event = chat_pb2.RunEvent(seq=1, text=chat_pb2.Text(delta=delta, offset=0))
    stream = frames(RUN, [event])
    assert b"\r" not in stream
    assert stream.count(b"\n") == 4
    assert only(event)[1]["delta"] == delta


def test_the_run_event_names_what_it_made() -> None:
    run = chat_pb2.RunStarted(conversation_id="c", message_id="m", user_message_id="u", model="fast")
    name, data = only(chat_pb2.RunEvent(seq=1, run=run))
    assert name == "run"
    assert data == {
        "run_id": RUN,
        "seq": 1,
        "conversation_id": "c",
        "message_id": "m",
        "user_message_id": "u",
        "model": "fast",
    }


def test_times_are_rfc_3339_in_utc() -> None:
    message = chat_pb2.UserMessage(message_id="m", content="Hello")
    message.create_time.FromJsonString("2026-11-21T10:00:00.5+02:00")
    assert only(chat_pb2.RunEvent(seq=2, user_message=message))[1]["created_at"] == "2026-11-21T08:00:00.500Z"


def test_usage_adds_up_and_an_unknown_price_is_null() -> None:
    usage = chat_pb2.Usage(input_tokens=10, output_tokens=5, cached_tokens=2, reasoning_tokens=1, estimated=True)
    data = only(chat_pb2.RunEvent(seq=3, usage=usage))[1]
    assert data == {
        "run_id": RUN,
        "seq": 3,
        "input_tokens": 10,
        "output_tokens": 5,
        "total_tokens": 15,
        "cached_tokens": 2,
        "reasoning_tokens": 1,
        "cost": None,
        "estimated": True,
    }


def test_a_price_of_nothing_is_a_price() -> None:
    usage = chat_pb2.Usage(input_tokens=1, output_tokens=1, cost_usd=0.0)
    assert only(chat_pb2.RunEvent(seq=3, usage=usage))[1]["cost"] == 0.0


@pytest.mark.parametrize(
    ("status", "word"),
    [
        (chat_pb2.RUN_STATUS_COMPLETED, "completed"),
        (chat_pb2.RUN_STATUS_CANCELLED, "cancelled"),
        (chat_pb2.RUN_STATUS_INTERRUPTED, "interrupted"),
        (chat_pb2.RUN_STATUS_LIMITED, "limited"),
    ],
)
def test_the_end_says_how(status: chat_pb2.RunStatus.ValueType, word: str) -> None:
    name, data = only(chat_pb2.RunEvent(seq=9, done=chat_pb2.Done(status=status, message_id="m", model="gpt")))
    assert (name, data["status"], data["message_id"], data["model"]) == ("done", word, "m", "gpt")


def test_an_error_spells_its_reason_as_the_api_does_and_says_when_to_come_back_only_if_it_is_known() -> None:
    error = chat_pb2.Error(reason="PROVIDER_RATE_LIMITED", message="Wait.", request_id="r")
    name, data = only(chat_pb2.RunEvent(seq=9, error=error))
    assert name == "error"
    assert data == {
        "run_id": RUN,
        "seq": 9,
        "code": "provider_rate_limited",
        "message": "Wait.",
        "request_id": "r",
    }
    error.retry_after_s = 2.5
    assert only(chat_pb2.RunEvent(seq=9, error=error))[1]["retry_after"] == 2.5


def test_an_error_tells_the_limit_that_is_reached() -> None:
    limit = chat_pb2.Limit(type="user_tokens_day", current=7, limit=5)
    limit.reset_time.FromJsonString("2026-11-22T00:00:00Z")
    error = chat_pb2.Error(reason="TOKEN_BUDGET_EXCEEDED", message="Spent.", request_id="r", limit=limit)
    _, data = only(chat_pb2.RunEvent(seq=9, error=error))
    assert (data["limit_type"], data["current"], data["limit"]) == ("user_tokens_day", 7, 5)
    assert data["resets_at"] == "2026-11-22T00:00:00Z"


def test_an_event_of_a_kind_not_yet_known_is_left_out() -> None:
    known = chat_pb2.RunEvent(seq=2, thinking=chat_pb2.Thinking())
    assert frames(RUN, [chat_pb2.RunEvent(seq=1), known]) == frames(RUN, [known])


def test_every_kind_of_the_contract_has_a_projection() -> None:
    for field in chat_pb2.RunEvent.DESCRIPTOR.oneofs_by_name["kind"].fields:
        event = chat_pb2.RunEvent(seq=1)
        getattr(event, field.name).SetInParent()
        assert only(event)[0] == field.name


def test_the_input_of_a_tool_is_the_object_the_model_wrote_on_one_line() -> None:
    use = chat_pb2.ToolUse(tool_call_id="t", name="look", input_json='{\n "a": [1,\r\n 2]}', step=3)
    stream = frames(RUN, [chat_pb2.RunEvent(seq=5, tool_use=use)])
    assert stream.count(b"\n") == 4
    assert (parse(stream)[0][2]["input"], parse(stream)[0][2]["step"]) == ({"a": [1, 2]}, 3)


@pytest.mark.parametrize("written", ["", "{", "null", "[1]", '"x"', "NaN", '{"a": 1e999}', '"\\ud800"', "[" * 100_000])
def test_an_input_that_is_no_object_is_an_empty_one(written: str) -> None:
    use = chat_pb2.ToolUse(tool_call_id="t", name="look", input_json=written)
    assert only(chat_pb2.RunEvent(seq=5, tool_use=use))[1]["input"] == {}


def test_a_frame_that_is_no_cursor_has_no_id() -> None:
    event = chat_pb2.RunEvent(seq=4, thinking=chat_pb2.Thinking())
    expected = f'event: thinking\ndata: {{"run_id":"{RUN}","seq":4}}\n\n'
    assert frames(RUN, [event], numbered=False) == expected.encode()


@pytest.mark.parametrize("run_id", [RUN, '100%"d'])
def test_a_frame_that_is_kept_for_a_runs_texts_gives_the_same_bytes(run_id: str) -> None:
    event = chat_pb2.RunEvent(seq=7, text=chat_pb2.Text(delta='a "%d"\n', offset=3))
    filling = text_of(event)
    assert filling is not None
    assert text_frame(run_id) % filling == frames(run_id, [event])


def test_only_a_text_fills_it() -> None:
    assert text_of(chat_pb2.RunEvent(seq=1, done=chat_pb2.Done())) is None
