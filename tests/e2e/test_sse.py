"""A turn over server-sent events: the main path, resuming, stopping, leaving, and what goes wrong at the provider."""

import asyncio
import secrets
from collections.abc import Awaitable, Callable

import httpx
import pytest

from tests.e2e.person import Person, Stream
from tests.e2e.system import System
from tests.fakes.llm_provider import Answer, Cut, Fault, Garbage, Hangup, Stall, StreamError
from tests.fakes.script import Behaviour


def unique(text: str) -> str:
    """Returns a message that no other test sends, so that a script can be meant for it alone."""
    return f"{text} {secrets.token_hex(6)}"


def assert_well_formed(stream: Stream) -> None:
    """The log is numbered from 1 without gaps, ids say so too, and nothing follows the end."""
    assert [frame.seq for frame in stream.frames] == list(range(1, len(stream.frames) + 1))
    for frame in stream.frames:
        assert frame.id == f"{stream.run_id}:{frame.data['seq']}"
        assert frame.data["run_id"] == stream.run_id
    assert [name for name in stream.names if name in {"done", "error"}] == [stream.last.event]


async def test_a_turn_from_the_message_to_the_stored_answer(stack: System, person: Person) -> None:
    message, text = unique("Tell me"), "Grüße, 世界! 🙂 And a second line:\n\n```py\nprint(1)\n```"
    stack.provider.script(Answer(text=text, reasoning="Let me think."), match=message)
    stream = await person.say(message)
    assert_well_formed(stream)
    assert stream.names[:3] == ["run", "user_message", "thinking"]
    assert stream.last.event == "done"
    assert stream.last.data["status"] == "completed"
    assert stream.text == text
    assert "".join(frame.data["delta"] for frame in stream.of("reasoning")) == "Let me think."
    [usage] = stream.of("usage")
    assert usage.data["total_tokens"] == usage.data["input_tokens"] + usage.data["output_tokens"] > 0
    run = stream.frames[0].data
    assert stream.frames[1].data["content"] == message
    asked, answered = await person.messages(run["conversation_id"])
    assert (asked["role"], asked["content"], asked["id"]) == ("user", message, run["user_message_id"])
    assert asked["usage"] is None
    assert (answered["role"], answered["content"], answered["id"]) == ("assistant", text, run["message_id"])
    assert (answered["state"], answered["run_id"], answered["parent_id"]) == ("complete", stream.run_id, asked["id"])
    assert {"type": "reasoning", "text": "Let me think."} in answered["parts"]
    assert answered["usage"]["output_tokens"] == usage.data["output_tokens"]
    stored = (await person.http.get(f"/v1/runs/{stream.run_id}")).json()
    assert (stored["status"], stored["error_code"], stored["message_id"]) == ("completed", None, run["message_id"])
    assert stored["ended_at"] >= stored["created_at"]


async def test_the_wire_is_what_readers_of_event_streams_expect(person: Person) -> None:
    stream = await person.say(unique("Hi"))
    headers = stream.response.headers
    assert headers["content-type"] == "text/event-stream; charset=utf-8"
    assert headers["cache-control"] == "no-cache, no-transform"
    assert headers["x-accel-buffering"] == "no"
    assert "content-encoding" not in headers
    assert stream.raw.startswith(b": ok\n\n")
    assert b"\r" not in stream.raw
    assert stream.raw.endswith(b"\n\n")


async def test_a_second_message_goes_into_the_same_conversation_with_what_was_said(
    stack: System, person: Person
) -> None:
    first, second = unique("My name is Ada"), unique("What is my name?")
    opening = await person.say(first)
    conversation = opening.frames[0].data["conversation_id"]
    async with person.stream(f"/v1/conversations/{conversation}/runs", {"message": second}) as stream:
        await stream.whole()
    assert stream.frames[0].data["conversation_id"] == conversation
    [request] = [one for one in stack.provider.requests if one.body["messages"][-1]["content"] == second]
    assert [one["content"] for one in request.body["messages"] if one["role"] == "user"] == [first, second]
    assert [one["role"] for one in await person.messages(conversation)] == ["user", "assistant"] * 2


async def test_the_first_events_leave_before_the_model_answers(stack: System, person: Person) -> None:
    message = unique("Slowly")
    stack.provider.script(Stall(headers=False), match=message)
    async with person.stream("/v1/chat", {"message": message}) as stream:
        await stream.until("user_message")
        assert "text" not in stream.names
        await person.http.post(f"/v1/runs/{stream.run_id}/cancel")


