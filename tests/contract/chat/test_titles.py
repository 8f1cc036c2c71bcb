"""A new conversation gets its title beside its first answer."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from parley.chat.v1 import chat_pb2 as pb
from parley.data.v1 import data_pb2
from runtime.channel import unary
from runtime.errors import Unavailable
from tests.contract.chat.scripted_gateway import Gate
from tests.contract.chat.world import Instance, Person, World, eventually


@pytest.fixture
async def chat(world: World) -> AsyncIterator[Instance]:
    async with world.chat(title_model="fast") as instance:
        yield instance


async def title_of(person: Person, conversation_id: str) -> str:
    request = data_pb2.GetConversationRequest(conversation_id=conversation_id)
    response = await unary(person._conversations.GetConversation, request, timeout_s=20, token=person.token)
    return str(response.conversation.title)


async def entitled(person: Person, conversation_id: str, title: str) -> None:
    async def has_it() -> bool:
        return await title_of(person, conversation_id) == title

    await eventually(has_it)


async def test_a_model_is_asked_for_the_title_of_a_new_conversation_once(
    world: World, chat: Instance, ada: Person
) -> None:
    world.gateway.script("Of course.")
    world.gateway.script('"Boiling Eggs"')
    screen = await ada.ask(chat, "How do I boil an egg?")
    await entitled(ada, screen.conversation_id, "Boiling Eggs")
    asked = world.gateway.requests[-1]
    assert asked.messages[-1].text == "How do I boil an egg?"
    assert not asked.tools
    assert asked.timeouts.total.seconds <= 10
    await ada.ask(chat, "And two?", conversation_id=screen.conversation_id)
    assert len(world.gateway.requests) == 3


async def test_an_answer_does_not_wait_for_its_title(world: World, chat: Instance, ada: Person) -> None:
    gate = Gate()
    world.gateway.script("Of course.")
    world.gateway.script(gate, "Boiling Eggs")
    screen = await ada.ask(chat, "How do I boil an egg?")
    assert screen.last.done.status == pb.RUN_STATUS_COMPLETED
    assert await title_of(ada, screen.conversation_id) == ""
    gate.open()
    await entitled(ada, screen.conversation_id, "Boiling Eggs")


async def test_where_no_title_is_to_be_had_it_is_the_first_words(world: World, chat: Instance, ada: Person) -> None:
    world.gateway.script("Of course.")
    world.gateway.script(Unavailable.of("PROVIDER_UNAVAILABLE", "words"))
    screen = await ada.ask(chat, "How do I  boil\nan egg?")
    await entitled(ada, screen.conversation_id, "How do I boil an egg?")


async def test_a_title_somebody_gave_meanwhile_stays(world: World, chat: Instance, ada: Person) -> None:
    gate = Gate()
    world.gateway.script("Of course.")
    world.gateway.script(gate, "Boiling Eggs")
    screen = await ada.ask(chat)
    request = data_pb2.UpdateConversationRequest(conversation_id=screen.conversation_id, title="Mine")
    await unary(ada._conversations.UpdateConversation, request, timeout_s=20, token=ada.token)
    gate.open()
    await chat.chat.drain(1)
    assert await title_of(ada, screen.conversation_id) == "Mine"


async def test_a_title_missed_when_an_instance_left_is_made_of_the_first_words_later(world: World, ada: Person) -> None:
    world.gateway.script("Of course.")
    world.gateway.script(Gate())
    async with world.chat(title_model="fast") as leaving:
        screen = await ada.ask(leaving, "How do I boil an egg?")
    async with world.chat(title_model="fast") as later:
        await ada.ask(later, "And two?", conversation_id=screen.conversation_id)
        await entitled(ada, screen.conversation_id, "How do I boil an egg?")
    assert len(world.gateway.requests) == 3
