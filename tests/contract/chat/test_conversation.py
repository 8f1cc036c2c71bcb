"""All runs of a conversation as one stream: whoever starts them, wherever they live, whoever may see them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from dataclasses import replace
from typing import Any

import pytest

from runtime.config import Secret
from runtime.errors import InvalidArgument, NotFound, OutOfRange, ParleyError, Unavailable
from services.chat import conversations
from services.chat.caller import Caller
from services.chat.data_client import DataClient
from services.chat.delegation import identity_of
from tests.contract.chat.screen import Screen
from tests.contract.chat.scripted_gateway import Gate
from tests.contract.chat.world import Instance, Person, World, eventually, refusal

NO_REDIS = Secret("redis://127.0.0.1:1/0")
NOBODYS = "01a1fe32-b237-7d7f-98f0-8caec147536e"


class Tab:
    """A client that keeps a conversation open, and what it shows of each run."""

    def __init__(self, responses: AsyncGenerator[Any, None]) -> None:
        self.screens: dict[str, Screen] = {}
        self._responses = responses
        self._reading = asyncio.create_task(self._read())

    async def shows(self, text: str, *, whole: bool = False) -> Screen:
        """Returns a run's screen once it shows a text, or, with `whole`, that and no more is to come."""

        async def shown() -> bool:
            if self._reading.done():
                self._reading.result()
            return any(map(fits, self.screens.values()))

        def fits(screen: Screen) -> bool:
            return screen.text == text and (not whole or screen.last.WhichOneof("kind") == "done")

        await eventually(shown)
        return next(filter(fits, self.screens.values()))

    async def ends(self, run_id: str, how: str) -> None:
        """Returns once a run's last event is one of a kind."""

        async def has() -> bool:
            return run_id in self.screens and self.screens[run_id].last.WhichOneof("kind") == how

        await eventually(has)

    async def ended(self) -> ParleyError:
        """Returns what ended it."""
        async with asyncio.timeout(15):
            try:
                await self._reading
            except ParleyError as error:
                return error
        raise AssertionError("ended without a word")

    async def close(self) -> None:
        self._reading.cancel()
        await asyncio.wait({self._reading})
        await self._responses.aclose()

    async def _read(self) -> None:
        async for response in self._responses:
            self.screens.setdefault(response.run_id, Screen()).take(response)


@pytest.fixture
async def other(world: World) -> AsyncIterator[Instance]:
    async with world.chat() as instance:
        yield instance


@pytest.fixture
async def tabs() -> AsyncIterator[list[Tab]]:
    opened: list[Tab] = []
    yield opened
    for tab in opened:
        await tab.close()


async def test_every_tab_on_every_instance_sees_each_run_as_it_is_written(
    world: World, chat: Instance, other: Instance, ada: Person, tabs: list[Tab]
) -> None:
    first = await ada.ask(chat)
    gate = Gate()
    world.gateway.script("Hel", gate, "lo")
    tabs += [Tab(ada.watch_conversation(instance, first.conversation_id)) for instance in (chat, other)]
    live = await ada.begin(chat, text="Hel", conversation_id=first.conversation_id)
    for tab in tabs:
        assert (await tab.shows("Hel")).kinds[:2] == ["run", "user_message"]
        assert first.run_id not in tab.screens
    gate.open()
    events = (await live.rest()).events
    for tab in tabs:
        assert (await tab.shows("Hello", whole=True)).events == events
    world.gateway.script("Next")
    await ada.ask(other, conversation_id=first.conversation_id)
    for tab in tabs:
        assert (await tab.shows("Next")).gapless


async def test_a_run_that_is_active_is_seen_from_its_beginning(
    world: World, chat: Instance, other: Instance, ada: Person, tabs: list[Tab]
) -> None:
    world.gateway.script("Hel", Gate())
    live = await ada.begin(chat, text="Hel")
    tabs.append(Tab(ada.watch_conversation(other, live.screen.conversation_id)))
    assert (await tabs[0].shows("Hel")).gapless