async def test_a_silent_stream_is_kept_alive(stack: System, person: Person) -> None:
    message = unique("Pause")
    stack.provider.script(Answer(text="One two", delay_s=1.0), match=message)
    stream = await person.say(message)
    assert "ping" in stream.comments
    assert stream.last.data["status"] == "completed"


# Resuming


async def test_a_run_can_be_read_again_from_every_place(stack: System, person: Person) -> None:
    message = unique("Again")
    stack.provider.script(Answer(text="one two three four five six"), match=message)
    first = await person.say(message)
    for seq in range(first.last.seq):
        by_header = await person.events(first.run_id, last_event_id=f"{first.run_id}:{seq}")
        by_query = await person.events(first.run_id, after=seq)
        assert [frame.id for frame in by_header.frames] == [frame.id for frame in by_query.frames]
        assert by_header.frames[0].seq > seq
        assert by_header.last == first.last
    again = await person.events(first.run_id)
    assert again.text == first.text
    assert again.run_id == first.run_id
    assert again.frames[0].data.keys() == first.frames[0].data.keys()
    assert again.frames[1] == first.frames[1]


async def test_who_loses_the_connection_goes_on_where_it_was_cut(stack: System, person: Person) -> None:
    message = unique("Cut me off")
    words = [f"word{number} " for number in range(20)]
    stack.provider.script(Answer(chunks=words, text="".join(words), delay_s=0.03), match=message)
    async with person.stream("/v1/chat", {"message": message}) as before:
        await before.until("text")
    after = await person.events(before.run_id, last_event_id=before.last.id)
    assert after.frames[0].seq == before.last.seq + 1
    joined = Stream(before.response, frames=before.frames + after.frames)
    assert_well_formed(joined)
    assert joined.text == "".join(words)


async def test_several_watch_the_same_run(stack: System, person: Person) -> None:
    message = unique("Watch")
    stack.provider.script(Answer(text="a b c d e f g h", delay_s=0.03), match=message)
    async with person.stream("/v1/chat", {"message": message}) as first:
        await first.until("text")
        others = await asyncio.gather(*(person.events(first.run_id) for _ in range(3)))
        await first.whole()
    for other in others:
        assert_well_formed(other)
        assert other.text == first.text == "a b c d e f g h"


async def test_nothing_after_the_end_is_no_content(person: Person) -> None:
    """An EventSource that has seen the end and reconnects is told not to come back."""
    stream = await person.say(unique("Hi"))
    answer = await person.http.get(f"/v1/runs/{stream.run_id}/events", headers={"last-event-id": stream.last.id})
    assert (answer.status_code, answer.content) == (204, b"")


async def test_a_watch_with_nothing_new_begins_at_once(stack: System, person: Person) -> None:
    message = unique("Silence")
    stack.provider.script(Stall(after=1, answer=Answer(text="Well")), match=message)
    async with person.stream("/v1/chat", {"message": message}) as stream:
        await stream.until("text")
        headers = {"last-event-id": stream.last.id}
        async with person.stream(f"/v1/runs/{stream.run_id}/events", headers=headers) as watch:
            assert await watch.read()
            assert watch.comments[0] == "ok"
            assert watch.frames == []


@pytest.mark.parametrize(
    "cursor", ["x", ":1", "{run}:", "{run}:-1", "{run}:x", "{run}:99999999999999999999", "{other}:1"]
)
async def test_a_cursor_that_is_none_of_this_run_is_refused(person: Person, cursor: str) -> None:
    stream = await person.say(unique("Hi"))
    other = "0193f000-0000-7000-8000-000000000000"
    answer = await person.http.get(
        f"/v1/runs/{stream.run_id}/events", headers={"last-event-id": cursor.format(run=stream.run_id, other=other)}
    )
    assert (answer.status_code, answer.json()["code"]) == (400, "invalid_argument")
    assert answer.json()["field"] == "last_event_id"


@pytest.mark.parametrize(
    "after", ["", "-1", "x", "1.5", "99999999999999999999", "{run}:", "0193f000-0000-7000-8000-000000000000:1"]
)
async def test_an_after_that_is_no_place_is_refused(person: Person, after: str) -> None:
    stream = await person.say(unique("Hi"))
    answer = await person.http.get(
        f"/v1/runs/{stream.run_id}/events", params={"after": after.format(run=stream.run_id)}
    )
    assert (answer.status_code, answer.json()["field"]) == (400, "after")


