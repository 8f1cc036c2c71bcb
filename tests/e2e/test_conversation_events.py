"""A live conversation: whoever watches sees each run from the user's message to its end, whoever started it."""

import asyncio
import secrets
from collections.abc import Awaitable, Callable

import httpx
import pytest

from tests.e2e.person import Frame, Person, Stream
from tests.e2e.refusals import refusal
from tests.e2e.system import System
from tests.fakes.llm_provider import Answer

UNKNOWN = "0193f000-0000-7000-8000-000000000000"


def unique(text: str) -> str:
    return f"{text} {secrets.token_hex(6)}"


async def ends(stream: Stream, runs: int) -> None:
    """Reads until this many runs have ended."""
    while len(stream.of("done")) < runs:
        assert await stream.read(), f"the stream ended after {stream.names}"


def of_run(stream: Stream, run_id: str) -> list[Frame]:
    return [frame for frame in stream.frames if frame.data["run_id"] == run_id]


async def test_every_watcher_sees_every_run_from_its_first_event_to_its_last(stack: System, person: Person) -> None:
    conversation = await person.conversation()
    path = f"/v1/conversations/{conversation}/events"
    async with person.stream(path) as left, person.stream(path) as right:
        assert await left.read()
        assert await right.read()
        told = []
        for message in (unique("One"), unique("Two")):
            stack.provider.script(Answer(text=f"Answer to {message}", delay_s=0.01), match=message)
            told.append(await person.turn(conversation, message=message))
        await asyncio.gather(ends(left, 2), ends(right, 2))
    for watcher in (left, right):
        for run in told:
            seen = Stream(watcher.response, frames=of_run(watcher, run.run_id))
            assert [frame.seq for frame in seen.frames] == list(range(1, len(seen.frames) + 1))
            assert (seen.text, seen.names[:2], seen.last.event) == (run.text, ["run", "user_message"], "done")


async def test_who_joins_in_the_middle_sees_the_run_from_its_beginning(stack: System, person: Person) -> None:
    message = unique("Late")
    stack.provider.script(Answer(text="one two three four five six", delay_s=0.05), match=message)
    async with person.stream("/v1/chat", {"message": message}) as stream:
        await stream.until("text")
        path = f"/v1/conversations/{stream.frames[0].data['conversation_id']}/events"
        async with person.stream(path) as watcher:
            await ends(watcher, 1)
        await stream.whole()
    assert [frame.id for frame in watcher.frames] == [frame.id for frame in stream.frames]
    assert watcher.text == stream.text


@pytest.mark.parametrize("by", ["header", "query"])
async def test_who_comes_back_with_a_cursor_misses_nothing(stack: System, person: Person, by: str) -> None:
    first = await person.say(unique("One"))
    conversation = first.frames[0].data["conversation_id"]
    second = await person.turn(conversation, message=unique("Two"))
    seen = first.frames[2]
    path = f"/v1/conversations/{conversation}/events"
    headers = {"last-event-id": seen.id} if by == "header" else None
    async with person.stream(path if headers else f"{path}?after={seen.id}", headers=headers) as watcher:
        await ends(watcher, 2)
        third = await person.turn(conversation, message=unique("Three"))
        await ends(watcher, 3)
    assert of_run(watcher, first.run_id)[-1] == first.last
    assert all(frame.seq > seen.seq for frame in of_run(watcher, first.run_id))
    for run in (second, third):
        assert Stream(watcher.response, frames=of_run(watcher, run.run_id)).text == run.text
    assert watcher.frames[-1].id == third.last.id


async def test_a_conversation_deleted_is_watched_no_longer(person: Person) -> None:
    conversation = await person.conversation()
    path = f"/v1/conversations/{conversation}/events"
    async with person.stream(path) as watcher:
        assert await watcher.read()
        await person.http.delete(f"/v1/conversations/{conversation}")
        await watcher.whole()
    assert refusal(await person.http.get(path))[:2] == (404, "conversation_not_found")


async def test_a_quiet_conversation_is_kept_alive(person: Person) -> None:
    async with person.stream(f"/v1/conversations/{await person.conversation()}/events") as watcher:
        while watcher.comments.count("ping") < 2:
            assert await watcher.read()
    assert watcher.comments[0] == "ok"


async def test_joining_is_for_the_owner_alone(
    stack: System, person: Person, newcomer: Callable[[], Awaitable[Person]]
) -> None:
    path = f"/v1/conversations/{await person.conversation()}/events"
    stranger = await newcomer()
    assert refusal(await stranger.http.get(path))[:2] == (404, "conversation_not_found")
    assert refusal(await stranger.http.get(f"/v1/conversations/{UNKNOWN}/events"))[:2] == (
        404,
        "conversation_not_found",
    )
    async with httpx.AsyncClient(base_url=stack.edge_url) as nobody:
        assert refusal(await nobody.get(path))[0] == 401


async def test_a_cursor_of_another_conversation_is_unknown(person: Person) -> None:
    elsewhere = await person.say(unique("Elsewhere"))
    path = f"/v1/conversations/{await person.conversation()}/events"
    answer = await person.http.get(path, headers={"last-event-id": elsewhere.last.id})
    assert refusal(answer)[:2] == (404, "run_not_found")


async def test_a_cursor_ahead_of_its_run_is_refused(person: Person) -> None:
    stream = await person.say(unique("Hi"))
    path = f"/v1/conversations/{stream.frames[0].data['conversation_id']}/events"
    answer = await person.http.get(f"{path}?after={stream.run_id}:{stream.last.seq + 1}")
    assert refusal(answer)[:2] == (400, "cursor_ahead")


@pytest.mark.parametrize("cursor", ["x", "7", ":7", f"{UNKNOWN}:", f"{UNKNOWN}:x", f"{UNKNOWN}:-1", "x:1"])
async def test_a_cursor_that_is_none_is_refused_by_field(person: Person, cursor: str) -> None:
    path = f"/v1/conversations/{await person.conversation()}/events"
    assert refusal(await person.http.get(path, params={"after": cursor})) == (400, "invalid_argument", "after")
    answer = await person.http.get(path, headers={"last-event-id": cursor})
    assert refusal(answer) == (400, "invalid_argument", "last_event_id")