async def test_a_tab_that_comes_back_misses_nothing_and_sees_nothing_twice(
    world: World, chat: Instance, other: Instance, ada: Person, tabs: list[Tab]
) -> None:
    """Neither of the run its position is of, nor of those that came and went meanwhile."""
    gate = Gate()
    world.gateway.script("Hel", gate, "lo")
    world.gateway.script("Between")
    live = await ada.begin(chat, text="Hel")
    conversation_id = live.screen.conversation_id
    seen = live.screen.seq
    gate.open()
    whole = await live.rest()
    await ada.ask(chat, conversation_id=conversation_id)
    tabs.append(Tab(ada.watch_conversation(other, conversation_id, live.run_id, seen)))
    await tabs[0].shows("Between")
    rest = tabs[0].screens.pop(live.run_id)
    assert [event.seq for event in rest.events] == [event.seq for event in whole.events if event.seq > seen]
    assert all(screen.gapless for screen in tabs[0].screens.values())


async def test_without_redis_new_runs_are_found_in_what_is_stored(world: World, ada: Person, tabs: list[Tab]) -> None:
    async with world.chat(redis_url=NO_REDIS) as chat, world.chat(redis_url=NO_REDIS) as other:
        first = await ada.ask(chat)
        tabs.append(Tab(ada.watch_conversation(other, first.conversation_id)))
        gate = Gate()
        world.gateway.script("Found", gate)
        live = await ada.begin(chat, text="Found", conversation_id=first.conversation_id)
        await tabs[0].shows("Found")
        gate.open()
        await live.rest()


async def test_a_conversation_is_nobody_elses(chat: Instance, ada: Person, bob: Person) -> None:
    """Not even its being there; and whoever cannot be checked does not join."""
    conversation_id = (await ada.ask(chat)).conversation_id
    theirs = await refusal(bob.watch_conversation(chat, conversation_id))
    nobodys = await refusal(bob.watch_conversation(chat, NOBODYS))
    assert (type(theirs), theirs.code, theirs.message) == (NotFound, "CONVERSATION_NOT_FOUND", nobodys.message)


async def test_who_cannot_be_authorised_does_not_join(world: World, chat: Instance, ada: Person) -> None:
    conversation_id = (await ada.ask(chat)).conversation_id
    async with world.without("data"):
        assert isinstance(await refusal(ada.watch_conversation(chat, conversation_id)), Unavailable)


async def test_a_position_of_another_conversation_is_refused(chat: Instance, ada: Person) -> None:
    one, two = await ada.ask(chat), await ada.ask(chat)
    error = await refusal(ada.watch_conversation(chat, one.conversation_id, two.run_id, 1))
    assert (type(error), error.code) == (NotFound, "RUN_NOT_FOUND")
    error = await refusal(ada.watch_conversation(chat, one.conversation_id, one.run_id, one.seq + 1))
    assert (type(error), error.code) == (OutOfRange, "CURSOR_AHEAD")
    error = await refusal(ada.watch_conversation(chat, one.conversation_id, "", 3))
    assert (type(error), error.metadata["field"]) == (InvalidArgument, "after_run_id")


async def test_a_stream_ends_with_the_token_it_was_opened_with(chat: Instance, ada: Person) -> None:
    conversation_id = (await ada.ask(chat)).conversation_id
    identity = replace(identity_of(ada.token), expires_at=0)
    watching = chat.chat.conversations.watch(conversation_id, "", 0, Caller(identity, ada.token, "r"))
    with pytest.raises(conversations.WatchExpired):
        await anext(watching)
    assert (conversations.WatchExpired.reason, conversations.WatchExpired().retry_after_s) == ("WATCH_EXPIRED", 0.1)


async def test_an_instance_that_leaves_sends_its_tabs_away(
    world: World, chat: Instance, ada: Person, tabs: list[Tab]
) -> None:
    conversation_id = (await ada.ask(chat)).conversation_id
    tabs.append(Tab(ada.watch_conversation(chat, conversation_id)))
    gate = Gate()
    world.gateway.script("There", gate)
    live = await ada.begin(chat, text="There", conversation_id=conversation_id)
    await tabs[0].shows("There")
    gate.open()
    await live.rest()
    await chat.chat.drain(1)
    error = await tabs[0].ended()
    assert (type(error), error.code, error.retry_after_s) == (Unavailable, "DRAINING", 1)


