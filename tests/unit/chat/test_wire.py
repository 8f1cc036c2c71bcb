"""Events cross the wire, and the log in Redis, as they are."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from parley.chat.v1 import chat_pb2
from services.chat.domain import (
    Done,
    Event,
    Failed,
    Kind,
    Limit,
    Progress,
    Reasoning,
    Reset,
    RunStarted,
    RunStatus,
    Text,
    Thinking,
    ToolResult,
    ToolUse,
    Usage,
    UserMessage,
)
from services.chat.wire import event_pb, kind_of

KINDS: list[Kind] = [
    RunStarted("c", "a", "u", "fast"),
    UserMessage("u", "Grüß Gott", datetime(2026, 11, 21, 9, 30, 0, 123456, tzinfo=UTC)),
    Thinking(),
    Text("é", 7),
    Reasoning("hm"),
    Progress(2, "Looking up the time"),
    ToolUse("t1", "current_time", '{"timezone":"Europe/Berlin"}', 2),
    ToolResult("t1", "current_time", "12:00"),
    ToolResult("t1", "current_time", "There is no such time zone.", is_error=True),
    Reset(2, 7),
    Usage(1, 2, 3, 4, 0.5, estimated=True),
    Usage(0, 0),
    *(Done(status, "a", "mini") for status in RunStatus),
    Failed("STREAM_STALLED", "words", "req", 2.5),
    Failed("INTERNAL", "words", "req"),
    Failed("SPENT", "words", "req", 9.0, Limit("user_tokens_day", 7, 5, datetime(2026, 11, 22, tzinfo=UTC))),
]


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: type(kind).__name__)
def test_an_event_comes_back_as_it_went(kind: Kind) -> None:
    sent = event_pb(Event(9, kind)).SerializeToString()
    received = chat_pb2.RunEvent.FromString(sent)
    assert (received.seq, kind_of(received)) == (9, kind)


def test_an_event_of_a_later_release_is_not_understood() -> None:
    assert kind_of(chat_pb2.RunEvent(seq=9)) is None


def test_every_event_of_the_contract_is_known() -> None:
    sent = {event_pb(Event(1, kind)).WhichOneof("kind") for kind in KINDS}
    assert sent == {field.name for field in chat_pb2.RunEvent.DESCRIPTOR.oneofs_by_name["kind"].fields}
