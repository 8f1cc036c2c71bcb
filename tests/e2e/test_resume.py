"""The owner of a run is killed in mid-answer: the client's stream goes on, and what it shows is what is stored."""

import asyncio
import secrets

import pytest

from tests.e2e.person import Person, Stream
from tests.e2e.system import System
from tests.fakes.llm_provider import Answer

WORDS = [f"word{number} " for number in range(40)]


def assert_gapless(stream: Stream) -> None:
    assert [frame.seq for frame in stream.frames] == list(range(1, len(stream.frames) + 1))
    assert [name for name in stream.names if name in {"done", "error"}] == [stream.last.event]


@pytest.mark.timeout(90)
async def test_a_stream_goes_on_when_the_owner_of_its_run_is_killed(stack: System, person: Person) -> None:
    message = secrets.token_hex(8)
    stack.provider.script(Answer(chunks=WORDS, text="".join(WORDS), delay_s=0.05), match=message, times=2)
    conversation = await person.titled()
    async with person.stream(f"/v1/conversations/{conversation}/runs", {"message": message}) as stream:
        while len(stream.of("text")) < 5:
            assert await stream.read()
        async with person.stream(f"/v1/conversations/{conversation}/events") as watcher:
            await watcher.until("text")
            await stack.stack.kill("chat")
            await asyncio.gather(stream.whole(), watcher.until("done"))
    assert_gapless(stream)
    assert_gapless(watcher)
    assert "reset" in stream.names
    assert stream.retry_ms is None
    assert stream.last.data["status"] == "completed"
    assert stream.text == watcher.text == "".join(WORDS)
    stored = (await person.messages(conversation))[1]
    assert (stored["content"], stored["state"]) == (stream.text, "complete")


@pytest.mark.timeout(90)
async def test_who_comes_back_after_the_kill_sees_the_rest(stack: System, person: Person) -> None:
    message = secrets.token_hex(8)
    stack.provider.script(Answer(chunks=WORDS, text="".join(WORDS), delay_s=0.05), match=message, times=2)
    path = f"/v1/conversations/{await person.titled()}/runs"
    async with person.stream(path, {"message": message}) as stream:
        while len(stream.of("text")) < 5:
            assert await stream.read()
    await stack.stack.kill("chat")
    await stack.stack.ready("chat")
    rest = await person.events(stream.run_id, last_event_id=stream.last.id)
    stream.frames += rest.frames
    assert_gapless(stream)
    assert stream.text == "".join(WORDS)
    assert (await person.events(stream.run_id)).text == stream.text


@pytest.mark.timeout(90)
async def test_a_turn_in_the_background_outlives_its_owner(stack: System, person: Person) -> None:
    message = secrets.token_hex(8)
    stack.provider.script(Answer(chunks=WORDS, text="".join(WORDS), delay_s=0.05), match=message, times=2)
    submitted = await person.submit(message, conversation=await person.titled())
    async with person.stream(f"/v1/runs/{submitted['run_id']}/events") as stream:
        await stream.until("text")
        await stack.stack.kill("chat")
        await stream.whole()
    assert_gapless(stream)
    assert (stream.text, stream.last.data["status"]) == ("".join(WORDS), "completed")
