"""A conversation is a tree: what is edited, given anew or gone on with is a branch beside the old one."""

import secrets
from typing import Any

import pytest

from tests.e2e.person import Person
from tests.e2e.refusals import refusal
from tests.e2e.system import System
from tests.fakes.llm_provider import Answer, Stall


def unique(text: str) -> str:
    return f"{text} {secrets.token_hex(6)}"


def said(messages: list[dict[str, Any]]) -> list[str]:
    return [message["content"] for message in messages]


async def test_an_edited_message_is_a_branch_beside_the_old_one(stack: System, person: Person) -> None:
    old, new = unique("Why is the see blue?"), unique("Why is the sea blue?")
    stack.provider.script(Answer(text="Which see?"), match=old)
    stack.provider.script(Answer(text="Because of the sky."), match=new)
    conversation = await person.titled()
    await person.turn(conversation, message=old)
    question, answer = await person.messages(conversation)
    second = await person.turn(conversation, message=new, edit_message_id=question["id"])
    assert second.last.data["status"] == "completed"
    asked = next(one for one in stack.provider.requests if one.body["messages"][-1]["content"] == new)
    assert old not in str(asked.body)
    now = await person.messages(conversation)
    assert said(now) == [new, "Because of the sky."]
    assert now[0]["sibling_ids"] == [question["id"], now[0]["id"]]
    back = await person.http.patch(f"/v1/conversations/{conversation}", json={"head_message_id": question["id"]})
    assert (back.status_code, back.json()["head_message_id"]) == (200, answer["id"])
    assert said(await person.messages(conversation)) == [old, "Which see?"]


async def test_an_answer_given_anew_is_a_branch_beside_the_old_one(stack: System, person: Person) -> None:
    message = unique("A joke")
    stack.provider.script(Answer(text="Knock."), Answer(text="Quack."), match=message)
    conversation = await person.titled()
    await person.turn(conversation, message=message)
    question, old = await person.messages(conversation)
    again = await person.turn(conversation, regenerate_message_id=old["id"])
    assert again.text == "Quack."
    assert again.frames[1].data["message_id"] == question["id"]
    same, new = await person.messages(conversation)
    assert same["id"] == question["id"]
    assert (new["content"], new["sibling_ids"]) == ("Quack.", [old["id"], new["id"]])
    assert (new["parent_id"], old["parent_id"]) == (question["id"], question["id"])


async def test_a_stopped_answer_can_be_gone_on_with(stack: System, person: Person) -> None:
    message = unique("Count")
    stack.provider.script(Stall(after=3, answer=Answer(text="one two three four")), match=message)
    conversation = await person.titled()
    async with person.stream(f"/v1/conversations/{conversation}/runs", {"message": message}) as stream:
        await stream.until("text")
        await person.http.post(f"/v1/runs/{stream.run_id}/cancel")
        await stream.whole()
    kept = stream.text
    stack.provider.script(Answer(text=" and so on"))
    more = await person.turn(conversation, continue_message_id=stream.frames[0].data["message_id"])
    assert (more.text, more.last.data["status"]) == (kept + " and so on", "completed")
    stored = (await person.messages(conversation))[-1]
    assert (stored["content"], stored["state"]) == (kept + " and so on", "complete")


async def test_what_is_whole_cannot_be_gone_on_with(person: Person) -> None:
    conversation = (await person.say(unique("Hi"))).frames[0].data["conversation_id"]
    _, answer = await person.messages(conversation)
    path = f"/v1/conversations/{conversation}/runs"
    refused = await person.http.post(path, json={"continue_message_id": answer["id"]})
    assert refusal(refused)[:2] == (409, "not_interrupted")
    assert refused.headers["x-should-retry"] == "false"


@pytest.mark.parametrize(
    "body",
    [
        {"message": "Hi", "edit_message_id": "{other}"},
        {"regenerate_message_id": "{other}"},
        {"continue_message_id": "{other}"},
    ],
)
async def test_a_message_of_another_conversation_is_no_place_to_branch(person: Person, body: dict[str, str]) -> None:
    other = (await person.say(unique("Hi"))).frames[0].data["message_id"]
    path = f"/v1/conversations/{await person.conversation()}"
    filled = {name: value.format(other=other) for name, value in body.items()}
    assert refusal(await person.http.post(f"{path}/runs", json=filled))[:2] == (404, "message_not_found")
    moved = await person.http.patch(path, json={"head_message_id": other})
    assert refusal(moved)[:2] == (404, "message_not_found")


async def test_words_find_the_conversation_they_were_said_in(stack: System, person: Person) -> None:
    word = f"zebra{secrets.token_hex(4)}"
    stack.provider.script(Answer(text="It has stripes."), match=word)
    conversation = (await person.say(f"What does a {word} look like?")).frames[0].data["conversation_id"]
    await person.say(unique("Something else"))
    [found] = (await person.http.get("/v1/conversations", params={"q": word})).json()["conversations"]
    assert found["id"] == conversation
    assert word in found["match"]["snippet"]
    assert (await person.http.get("/v1/conversations", params={"q": unique("nothing")})).json()["conversations"] == []
