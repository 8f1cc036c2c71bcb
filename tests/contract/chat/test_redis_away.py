"""Redis is a convenience: cut off, emptied or slow, it costs no answer; things heal by themselves."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from urllib.parse import urlsplit, urlunsplit

import pytest
import redis.asyncio

from parley.chat.v1 import chat_pb2 as pb
from runtime.config import Secret
from tests.chaos.proxy import Link
from tests.contract.chat.screen import Screen
from tests.contract.chat.scripted_gateway import Gate
from tests.contract.chat.world import Instance, Person, World


@pytest.fixture
async def link(world: World) -> AsyncIterator[Link]:
    """The way of an instance to Redis."""
    async with Link(lambda: urlsplit(world.redis_url).netloc.rpartition("@")[2]) as link:
        yield link


@pytest.fixture
async def chat(world: World, link: Link) -> AsyncIterator[Instance]:
    parts = urlsplit(world.redis_url)
    credential, at, _ = parts.netloc.rpartition("@")
    url = urlunsplit(parts._replace(netloc=f"{credential}{at}{link.address}"))
    async with world.chat(redis_url=Secret(url)) as instance:
        yield instance


@pytest.fixture
async def other(world: World) -> AsyncIterator[Instance]:
    async with world.chat() as instance:
        yield instance


async def test_a_run_goes_on_while_redis_is_cut_off(
    world: World, chat: Instance, other: Instance, link: Link, ada: Person
) -> None:
    """Its own watchers see all of it as it comes, those of another instance what is stored, and then the rest."""
    gate, second, third = Gate(), Gate(), Gate()
    world.gateway.script("Hel", gate, "lo ", second, "you", third)
    live = await ada.begin(chat, text="Hel")
    there = ada.watch(other, live.run_id)
    screen = Screen()
    while screen.text != "Hel":
        screen.take(await anext(there))
    link.part()
    gate.open()
    while live.screen.text != "Hello ":
        live.screen.take(await anext(live.responses))
    async with asyncio.timeout(20):
        while screen.text != "Hello ":
            screen.take(await anext(there))
    link.mend()
    second.open()
    while screen.text != "Hello you":
        screen.take(await anext(there))
    third.open()
    assert (await screen.read(there)).last == (await live.rest()).last
    assert await ada.stored_text(live.run_id) == "Hello you"


async def test_a_run_begins_and_ends_without_redis(world: World, chat: Instance, link: Link, ada: Person) -> None:
    link.part()
    screen = await ada.ask(chat)
    assert (screen.last.done.status, screen.gapless) == (pb.RUN_STATUS_COMPLETED, True)
    run = await ada.submit(chat)
    assert (await Screen().read(ada.watch(chat, run.id))).last.done.status == pb.RUN_STATUS_COMPLETED


async def test_an_emptied_redis_is_filled_again(world: World, chat: Instance, other: Instance, ada: Person) -> None:
    gate, second = Gate(), Gate()
    world.gateway.script("Hel", gate, "lo", second)
    live = await ada.begin(chat, text="Hel")
    there = ada.watch(other, live.run_id)
    screen = Screen()
    while screen.text != "Hel":
        screen.take(await anext(there))
    async with redis.asyncio.Redis.from_url(world.redis_url) as client:
        await client.flushdb()
    gate.open()
    while screen.text != "Hello":
        screen.take(await anext(there))
    second.open()
    assert (await screen.read(there)).events == (await live.rest()).events
