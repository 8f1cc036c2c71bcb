"""What a run has used is told and stored once, and exactly where providers have said it, also when its owner dies in between."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.contract.chat.effects import PLACES
from tests.contract.chat.screen import Screen
from tests.contract.chat.scripted_gateway import Call, Gate
from tests.contract.chat.world import Person, World, eventually


async def test_what_a_dead_owners_steps_have_used_is_known_to_the_next(
    world: World, ada: Person, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PARLEY_TEST_TRACES", str(tmp_path / "traces"))
    asked = Gate()
    world.gateway.script("See: ", Call("look"))
    world.gateway.script(asked)
    world.gateway.script("Thus.")
    async with world.process(tools=PLACES) as owner, world.chat(tools=PLACES) as heir:
        live = await ada.begin(owner, text="See: ")
        await asked.reached.wait()

        async def is_counted() -> bool:
            return (await ada.stored(live.run_id)).answer.usage.input_tokens == 11

        await eventually(is_counted)
        await owner.kill()
        await world.forsake(live.run_id)
        screen = await Screen().read(ada.watch(heir, live.run_id))
    usage = next(event.usage for event in screen.events if event.WhichOneof("kind") == "usage")
    assert (screen.text, usage.input_tokens, usage.output_tokens) == ("See: Thus.", 22, 14)
    assert (usage.estimated, usage.cost_usd) == (False, 0.5)
    assert (await ada.stored(live.run_id)).answer.usage.input_tokens == 22