async def test_a_cursor_past_the_end_is_refused(person: Person) -> None:
    stream = await person.say(unique("Hi"))
    answer = await person.http.get(f"/v1/runs/{stream.run_id}/events?after={stream.last.seq + 1}")
    assert (answer.status_code, answer.json()["code"]) == (400, "cursor_ahead")


async def test_who_does_not_want_a_stream_is_told_that_there_is_nothing_else(person: Person) -> None:
    headers = {"accept": "application/json"}
    body = {"message": unique("Hi")}
    refused = [
        await person.http.post("/v1/chat", json=body, headers=headers),
        await person.http.get("/v1/runs/0193f000-0000-7000-8000-000000000000/events", headers=headers),
    ]
    for answer in refused:
        assert (answer.status_code, answer.json()["code"]) == (406, "not_acceptable")
    assert (await person.http.get("/v1/conversations")).json()["conversations"] == []


# Leaving and stopping


async def test_a_run_goes_on_without_its_caller(stack: System, person: Person) -> None:
    message = unique("I must go")
    stack.provider.script(Answer(text="Take your time, I will finish", delay_s=0.05), match=message)
    async with person.stream("/v1/chat", {"message": message}) as stream:
        await stream.until("text")
    whole = await person.events(stream.run_id)
    assert whole.last.data["status"] == "completed"
    messages = await person.messages(stream.frames[0].data["conversation_id"])
    assert (messages[1]["content"], messages[1]["state"]) == ("Take your time, I will finish", "complete")


async def test_stop_closes_the_upstream_and_keeps_what_was_written(stack: System, person: Person) -> None:
    message = unique("Stop me")
    stack.provider.script(Stall(after=3, answer=Answer(text="one two three four")), match=message)
    async with person.stream(f"/v1/conversations/{await person.titled()}/runs", {"message": message}) as stream:
        await stream.until("text")
        [request] = [one for one in stack.provider.requests if one.body["messages"][-1]["content"] == message]
        answer = await person.http.post(f"/v1/runs/{stream.run_id}/cancel")
        assert answer.status_code == 200
        await stack.provider.until(lambda: request.closed_early)
        await stream.whole()
    assert_well_formed(stream)
    assert (stream.last.event, stream.last.data["status"]) == ("done", "cancelled")
    assert stream.text
    assert "one two three".startswith(stream.text)
    stored = (await person.messages(stream.frames[0].data["conversation_id"]))[1]
    assert (stored["state"], stored["content"]) == ("cancelled", stream.text)
    again = await person.http.post(f"/v1/runs/{stream.run_id}/cancel")
    assert (again.status_code, again.json()["status"]) == (200, "cancelled")


async def test_stopping_what_has_ended_changes_nothing(person: Person) -> None:
    stream = await person.say(unique("Hi"))
    answer = await person.http.post(f"/v1/runs/{stream.run_id}/cancel")
    assert (answer.status_code, answer.json()["status"]) == (200, "completed")


# Sending twice


async def test_the_same_message_sent_twice_is_one_run(stack: System, person: Person) -> None:
    message, key = unique("Once"), secrets.token_hex(8)
    conversation = await person.titled()
    first = await person.say(message, client_message_id=key, conversation_id=conversation)
    second = await person.say(message, client_message_id=key, conversation_id=conversation)
    assert second.run_id == first.run_id
    assert second.text == first.text
    assert len([one for one in stack.provider.requests if one.body["messages"][-1]["content"] == message]) == 1
    assert len(await person.messages(first.frames[0].data["conversation_id"])) == 2


async def test_the_same_message_sent_twice_at_once_is_one_run(stack: System, person: Person) -> None:
    message, key = unique("At once"), secrets.token_hex(8)
    conversation = await person.titled()
    body = {"client_message_id": key, "conversation_id": conversation}
    streams = await asyncio.gather(*(person.say(message, **body) for _ in range(4)))
    assert len({stream.run_id for stream in streams}) == 1
    assert len({stream.text for stream in streams}) == 1
    assert len([one for one in stack.provider.requests if one.body["messages"][-1]["content"] == message]) == 1


