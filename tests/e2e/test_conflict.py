"""One run at a time for each person; what happens to a second one is the caller's choice."""

import asyncio
import secrets
from collections.abc import Awaitable, Callable

from tests.e2e.person import Person
from tests.e2e.refusals import problem
from tests.e2e.system import System
from tests.fakes.llm_provider import Answer, Stall

HELD = Answer(text="one two three four five six seven eight nine ten", delay_s=0.05)


def unique(text: str) -> str:
    return f"{text} {secrets.token_hex(6)}"


async def test_a_second_run_is_refused_while_one_is_active(stack: System, person: Person) -> None:
    message = unique("First")
    stack.provider.script(Stall(after=1), match=message)
    async with person.stream("/v1/chat", {"message": message}) as stream:
        await stream.until("text")
        refused = await person.http.post("/v1/chat", json={"message": "Second"})
        told = problem(refused)
        assert (refused.status_code, told["code"], told["run_id"]) == (409, "concurrent_request", stream.run_id)
        assert refused.headers["x-should-retry"] == "false"
        await person.http.post(f"/v1/runs/{stream.run_id}/cancel")
        await stream.whole()
    assert (await person.say(unique("Now"))).last.event == "done"


async def test_a_refused_run_leaves_nothing(stack: System, person: Person) -> None:
    message = unique("First")
    stack.provider.script(Stall(after=1), match=message)
    async with person.stream("/v1/chat", {"message": message}) as stream:
        await stream.until("text")
        conversation = stream.frames[0].data["conversation_id"]
        path = f"/v1/conversations/{conversation}/runs"
        assert (await person.http.post(path, json={"message": "Second"})).status_code == 409
        assert (await person.messages(conversation))[0]["content"] == message
        assert len(await person.messages(conversation)) == 2
        await person.http.post(f"/v1/runs/{stream.run_id}/cancel")


async def test_of_two_at_once_one_is_refused(stack: System, person: Person) -> None:
    messages = [unique("Left"), unique("Right")]
    for message in messages:
        stack.provider.script(HELD, match=message)
    answers = await asyncio.gather(*(person.http.post("/v1/chat", json={"message": one}) for one in messages))
    assert sorted(answer.status_code for answer in answers) == [200, 409]


async def test_a_second_run_can_wait_for_the_first(stack: System, person: Person) -> None:
    first, second = unique("First"), unique("Second")
    stack.provider.script(HELD, match=first)
    stack.provider.script(Answer(text="And now me"), match=second)
    async with person.stream("/v1/chat", {"message": first}) as one:
        await one.until("text")
        conversation = one.frames[0].data["conversation_id"]
        body = {"message": second, "on_conflict": "enqueue"}
        async with person.stream(f"/v1/conversations/{conversation}/runs", body) as other:
            await other.until("user_message")
            assert (await person.run(other.run_id))["status"] == "queued"
            await one.whole()
            await other.whole()
    assert one.text == HELD.text
    assert (other.text, other.last.data["status"]) == ("And now me", "completed")
    said = [message["content"] for message in await person.messages(conversation)]
    assert said == [first, HELD.text, second, "And now me"]


async def test_a_second_run_can_take_the_place_of_the_first(stack: System, person: Person) -> None:
    first, second = unique("First"), unique("Second")
    stack.provider.script(Stall(after=2, answer=Answer(text="one two three")), match=first)
    stack.provider.script(Answer(text="And now me"), match=second)
    async with person.stream("/v1/chat", {"message": first}) as one:
        await one.until("text")
        other = await person.say(second, on_conflict="interrupt")
        await one.whole()
    assert (one.last.event, one.last.data["status"]) == ("done", "cancelled")
    assert (other.text, other.last.data["status"]) == ("And now me", "completed")


async def test_nobody_is_in_anothers_way(stack: System, newcomer: Callable[[], Awaitable[Person]]) -> None:
    one, other = await newcomer(), await newcomer()
    message = unique("Mine")
    stack.provider.script(Stall(after=1), match=message)
    async with one.stream("/v1/chat", {"message": message}) as stream:
        await stream.until("text")
        assert (await other.say(unique("Yours"))).last.event == "done"
        await one.http.post(f"/v1/runs/{stream.run_id}/cancel")


async def test_sent_again_it_is_no_second_run(stack: System, person: Person) -> None:
    message, key = unique("Again"), secrets.token_hex(8)
    stack.provider.script(HELD, match=message)
    async with person.stream("/v1/chat", {"message": message, "client_message_id": key}) as one:
        await one.until("text")
        other = await person.say(message, client_message_id=key)
        await one.whole()
    assert (other.run_id, other.text) == (one.run_id, HELD.text)
