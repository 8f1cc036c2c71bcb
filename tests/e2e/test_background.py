"""Turns in the background: stored, answered by whoever has time, and watched like any other."""

import secrets
from itertools import pairwise

from tests.e2e.person import Person
from tests.e2e.system import System
from tests.fakes.llm_provider import Answer, Stall


def unique(text: str) -> str:
    return f"{text} {secrets.token_hex(6)}"


async def test_a_turn_in_the_background_is_answered_without_anybody_waiting(stack: System, person: Person) -> None:
    message = unique("Later")
    stack.provider.script(Answer(text="Here it is"), match=message)
    submitted = await person.submit(message)
    assert submitted["status"] == "processing"
    watched = await person.events(submitted["run_id"])
    assert watched.names[:2] == ["run", "user_message"]
    assert (watched.text, watched.last.data["status"]) == ("Here it is", "completed")
    # Whoever comes after the end gets the text as one event, with the number of its last piece.
    jumps = [
        (after.event, after.seq > before.seq)
        for before, after in pairwise(watched.frames)
        if after.seq != before.seq + 1
    ]
    assert jumps in ([], [("text", True)])
    asked, answered = await person.messages(submitted["conversation_id"])
    assert (asked["content"], answered["content"]) == (message, "Here it is")
    assert answered["id"] == submitted["message_id"]
    assert (await person.run(submitted["run_id"]))["status"] == "completed"


async def test_sent_again_in_the_background_it_is_the_same_run(stack: System, person: Person) -> None:
    message, key = unique("Once"), secrets.token_hex(8)
    conversation = await person.titled()
    first = await person.submit(message, conversation=conversation, client_message_id=key)
    await person.events(first["run_id"])
    again = await person.submit(message, conversation=conversation, client_message_id=key)
    assert again == {**first, "status": "completed"}
    streamed = await person.turn(conversation, message=message, client_message_id=key)
    assert streamed.run_id == first["run_id"]
    assert len([one for one in stack.provider.requests if one.body["messages"][-1]["content"] == message]) == 1


async def test_in_the_background_no_turn_is_refused_and_one_comes_after_the_other(
    stack: System, person: Person
) -> None:
    messages = [unique("First"), unique("Second"), unique("Third")]
    for message in messages:
        stack.provider.script(Answer(text=f"Answer to {message}", delay_s=0.02), match=message)
    submitted = [await person.submit(message, conversation=await person.titled()) for message in messages]
    for message, one in zip(messages, submitted, strict=True):
        assert (await person.events(one["run_id"])).text == f"Answer to {message}"
    asked = [one.body["messages"][-1]["content"] for one in stack.provider.requests]
    assert [message for message in asked if message in messages] == messages


async def test_a_turn_that_waits_can_be_stopped(stack: System, person: Person) -> None:
    """It never begins: nobody asks the model."""
    blocking, waiting = unique("Block"), unique("Wait")
    stack.provider.script(Stall(after=1), match=blocking)
    async with person.stream("/v1/chat", {"message": blocking}) as stream:
        await stream.until("text")
        submitted = await person.submit(waiting)
        assert (await person.run(submitted["run_id"]))["status"] == "queued"
        stopped = await person.http.post(f"/v1/runs/{submitted['run_id']}/cancel")
        assert (stopped.status_code, stopped.json()["status"]) == (200, "cancelled")
        await person.http.post(f"/v1/runs/{stream.run_id}/cancel")
    watched = await person.events(submitted["run_id"])
    assert (watched.last.event, watched.last.data["status"], watched.text) == ("done", "cancelled", "")
    assert [one for one in stack.provider.requests if one.body["messages"][-1]["content"] == waiting] == []