async def test_another_message_under_the_same_id_is_refused(person: Person) -> None:
    key = secrets.token_hex(8)
    conversation = await person.conversation()
    await person.say(unique("One"), client_message_id=key, conversation_id=conversation)
    body = {"message": unique("Two"), "client_message_id": key, "conversation_id": conversation}
    answer = await person.http.post("/v1/chat", json=body)
    assert (answer.status_code, answer.json()["code"]) == (409, "client_message_id_reused")


# The provider's faults


@pytest.mark.parametrize(
    ("fault", "code"),
    [
        (Fault(status=500), "provider_unavailable"),
        (Fault(status=401), "provider_auth_failed"),
        (Fault(status=400), "request_rejected"),
        (Fault(status=400, code="context_length_exceeded"), "context_too_long"),
        (Fault(status=429, retry_after="30"), "provider_rate_limited"),
        (Hangup(), "provider_unavailable"),
        (Garbage(), "provider_protocol_error"),
        (Stall(headers=False), "first_token_timeout"),
        (Stall(after=2), "stream_stalled"),
        (StreamError(after=2), "provider_unavailable"),
        (Cut(after=2), "provider_unavailable"),
    ],
    ids=lambda value: value if isinstance(value, str) else type(value).__name__,
)
async def test_a_fault_of_the_provider_is_an_error_event(
    stack: System, person: Person, fault: Behaviour, code: str
) -> None:
    """Told by its reason, never in the provider's words; the conversation goes on afterwards."""
    message = unique("Fail")
    stack.provider.script(fault, match=message, times=10)
    stream = await person.say(message)
    assert_well_formed(stream)
    assert stream.last.event == "error"
    assert stream.last.data["code"] == code
    assert stream.last.data["message"]
    assert stream.last.data["request_id"] == stream.response.headers["x-request-id"]
    assert b"SECRET-WORDS" not in stream.raw
    run = (await person.http.get(f"/v1/runs/{stream.run_id}")).json()
    assert (run["status"], run["error_code"]) == ("failed", code)
    conversation = stream.frames[0].data["conversation_id"]
    stored = (await person.messages(conversation))[1]
    assert (stored["state"], stored["content"]) == ("failed", stream.text)
    assert (await person.say(unique("Go on"), conversation_id=conversation)).last.event == "done"


async def test_a_busy_provider_says_when_to_come_back(stack: System, person: Person) -> None:
    message = unique("Busy")
    stack.provider.script(Fault(status=429, retry_after="30"), match=message, times=10)
    stream = await person.say(message)
    assert stream.last.data["retry_after"] == pytest.approx(30, abs=1)


async def test_a_fault_that_passes_is_not_seen(stack: System, person: Person) -> None:
    message = unique("Retry")
    stack.provider.script(Fault(status=503), Answer(text="Here I am"), match=message)
    stream = await person.say(message)
    assert (stream.last.event, stream.text) == ("done", "Here I am")


async def test_an_answer_at_the_models_limit_is_limited(stack: System, person: Person) -> None:
    message = unique("Long")
    stack.provider.script(Answer(text="and so on", finish="length"), match=message)
    stream = await person.say(message)
    assert stream.last.data["status"] == "limited"


async def test_many_at_once_each_get_their_own_answer(stack: System, newcomer: Callable[[], Awaitable[Person]]) -> None:
    messages = [unique(f"Number {number}") for number in range(20)]
    people = [await newcomer() for _ in messages]
    for message in messages:
        stack.provider.script(Answer(text=f"Answer to {message}", delay_s=0.01), match=message)
    streams = await asyncio.gather(*(person.say(message) for person, message in zip(people, messages, strict=True)))
    for message, stream in zip(messages, streams, strict=True):
        assert_well_formed(stream)
        assert stream.text == f"Answer to {message}"


async def test_a_reader_that_stops_reading_does_not_slow_the_others(
    stack: System, person: Person, newcomer: Callable[[], Awaitable[Person]]
) -> None:
    """It costs itself alone, and its run ends as every run."""
    message = unique("Do not read")
    long = "word " * 200_000
    stack.provider.script(Answer(text=long, chunks=200), match=message)
    async with person.http.stream("POST", "/v1/chat", json={"message": message}) as response:
        assert response.status_code == 200
        assert (await (await newcomer()).say(unique("Meanwhile"))).last.event == "done"
        stream = await Stream(response).whole()
    assert stream.text == long
    assert httpx.codes.is_success(response.status_code)
