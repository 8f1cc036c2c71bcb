"""What a model is asked where a run is not simply the next one: gone on with, done anew, done again."""

from __future__ import annotations

from parley.chat.v1 import chat_pb2 as pb
from parley.data.v1 import data_pb2
from parley.gateway.v1 import gateway_pb2
from runtime.errors import DeadlineExceeded, Unavailable
from tests.contract.chat.screen import Screen
from tests.contract.chat.scripted_gateway import Gate
from tests.contract.chat.world import Instance, Person, World, eventually

SYSTEM, USER, ASSISTANT = gateway_pb2.ROLE_SYSTEM, gateway_pb2.ROLE_USER, gateway_pb2.ROLE_ASSISTANT


async def cut_off(world: World, chat: Instance, person: Person, text: str) -> Screen:
    """Has a run stopped after so much text."""
    world.gateway.script(text, Gate())
    live = await person.begin(chat, "Tell me.", text=text)
    await person.cancel(chat, live.run_id)
    return await live.rest()


async def test_a_cancelled_answer_is_gone_on_with_where_it_stops(world: World, chat: Instance, ada: Person) -> None:
    screen = await cut_off(world, chat, ada, "Once upon")
    world.gateway.script(" a time.")
    answer_id = screen.events[0].run.message_id
    more = await ada.ask(chat, "", conversation_id=screen.conversation_id, continue_message_id=answer_id)
    assert (more.text, more.last.done.status) == ("Once upon a time.", pb.RUN_STATUS_COMPLETED)
    assert more.kinds == ["run", "user_message", "thinking", "text", "progress", "text", "usage", "done"]
    told = world.gateway.requests[-1].messages
    assert [message.role for message in told] == [SYSTEM, USER, ASSISTANT, USER]
    assert [message.text for message in told[1:3]] == ["Tell me.", "Once upon"]
    stored = await ada.stored(more.run_id)
    assert [part.text for part in stored.answer.parts] == ["Once upon a time."]
    replay = await Screen().read(ada.watch(chat, more.run_id))
    assert replay.text == more.text


async def test_an_answer_gone_on_with_outlives_another_stop(world: World, chat: Instance, ada: Person) -> None:
    screen = await cut_off(world, chat, ada, "Once upon")
    world.gateway.script(" a time", Gate())
    answer_id = screen.events[0].run.message_id
    live = await ada.begin(
        chat,
        "",
        text="Once upon a time",
        conversation_id=screen.conversation_id,
        continue_message_id=answer_id,
    )
    await ada.cancel(chat, live.run_id)
    again = await live.rest()
    world.gateway.script(" there was.")
    more = await ada.ask(
        chat,
        "",
        conversation_id=screen.conversation_id,
        continue_message_id=again.events[0].run.message_id,
    )
    assert more.text == "Once upon a time there was."
    assert world.gateway.requests[-1].messages[2].text == "Once upon a time"


async def test_an_answer_given_anew_is_asked_for_with_the_same_question(
    world: World, chat: Instance, ada: Person
) -> None:
    first = await ada.ask(chat, "One?")
    second = await ada.ask(chat, "Two?", conversation_id=first.conversation_id)
    answer_id = second.events[0].run.message_id
    world.gateway.script("Anew.")
    anew = await ada.ask(chat, "", conversation_id=first.conversation_id, regenerate_message_id=answer_id)
    assert anew.text == "Anew."
    told = world.gateway.requests[-1].messages
    assert [message.role for message in told] == [SYSTEM, USER, ASSISTANT, USER]
    assert [told[1].text, told[3].text] == ["One?", "Two?"]


async def test_an_edited_question_is_asked_in_the_place_of_the_old_one(
    world: World, chat: Instance, ada: Person
) -> None:
    first = await ada.ask(chat, "One?")
    second = await ada.ask(chat, "Two?", conversation_id=first.conversation_id)
    question_id = second.events[0].run.user_message_id
    await ada.ask(chat, "Three?", conversation_id=first.conversation_id, edit_message_id=question_id)
    told = world.gateway.requests[-1].messages
    assert [message.text for message in told if message.role == USER] == ["One?", "Three?"]


async def test_a_gateway_that_dies_in_the_answer_is_asked_again_after_a_reset(
    world: World, chat: Instance, ada: Person
) -> None:
    world.gateway.script("Hel", Gate())
    world.gateway.script("Good day.")
    live = await ada.begin(chat, text="Hel")
    async with world.without("gateway"):
        pass
    screen = await live.rest()
    assert (screen.text, screen.last.done.status) == ("Good day.", pb.RUN_STATUS_COMPLETED)
    assert screen.kinds.count("reset") == 1
    assert await ada.stored_text(live.run_id) == "Good day."


async def test_a_background_run_that_fails_is_tried_again_and_its_watchers_see_one_answer(
    world: World, chat: Instance, ada: Person
) -> None:
    world.gateway.script("Hel", DeadlineExceeded.of("STREAM_STALLED", "words"))
    world.gateway.script("Good day.")
    run = await ada.submit(chat, "Hello?")
    screen = Screen()
    while not screen.events or screen.last.WhichOneof("kind") not in ("done", "error"):
        try:
            await screen.read(ada.watch(chat, run.id, screen.seq))
        except Unavailable:
            continue  # it goes on elsewhere, perhaps here
    assert (screen.text, screen.last.done.status) == ("Good day.", pb.RUN_STATUS_COMPLETED)
    stored = await ada.stored(run.id)
    assert (stored.run.tries, stored.run.status) == (2, data_pb2.RUN_STATUS_COMPLETED)
    assert stored.answer.usage.output_tokens > 7


async def test_a_wish_to_stop_reaches_a_run_that_waits_for_its_next_try(
    world: World, chat: Instance, ada: Person
) -> None:
    world.gateway.script(DeadlineExceeded.of("STREAM_STALLED", "words", retry_after_s=30))
    run = await ada.submit(chat, "Hello?")

    async def waits() -> bool:
        stored = await ada.stored(run.id)
        return stored.run.tries == 1 and stored.run.status == data_pb2.RUN_STATUS_QUEUED

    await eventually(waits)
    assert (await ada.cancel(chat, run.id)).status == pb.RUN_STATUS_CANCELLED
