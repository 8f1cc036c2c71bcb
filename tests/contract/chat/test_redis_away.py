"""Redis is a convenience: cut off, emptied or slow, it costs no answer; things heal by themselves."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

import pytest
import redis.asyncio

from parley.chat.v1 import chat_pb2 as pb
from runtime.config import Secret
from services.chat.data_client import DataClient
from services.chat.domain import Stored
from tests.chaos.proxy import Link
from tests.contract.chat.screen import Screen
from tests.contract.chat.scripted_gateway import Call, Gate
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


@pytest.mark.parametrize("parted_first", [False, True], ids=["seen a part", "joined without redis"])
async def test_an_answer_with_tools_is_shown_from_what_is_stored_as_it_grows(
    world: World, link: Link, ada: Person, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, parted_first: bool
) -> None:
    """To whoever has seen a part of it already, and long before its end; when Redis is back, they go on in the log."""
    monkeypatch.setenv("PARLEY_TEST_TRACES", str(tmp_path / "traces"))
    called, second, third = Gate(), Gate(), Gate()
    world.gateway.script("See: ", called, Call("look"))
    world.gateway.script("Th", second, "us", third, "!")
    look = {"tools": ("tests.contract.chat.effects:LOOK",)}
    parts = urlsplit(world.redis_url)
    credential, at, _ = parts.netloc.rpartition("@")
    url = urlunsplit(parts._replace(netloc=f"{credential}{at}{link.address}"))
    async with world.chat(redis_url=Secret(url), **look) as chat, world.chat(**look) as other:
        if parted_first:
            link.part()
        live = await ada.begin(chat, text="See: ")
        there, screen = ada.watch(other, live.run_id), Screen()
        while screen.text != "See: ":
            screen.take(await anext(there))
        if not parted_first:
            link.part()
        called.open()
        async with asyncio.timeout(20):
            while screen.text != "See: Th":
                screen.take(await anext(there))
        assert [kind for kind in screen.kinds if kind in ("tool_use", "tool_result", "text")] == [
            "text",
            "tool_use",
            "tool_result",
            "text",
        ]
        second.open()
        async with asyncio.timeout(20):
            while screen.text != "See: Thus":
                screen.take(await anext(there))
        link.mend()
        third.open()
        assert (await screen.read(there)).last == (await live.rest()).last
        assert screen.text == live.screen.text == "See: Thus!"


async def test_many_silent_watchers_look_as_often_as_one(
    world: World, chat: Instance, other: Instance, ada: Person, monkeypatch: pytest.MonkeyPatch
) -> None:
    looked: list[str] = []
    get_run = DataClient.get_run

    async def counted(self: DataClient, run_id: str, *, token: str) -> Stored:
        looked.append(run_id)
        return await get_run(self, run_id, token=token)

    gate = Gate()
    world.gateway.script("Hel", gate, "lo")
    live = await ada.begin(chat, text="Hel")
    screens = [Screen() for _ in range(12)]
    watching = [ada.watch(other, live.run_id) for _ in screens]
    for screen, responses in zip(screens, watching, strict=True):
        while screen.text != "Hel":
            screen.take(await anext(responses))
    monkeypatch.setattr(DataClient, "get_run", counted)
    reading = [asyncio.create_task(screen.read(responses)) for screen, responses in zip(screens, watching, strict=True)]
    async with asyncio.timeout(20):
        while len(looked) < 2:  # noqa: ASYNC110 - it is told by no event
            await asyncio.sleep(0.01)
    await asyncio.sleep(0.5)  # who looks by itself does so now
    assert len(looked) < len(screens)
    gate.open()
    assert {screen.text for screen in await asyncio.gather(*reading)} == {"Hello"}
    await live.rest()


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