async def test_a_tab_stays_while_a_run_changes_hands(
    world: World, chat: Instance, other: Instance, ada: Person, tabs: list[Tab]
) -> None:
    async with world.chat() as leaving:
        await chat.chat.claims.stop()
        world.gateway.script("Hel", Gate())
        world.gateway.script("Good ", "day")
        live = await ada.begin(leaving, text="Hel")
        tabs.append(Tab(ada.watch_conversation(chat, live.screen.conversation_id)))
        await tabs[0].shows("Hel")
        await leaving.chat.drain(0.2)
    assert (await tabs[0].shows("Good day")).gapless


@pytest.mark.parametrize("redis", [True, False], ids=["told", "found"])
async def test_a_dead_letter_that_is_tried_again_is_shown_to_whoever_is_there(
    world: World, ada: Person, tabs: list[Tab], *, redis: bool
) -> None:
    """On every instance: to a tab that has seen its end, and to one that came later; each goes on with what comes after it."""
    given = {"background_tries": 1} if redis else {"background_tries": 1, "redis_url": NO_REDIS}
    async with world.chat(**given) as chat, world.chat(**given) as other:
        gate = Gate()
        world.gateway.script("Hel", gate, "lo")
        live = await ada.begin(chat, text="Hel")
        conversation_id = live.screen.conversation_id
        tabs.append(Tab(ada.watch_conversation(other, conversation_id)))
        await tabs[0].shows("Hel")
        gate.open()
        await live.rest()
        world.gateway.script(Unavailable.of("PROVIDER_UNAVAILABLE", "down"))
        run = await ada.submit(chat, conversation_id=conversation_id)
        await tabs[0].ends(run.id, "error")
        await ada.ask(chat, conversation_id=conversation_id)
        tabs += [Tab(ada.watch_conversation(instance, conversation_id)) for instance in (chat, other)]
        again = Gate()
        world.gateway.script("At ", again, "last")
        await ada.retry_dead_letter(chat, run.id)
        for tab in tabs:
            await tab.shows("At ")
        again.open()
        for tab in tabs:
            await tab.ends(run.id, "done")
            assert tab.screens[run.id].text == "At last"
        world.gateway.script("Next")
        await ada.ask(chat, conversation_id=conversation_id)
        for tab in tabs:
            await tab.shows("Next", whole=True)


async def test_many_tabs_of_a_conversation_look_as_often_as_one(
    world: World, chat: Instance, ada: Person, tabs: list[Tab], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also when something happens, which all of them are told of at once."""
    looked: list[str] = []
    list_runs = DataClient.list_runs

    async def counted(self: DataClient, conversation_id: str, **fields: Any) -> Any:
        looked.append(fields["after_run_id"])
        return await list_runs(self, conversation_id, **fields)

    gate = Gate()
    world.gateway.script("Hel", gate, "lo")
    live = await ada.begin(chat, text="Hel")
    conversation_id = live.screen.conversation_id
    tabs += [Tab(ada.watch_conversation(chat, conversation_id)) for _ in range(10)]
    for tab in tabs:
        await tab.shows("Hel")
    gate.open()
    await live.rest()
    for tab in tabs:
        await tab.shows("Hello", whole=True)
    monkeypatch.setattr(DataClient, "list_runs", counted)
    newest = await ada.ask(chat, conversation_id=conversation_id)
    for tab in tabs:
        await tab.ends(newest.run_id, "done")
    assert len(looked) < len(tabs)


async def test_a_deleted_conversation_ends_its_streams(chat: Instance, ada: Person, tabs: list[Tab]) -> None:
    conversation_id = (await ada.ask(chat)).conversation_id
    tabs.append(Tab(ada.watch_conversation(chat, conversation_id)))
    await ada.delete_conversation(conversation_id)
    assert (await tabs[0].ended()).code == "CONVERSATION_NOT_FOUND"
