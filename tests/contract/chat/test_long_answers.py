"""However much tools say, an answer can be stored, read back, shown and sent to a model."""

from __future__ import annotations

from parley.chat.v1 import chat_pb2 as pb
from parley.data.v1 import data_pb2
from tests.contract.chat.screen import Screen
from tests.contract.chat.scripted_gateway import Call, Gate
from tests.contract.chat.world import Person, World, eventually

GATEWAY_TAKES_BYTES = 4 * 1024 * 1024
BULK = {"tools": ("tests.contract.chat.effects:BULK",)}


async def test_what_tools_say_together_is_cut_to_what_a_model_can_be_sent(world: World, ada: Person) -> None:
    """Each may say a mebibyte, and ten of them are called; whoever is cut says so."""
    world.gateway.script(*(Call("bulk", id=f"call_{number}") for number in range(10)))
    world.gateway.script("Much.")
    async with world.chat(**BULK) as chat:
        screen = await ada.ask(chat)
        assert (screen.text, screen.last.done.status) == ("Much.", pb.RUN_STATUS_COMPLETED)
        assert world.gateway.requests[-1].ByteSize() < GATEWAY_TAKES_BYTES
        stored = await ada.stored(screen.run_id)
        results = [part.tool_result for part in stored.answer.parts if part.HasField("tool_result")]
        assert len(results) == 10
        assert all("[Cut off: these are the first" in result.content for result in results)
        again = await Screen().read(ada.watch(chat, screen.run_id))
        assert again.text == "Much."


async def test_an_answer_above_four_mebibytes_is_kept_handed_on_and_stored(world: World, ada: Person) -> None:
    """What one call of ours may carry is more than any answer takes: between chat and data, there and back."""
    characters, gate = 5 * 2**20, Gate()
    world.gateway.script(*["x" * 2**20] * (characters // 2**20), gate)
    async with world.process() as owner, world.chat() as heir:
        live = await ada.begin(owner, text="x" * characters)

        async def is_kept() -> bool:
            return len(await ada.stored_text(live.run_id)) == characters

        await eventually(is_kept)
        world.gateway.script("Good day")
        await owner.kill()
        await world.forsake(live.run_id)

        async def is_over() -> bool:
            return (await ada.stored(live.run_id)).run.status == data_pb2.RUN_STATUS_COMPLETED

        await eventually(is_over)
        assert (await Screen().read(ada.watch(heir, live.run_id))).text == "Good day"
