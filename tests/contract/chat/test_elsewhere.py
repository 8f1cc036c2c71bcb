"""Runs of other instances: followed through Redis, through what is stored, and ended when nobody owns them."""

from __future__ import annotations

import asyncio
from typing import Any

import redis.asyncio

from parley.chat.v1 import chat_pb2 as pb
from parley.data.v1 import data_pb2
from runtime.config import Secret
from runtime.errors import Unavailable
from services.chat.entries import key_of
from services.chat.snapshot import UNSEEN_MAX_EVENTS
from tests.contract.chat.screen import Screen
from tests.contract.chat.scripted_gateway import Gate, Think
from tests.contract.chat.world import Instance, Person, World, eventually, refusal

NO_REDIS = Secret("redis://127.0.0.1:1/0")


async def test_another_instance_streams_the_same_events(world: World, chat: Instance, ada: Person) -> None:
    gate, second = Gate(), Gate()
    world.gateway.script(Think("Hm."), "Hel", gate, "lo", second, " you")
    async with world.chat() as other:
        here = await ada.begin(chat, text="Hel")
        there = await Screen().read(ada.watch(other, here.run_id), until=lambda screen: screen.text == "Hel")
        gate.open()
        rest = ada.watch(other, here.run_id, there.seq)
        there.take(await anext(rest))
        second.open()
        assert (await there.read(rest)).events == (await here.rest()).events


async def test_many_watch_one_run_of_another_instance(world: World, chat: Instance, ada: Person) -> None:
    gate = Gate()
    world.gateway.script("Hel", gate, *"lo you")
    async with world.chat() as other:
        here = await ada.begin(chat, text="Hel")
        there = [(Screen(), ada.watch(other, here.run_id)) for _ in range(10)]
        for screen, responses in there:
            screen.take(await anext(responses))
        gate.open()
        events = (await here.rest()).events
        for screen, responses in there:
            assert (await screen.read(responses)).events == events


async def test_without_redis_another_instance_shows_what_is_stored(world: World, ada: Person) -> None:
    gate = Gate()
    world.gateway.script("Hel", gate, "lo")
    async with world.chat(redis_url=NO_REDIS) as chat, world.chat(redis_url=NO_REDIS) as other:
        here = await ada.begin(chat, text="Hel")
        there = Screen()
        await there.read(ada.watch(other, here.run_id), until=lambda screen: screen.text == "Hel")
        gate.open()
        await there.read(ada.watch(other, here.run_id, there.seq))
        assert (there.text, there.last) == ("Hello", (await here.rest()).last)


async def test_a_cursor_of_a_log_that_was_made_anew_is_good_before_any_store_knows_of_it(
    world: World, chat: Instance, ada: Person
) -> None:
    """Such a log begins far ahead. Whoever comes back at once, elsewhere, is not sent away; only the run's end tells what never was."""
    gate = Gate()
    world.gateway.script("Hel", gate, "lo")
    async with world.chat(redis_url=NO_REDIS) as other:
        here = await ada.begin(chat, text="Hel")
        ahead = asyncio.create_task(refusal(ada.watch(other, here.run_id, here.screen.seq + UNSEEN_MAX_EVENTS + 9)))
        await Screen().read(ada.watch(other, here.run_id), until=lambda screen: screen.text == "Hel")
        assert not ahead.done()
        gate.open()
        await here.rest()
        assert (await ahead).code == "CURSOR_AHEAD"


async def test_a_log_that_redis_has_lost_is_sent_again(world: World, chat: Instance, ada: Person) -> None:
    gate, second = Gate(), Gate()
    world.gateway.script("Hel", gate, "lo ", second, "you")
    here = await ada.begin(chat, text="Hel")
    async with redis.asyncio.Redis.from_url(world.redis_url) as client:
        key = key_of(ada.org_id, here.run_id)

        async def kept() -> bool:
            return bool(await client.exists(key))

        await eventually(kept)
        await client.delete(key)
        gate.open()
        await second.reached.wait()
        await eventually(kept)
        entries: Any = await client.xrange(key)
        assert entries[0][1][b"first"] == b"1"
        assert 0 < await client.ttl(key) <= 3600
    async with world.chat() as other:
        there, responses = Screen(), ada.watch(other, here.run_id)
        there.take(await anext(responses))
        second.open()
        assert (await there.read(responses)).events == (await here.rest()).events


async def test_a_run_is_cancelled_from_another_instance(world: World, chat: Instance, ada: Person) -> None:
    gate = Gate()
    world.gateway.script("Hel", gate)
    async with world.chat() as other:
        here = await ada.begin(chat, text="Hel")
        run = await ada.cancel(other, here.run_id)
        assert run.status == pb.RUN_STATUS_CANCELLED
        assert (await here.rest()).last.done.status == pb.RUN_STATUS_CANCELLED


async def test_without_redis_a_run_is_cancelled_by_what_is_stored(world: World, ada: Person) -> None:
    """No word reaches its owner; the wish does, with the next checkpoint."""
    world.gateway.script("Hel", Gate())
    async with world.chat(redis_url=NO_REDIS, lease_s=1) as chat, world.chat(redis_url=NO_REDIS) as other:
        here = await ada.begin(chat, text="Hel")
        run = await ada.cancel(other, here.run_id)
        assert run.status == pb.RUN_STATUS_CANCELLED
        assert (await here.rest()).last.done.status == pb.RUN_STATUS_CANCELLED
        await world.gateway.closed.wait()


async def test_a_run_that_nobody_owns_is_cancelled_with_what_is_stored(world: World, ada: Person) -> None:
    """Whoever claims it does no more than that."""
    run = await ada.begin_elsewhere(owner="gone", lease_s=0.2)
    await ada.checkpoint(run, "Hel", 9, lease_s=0.2)
    async with world.chat(suspicion_s=0.2) as chat:
        assert (await ada.cancel(chat, run.id)).status == pb.RUN_STATUS_CANCELLED
    assert await ada.stored_text(run.id) == "Hel"
    assert not world.gateway.requests


async def test_an_owner_whose_run_another_has_ended_stops(world: World, chat: Instance, ada: Person) -> None:
    """The stored end stands, and the owner's watchers are sent to where they are told of it."""
    world.gateway.script("Hel", Gate(), "lo")
    here = await ada.begin(chat, text="Hel")
    await ada.finish(here.run_id, data_pb2.RUN_STATUS_INTERRUPTED, "Hel", last_seq=here.screen.seq + 100)
    error = await refusal(here.responses)
    assert (type(error), error.code) == (Unavailable, "RUN_MOVED")
    screen = await here.screen.read(ada.watch(chat, here.run_id, here.screen.seq))
    assert (screen.text, screen.last.done.status) == ("Hel", pb.RUN_STATUS_INTERRUPTED)
    async with asyncio.timeout(10):
        await world.gateway.closed.wait()
