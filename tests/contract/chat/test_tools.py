"""Tools in a run: seen by whoever watches, stored, part of what models are told later, and never called twice."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from parley.chat.v1 import chat_pb2 as pb
from parley.data.v1 import data_pb2
from parley.gateway.v1 import gateway_pb2
from runtime.errors import Unavailable
from tests.contract.chat.effects import PLACES, traces
from tests.contract.chat.screen import Screen
from tests.contract.chat.scripted_gateway import Call, Gate
from tests.contract.chat.world import Instance, Person, World, eventually, refusal


@pytest.fixture(autouse=True)
def _own_traces(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PARLEY_TEST_TRACES", str(tmp_path / "traces"))


@pytest.fixture
async def chat(world: World, ada: Person) -> AsyncIterator[Instance]:
    async with world.chat(tools=PLACES) as instance:
        await ada.ask(instance)  # the list of models has been read then
        world.gateway.forget()
        yield instance


async def test_a_tool_is_called_and_its_result_seen_stored_and_told(world: World, chat: Instance, ada: Person) -> None:
    world.gateway.script("I pay. ", Call("pay", '{"then":"answer"}'))
    world.gateway.script("Paid.")
    screen = await ada.ask(chat, "Pay!")
    assert screen.kinds[3:] == ["text", "tool_use", "progress", "tool_result", "progress", "text", "usage", "done"]
    assert screen.text == "I pay. Paid."
    use = next(event.tool_use for event in screen.events if event.HasField("tool_use"))
    told = next(event.tool_result for event in screen.events if event.HasField("tool_result"))
    assert (use.tool_call_id, use.name, use.input_json) == ("call_1", "pay", '{"then":"answer"}')
    assert (told.tool_call_id, told.content, told.is_error) == ("call_1", "trace 1", False)
    assert traces() == ["call_1"]
    usage = next(event.usage for event in screen.events if event.HasField("usage"))
    assert (usage.input_tokens, usage.output_tokens, usage.cost_usd) == (22, 14, 0.5)
    stored = await ada.stored(screen.run_id)
    assert [part.WhichOneof("kind") for part in stored.answer.parts] == ["text", "tool_use", "tool_result", "text"]
    replay = await Screen().read(ada.watch(chat, screen.run_id))
    assert replay.text == screen.text


async def test_tools_are_offered_with_their_schema_to_models_that_take_them(
    world: World, chat: Instance, ada: Person
) -> None:
    await ada.ask(chat)
    offered = world.gateway.requests[-1].tools
    assert [tool.name for tool in offered] == ["pay", "look", "rule"]  # who signs up owns an organization
    assert '"then"' in offered[0].parameters_json
    await ada.ask(chat, model="openai/plain-model")
    assert list(world.gateway.requests[-1].tools) == []


async def test_calls_and_results_are_part_of_later_history(world: World, chat: Instance, ada: Person) -> None:
    world.gateway.script("I look. ", Call("look", id="a"), Call("look", id="b"))
    world.gateway.script("Seen.")
    first = await ada.ask(chat, "Look!")
    await ada.ask(chat, "And?", conversation_id=first.conversation_id)
    told = world.gateway.requests[-1].messages
    system, user, assistant, tool = (
        gateway_pb2.ROLE_SYSTEM,
        gateway_pb2.ROLE_USER,
        gateway_pb2.ROLE_ASSISTANT,
        gateway_pb2.ROLE_TOOL,
    )
    assert [message.role for message in told] == [system, user, assistant, tool, tool, assistant, user]
    assert [call.id for call in told[2].tool_calls] == ["a", "b"]
    assert [message.tool_call_id for message in told[3:5]] == ["a", "b"]


async def test_what_breaks_in_a_tool_is_told_in_words_and_the_run_goes_on(
    world: World, chat: Instance, ada: Person
) -> None:
    world.gateway.script(
        Call("pay", '{"then":"fail"}', id="a"),
        Call("pay", '{"then":"break"}', id="b"),
        Call("pay", '{"then":', id="c"),
        Call("pay", '{"now":1}', id="d"),
        Call("nothing", id="e"),
    )
    world.gateway.script("None of it worked.")
    screen = await ada.ask(chat)
    told = {e.tool_result.tool_call_id: e.tool_result for e in screen.events if e.HasField("tool_result")}
    assert all(result.is_error for result in told.values())
    assert {call_id: result.content for call_id, result in told.items()} == {
        "a": "It could not be done.",
        "b": "The tool failed with an internal error.",
        "c": "The arguments are no JSON object.",
        "d": "The arguments do not fit the tool: Additional properties are not allowed ('now' was unexpected)",
        "e": "There is no tool nothing. There are: pay, look, rule.",
    }
    assert (screen.text, screen.last.done.status) == ("None of it worked.", pb.RUN_STATUS_COMPLETED)


async def test_a_stop_during_a_tool_ends_the_run(world: World, chat: Instance, ada: Person) -> None:
    world.gateway.script("I pay. ", Call("pay", '{"then":"hang"}'))
    live = await ada.begin(chat, text="I pay. ")
    await _traced(1)
    run = await ada.cancel(chat, live.run_id)
    assert run.status == pb.RUN_STATUS_CANCELLED
    assert (await live.rest()).last.done.status == pb.RUN_STATUS_CANCELLED
    assert len(world.gateway.requests) == 1


async def test_an_owner_killed_while_a_tool_has_its_effect_leaves_an_interrupted_run_that_can_be_gone_on_with(
    world: World, ada: Person
) -> None:
    async with world.process(tools=PLACES) as owner, world.chat(tools=PLACES) as heir:
        await _known(world, owner, ada)
        world.gateway.script("I pay. ", Call("pay", '{"then":"hang"}'))
        live = await ada.begin(owner, text="I pay. ")
        await _traced(1)
        await owner.kill()
        await world.forsake(live.run_id)
        assert isinstance(await refusal(live.responses, live.screen), Unavailable)
        screen = await live.screen.read(ada.watch(heir, live.run_id, live.screen.seq))
        assert screen.last.done.status == pb.RUN_STATUS_INTERRUPTED
        assert traces() == ["call_1"]
        stored = await ada.stored(live.run_id)
        assert [part.WhichOneof("kind") for part in stored.answer.parts] == ["text", "tool_use"]
        world.gateway.script("It may have been paid.")
        more = await ada.ask(heir, "", conversation_id=screen.conversation_id, continue_message_id=stored.answer.id)
        assert more.text == "I pay. It may have been paid."
        assert "not known" in world.gateway.requests[-1].messages[-1].text
        assert traces() == ["call_1"]


async def test_an_owner_killed_after_a_tool_leaves_its_result_to_the_next_one(world: World, ada: Person) -> None:
    async with world.process(tools=PLACES) as owner, world.chat(tools=PLACES) as heir:
        await _known(world, owner, ada)
        gate = Gate()
        world.gateway.script("I pay. ", Call("pay"))
        world.gateway.script("Pa", gate)
        world.gateway.script("It is paid.")
        live = await ada.begin(owner, text="I pay. Pa")
        await owner.kill()
        await world.forsake(live.run_id)
        await refusal(live.responses, live.screen)
        screen = await live.screen.read(ada.watch(heir, live.run_id, live.screen.seq))
        assert (screen.text, screen.last.done.status) == ("I pay. It is paid.", pb.RUN_STATUS_COMPLETED)
        assert traces() == ["call_1"]
        assert world.gateway.requests[-1].messages[-1].text == "trace 1"
        stored = await ada.stored(live.run_id)
        assert "".join(part.text for part in stored.answer.parts) == screen.text


async def test_a_tool_that_changes_nothing_is_called_again_by_the_next_owner(world: World, ada: Person) -> None:
    async with world.process(tools=PLACES) as owner, world.chat(tools=PLACES) as heir:
        await _known(world, owner, ada)
        world.gateway.script("I look. ", Call("look", '{"then":"hang"}'))
        world.gateway.script("Seen.")
        live = await ada.begin(owner, text="I look. ")

        async def stored() -> bool:
            return len((await ada.stored(live.run_id)).answer.parts) == 2

        await eventually(stored)  # otherwise the next owner would know of no call, and ask the model again
        await owner.kill()
        await world.forsake(live.run_id)
        await refusal(live.responses, live.screen)
        screen = await live.screen.read(ada.watch(heir, live.run_id, live.screen.seq))
        assert (screen.text, screen.last.done.status) == ("I look. Seen.", pb.RUN_STATUS_COMPLETED)
        assert traces() == ["call_1", "call_1"]


async def test_a_run_with_tools_is_handed_over_between_them(world: World, ada: Person) -> None:
    async with world.chat(tools=PLACES) as leaving, world.chat(tools=PLACES) as staying:
        await ada.ask(leaving)
        await ada.ask(staying)
        world.gateway.script("I pay. ", Call("pay"))
        world.gateway.script("Pa", Gate())
        world.gateway.script("It is paid.")
        live = await ada.begin(leaving, text="I pay. Pa")
        draining = asyncio.create_task(leaving.chat.drain(4))
        error = await refusal(live.responses, live.screen)
        assert error.code in ("RUN_MOVED", "DRAINING")
        screen = await live.screen.read(ada.watch(staying, live.run_id, live.screen.seq))
        await draining
        assert (screen.text, traces()) == ("I pay. It is paid.", ["call_1"])
        assert (await ada.stored(live.run_id)).run.status == data_pb2.RUN_STATUS_COMPLETED


async def _known(world: World, process: object, person: Person) -> None:
    """Returns once a process has read the list of models: until then it offers no tools."""
    await person.ask(process)  # type: ignore[arg-type]
    world.gateway.forget()


async def _traced(times: int) -> None:
    async def traced() -> bool:
        return len(traces()) == times

    await eventually(traced)
