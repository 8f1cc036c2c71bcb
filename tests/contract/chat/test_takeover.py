"""A run whose owner dies, freezes or leaves goes on with another instance; a stale owner can do no harm."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
import redis.asyncio

from parley.chat.v1 import chat_pb2 as pb
from parley.data.v1 import data_pb2
from runtime.errors import FailedPrecondition, Unavailable
from services.chat.entries import entry_id, key_of, seen_key_of
from services.chat.taking import UNSEEN_EVENTS
from tests.contract.chat.process import Process
from tests.contract.chat.screen import Live, Screen
from tests.contract.chat.scripted_gateway import Gate
from tests.contract.chat.world import Instance, Person, World, eventually, refusal


@pytest.fixture
async def owner(world: World) -> AsyncIterator[Process]:
    async with world.process() as process:
        yield process


@pytest.fixture
async def heir(world: World, owner: Process) -> AsyncIterator[Instance]:
    async with world.chat() as instance:
        yield instance


async def broken_off(live: Live) -> Screen:
    """Reads a stream until its server is gone."""
    error = await refusal(live.responses, live.screen)
    assert isinstance(error, Unavailable)
    return live.screen


async def test_a_killed_owners_answer_goes_on_with_another_instance(
    world: World, owner: Process, heir: Instance, ada: Person
) -> None:
    gate = Gate()
    world.gateway.script("Hel", Gate(), "lo")
    world.gateway.script("Good ", gate, "day")
    live = await ada.begin(owner, text="Hel")
    await owner.kill()
    await world.forsake(live.run_id)
    screen = await broken_off(live)
    await screen.read(ada.watch(heir, live.run_id, screen.seq), until=lambda screen: screen.text == "Good ")
    gate.open()
    await screen.read(ada.watch(heir, live.run_id, screen.seq))
    assert (screen.text, screen.last.done.status) == ("Good day", pb.RUN_STATUS_COMPLETED)
    assert "reset" in screen.kinds
    assert screen.gapless
    assert await ada.stored_text(live.run_id) == "Good day"


async def test_all_that_a_killed_owner_leaves_behind_is_taken_whatever_the_queue_may(
    world: World, owner: Process, ada: Person, bob: Person
) -> None:
    """Somebody waits for each of them: they do not come one by one as places of the queue become free."""
    gates = [Gate(), Gate()]
    world.gateway.script("Hel", Gate())
    world.gateway.script("Hel", Gate())
    world.gateway.script("Good ", gates[0], "day")
    world.gateway.script("Good ", gates[1], "day")
    lives = [await person.begin(owner, text="Hel") for person in (ada, bob)]
    async with world.chat(max_background_runs=1) as heir:
        await owner.kill()
        for live in lives:
            await world.forsake(live.run_id)
        for gate in gates:
            await gate.reached.wait()
        for gate in gates:
            gate.open()
        for person, live in zip((ada, bob), lives, strict=True):
            screen = await broken_off(live)
            await screen.read(person.watch(heir, live.run_id, screen.seq))
            assert screen.text == "Good day"


async def test_what_no_log_holds_is_done_again_behind_resets(
    world: World, owner: Process, heir: Instance, ada: Person
) -> None:
    """Had the owner been cut off and not killed, it would have shown what came next, with the numbers that these have now."""
    gate, second = Gate(), Gate()
    world.gateway.script(gate)
    world.gateway.script("Good ", second, "day")
    responses = ada.start(owner)
    screen = Screen()
    screen.take(await anext(responses))
    await gate.reached.wait()
    await flushed(world, ada, Live(screen, responses))
    await owner.kill()
    await world.forsake(screen.run_id)
    await broken_off(Live(screen, responses))
    await screen.read(ada.watch(heir, screen.run_id, screen.seq), until=lambda screen: screen.text == "Good ")
    second.open()
    await screen.read(ada.watch(heir, screen.run_id, screen.seq))
    assert screen.text == "Good day"
    assert [event.seq for event in screen.events if event.WhichOneof("kind") == "reset"] == [
        *range(4, 4 + UNSEEN_EVENTS)
    ]
    assert screen.gapless


async def test_a_cursor_that_no_log_knows_meets_a_reset(
    world: World, owner: Process, heir: Instance, ada: Person
) -> None:
    """The dead owner has shown more than it could tell anybody; the watcher comes back before the takeover."""
    world.gateway.script("Hel", Gate())
    world.gateway.script(*"Good day to you")
    live = await ada.begin(owner, text="Hel")
    await owner.kill()
    seen = live.screen.seq + 150
    watching = asyncio.create_task(Screen().read(ada.watch(heir, live.run_id, seen)))
    async with redis.asyncio.Redis.from_url(world.redis_url) as client:

        async def is_noted() -> bool:
            return bool(await client.exists(seen_key_of(ada.org_id, live.run_id)))

        await eventually(is_noted)
    await world.forsake(live.run_id)
    there = await watching
    assert there.events[0].WhichOneof("kind") == "reset"
    assert (there.events[0].seq, there.text) == (seen + 1, "Good day to you")


async def test_a_run_that_outlives_two_owners_does_not_get_a_third(world: World, ada: Person) -> None:
    """It may be this very run that kills them: a person decides."""
    second = Gate()
    world.gateway.script("Hel", Gate())
    world.gateway.script("Good ", second)
    async with world.process() as other:
        async with world.process() as first:
            live = await ada.begin(first, text="Hel")
            run_id = live.run_id
            await flushed(world, ada, live)
            await first.kill()
        await world.forsake(run_id)
        await second.reached.wait()
        await eventually(lambda: is_stored(ada, run_id, "Good "))
        await other.kill()
    async with world.chat() as third:
        await world.forsake(run_id)
        screen = await Screen().read(ada.watch(third, run_id))
    assert (screen.text, screen.last.done.status) == ("Good ", pb.RUN_STATUS_INTERRUPTED)
    stored = await ada.stored(run_id)
    assert (stored.run.status, stored.answer.state) == (
        data_pb2.RUN_STATUS_INTERRUPTED,
        data_pb2.MESSAGE_STATE_INTERRUPTED,
    )
    assert await ada.stored_text(run_id) == "Good "


async def test_a_frozen_owner_that_wakes_up_can_neither_append_nor_finish(
    world: World, heir: Instance, ada: Person
) -> None:
    gate, second = Gate(), Gate()
    world.gateway.script("Hel", gate, "lo")
    world.gateway.script("Good ", second, "day")
    async with world.process(lease_s=1) as owner:
        live = await ada.begin(owner, text="Hel")
        await flushed(world, ada, live)
        owner.freeze()
        await world.lapsed(live.run_id)  # by then the owner's own clock says so too
        await world.forsake(live.run_id)
        there = await Screen().read(ada.watch(heir, live.run_id), until=lambda screen: screen.text == "Good ")
        owner.thaw()
        gate.open()
        error = await refusal(live.responses, live.screen)
    assert error.code in {"RUN_MOVED", "UNAVAILABLE"}
    assert live.screen.text == "Hel"
    second.open()
    await there.read(ada.watch(heir, live.run_id, there.seq))
    assert (there.text, there.gapless) == ("Good day", True)
    await live.screen.read(ada.watch(heir, live.run_id, live.screen.seq))
    assert live.screen.text == there.text
    assert await ada.stored_text(live.run_id) == "Good day"


async def test_an_old_fence_is_refused_by_data(world: World, owner: Process, heir: Instance, ada: Person) -> None:
    gate = Gate()
    world.gateway.script("Hel", Gate())
    world.gateway.script("Good ", gate)
    live = await ada.begin(owner, text="Hel")
    old = (await ada.stored(live.run_id)).run
    await owner.kill()
    await world.forsake(live.run_id)
    await gate.reached.wait()
    for refused in (
        ada.checkpoint(old, "Hello", 9, lease_s=5),
        ada.finish(live.run_id, data_pb2.RUN_STATUS_COMPLETED, "Hello", last_seq=9, fence=old.fence),
    ):
        error = await refusal(refused)
        assert (type(error), error.code) == (FailedPrecondition, "STALE_FENCE")


async def test_without_its_log_a_dead_owners_run_goes_on_from_what_is_stored(
    world: World, owner: Process, heir: Instance, ada: Person
) -> None:
    """The numbers jump, once, and whoever comes back with an old one is given the whole text."""
    world.gateway.script("Hel", Gate())
    world.gateway.script("Good ", "day")
    live = await ada.begin(owner, text="Hel")
    await eventually(lambda: is_stored(ada, live.run_id, "Hel"))
    await owner.kill()
    async with redis.asyncio.Redis.from_url(world.redis_url) as client:
        await client.delete(key_of(ada.org_id, live.run_id))
    await world.forsake(live.run_id)
    await live.screen.read(ada.watch(heir, live.run_id, live.screen.seq))
    assert (live.screen.text, live.screen.last.done.status) == ("Good day", pb.RUN_STATUS_COMPLETED)


async def test_an_instance_that_leaves_hands_its_runs_over(
    world: World, owner: Process, heir: Instance, ada: Person
) -> None:
    async with world.process(drain_grace_s=2) as leaving:
        await heir.chat.claims.stop()
        world.gateway.script("Hel", Gate())
        world.gateway.script("Good ", "day")
        live = await ada.begin(leaving, text="Hel")
        leaving.terminate()
        error = await refusal(live.responses, live.screen)
        assert (type(error), error.code) == (Unavailable, "RUN_MOVED")
        assert error.retry_after_s is not None
        await live.screen.read(ada.watch(owner, live.run_id, live.screen.seq))
        assert await leaving.gone() == 0
    assert (live.screen.text, live.screen.gapless) == ("Good day", True)
    assert (await ada.stored(live.run_id)).run.takeovers == 0


async def test_a_lease_that_is_renewed_late_is_no_reason_to_take_a_run(world: World, ada: Person) -> None:
    """While data is away everybody's lease lapses; the owner comes first when it is back."""
    gate = Gate()
    world.gateway.script("Hel", gate, "lo")
    async with world.chat(lease_s=1) as owner, world.chat(suspicion_s=10):
        live = await ada.begin(owner, text="Hel")
        async with world.without("data"):
            await world.lapsed(live.run_id)
        await eventually(lambda: is_stored(ada, live.run_id, "Hel"))
        gate.open()
        assert (await live.rest()).text == "Hello"
    assert (await ada.stored(live.run_id)).run.fence == 1


async def flushed(world: World, person: Person, live: Live) -> None:
    """Returns once the tail holds all that a client has seen."""
    async with redis.asyncio.Redis.from_url(world.redis_url) as client:

        async def holds() -> bool:
            newest: Any = await client.xrevrange(key_of(person.org_id, live.run_id), count=1)
            return bool(newest) and entry_id(newest[0][0]).last >= live.screen.seq

        await eventually(holds)


async def is_stored(person: Person, run_id: str, text: str) -> bool:
    return await person.stored_text(run_id) == text
