"""A conversation's runs, followed over many calls: each event once, and cursors that miss nothing."""

from collections.abc import AsyncGenerator
from typing import Any

import pytest

from parley.chat.v1 import chat_pb2
from runtime.errors import NotFound, ParleyError, Unavailable
from services.edge.runs.conversation_feed import ConversationFeed

Item = chat_pb2.WatchConversationResponse | ParleyError
EXPIRED = Unavailable.of("WATCH_EXPIRED", "Come back.")
EXPIRED.domain = "chat.parley"
"""What ends a script for good."""


def events(run_id: str, *seqs: int, end: bool = False) -> chat_pb2.WatchConversationResponse:
    """Returns a batch; with `end` its last event is the run's."""
    found = [chat_pb2.RunEvent(seq=seq, thinking=chat_pb2.Thinking()) for seq in seqs]
    if end:
        found[-1] = chat_pb2.RunEvent(seq=seqs[-1], done=chat_pb2.Done())
    return chat_pb2.WatchConversationResponse(run_id=run_id, events=found)


class Chat:
    """Answers each watch with the next of these scripts, and knows which runs have ended."""

    def __init__(self, *scripts: list[Item]) -> None:
        self.scripts = list(scripts)
        self.cursors: list[tuple[str, int]] = []
        self.rests: dict[str, list[chat_pb2.WatchConversationResponse]] = {}
        self.watched: list[tuple[str, int]] = []
        self.running: set[str] = set()

    def watch(self, run_id: str, after: int) -> AsyncGenerator[Any, None]:
        self.cursors.append((run_id, after))
        return self._play(self.scripts.pop(0))

    def watch_run(self, run_id: str, after: int) -> AsyncGenerator[Any, None]:
        self.watched.append((run_id, after))
        return self._play(list(self.rests[run_id]))

    async def has_ended(self, run_id: str) -> bool:
        if run_id not in self.rests and run_id not in self.running:
            raise NotFound("No such run.")
        return run_id in self.rests

    async def _play(self, script: list[Any]) -> AsyncGenerator[Any, None]:
        for item in script:
            if isinstance(item, ParleyError):
                raise item
            yield item


async def read(chat: Chat, *, run_id: str = "", after_seq: int = 0) -> list[tuple[str, bool]]:
    """Reads until the watch expires: each event as `run:seq`, and whether a client can come back with it."""
    feed = ConversationFeed(
        chat.watch, chat.watch_run, chat.has_ended, patience_s=60, run_id=run_id, after_seq=after_seq
    )
    found: list[tuple[str, bool]] = []

    async def follow() -> None:
        async for batch in feed.batches():
            feed.commit()
            found.extend((f"{batch.run_id}:{event.seq}", feed.is_cursor(batch.run_id)) for event in batch.events)

    with pytest.raises(Unavailable, match="Come back"):
        await follow()
    return found


def names(found: list[tuple[str, bool]]) -> list[str]:
    return [name for name, _ in found]


async def test_runs_follow_one_another_and_all_are_cursors() -> None:
    chat = Chat([events("a", 1, 2, end=True), events("b", 1), events("b", 2, end=True), EXPIRED])
    assert await read(chat) == [("a:1", True), ("a:2", True), ("b:1", True), ("b:2", True)]
    assert chat.cursors == [("", 0)]


async def test_where_runs_overlap_only_the_oldest_is_a_cursor() -> None:
    """Coming back with the younger one would miss the rest of the older."""
    chat = Chat([events("a", 1), events("b", 1), events("a", 2, end=True), events("b", 2), EXPIRED])
    assert await read(chat) == [("a:1", True), ("b:1", False), ("a:2", True), ("b:2", True)]


async def test_it_goes_on_from_the_oldest_run_that_goes_on_and_leaves_out_what_comes_again() -> None:
    chat = Chat(
        [events("a", 1, 2), events("b", 1), Unavailable("Gone.")],
        [events("a", 3, end=True), events("b", 1, 2), events("b", 3, end=True), EXPIRED],
    )
    assert names(await read(chat)) == ["a:1", "a:2", "b:1", "a:3", "b:2", "b:3"]
    assert chat.cursors == [("", 0), ("a", 2)]


async def test_a_younger_run_that_has_ended_does_not_come_again() -> None:
    chat = Chat(
        [events("a", 1), events("b", 1, 2, end=True), Unavailable("Gone.")],
        [events("b", 1, 2, end=True), events("a", 2, end=True), EXPIRED],
    )
    assert names(await read(chat)) == ["a:1", "b:1", "b:2", "a:2"]


async def test_when_all_have_ended_it_goes_on_after_the_last() -> None:
    chat = Chat([events("a", 1, end=True), events("b", 1, end=True), Unavailable("Gone.")], [EXPIRED])
    await read(chat)
    assert chat.cursors == [("", 0), ("b", 1)]


async def test_a_cursor_is_passed_on_and_what_it_covers_left_out() -> None:
    chat = Chat([events("a", 3, 4), events("a", 5, end=True), EXPIRED])
    assert names(await read(chat, run_id="a", after_seq=3)) == ["a:4", "a:5"]
    assert chat.cursors == [("a", 3)]


async def test_a_cursor_of_a_run_that_ended_does_not_hold_back_those_of_later_ones() -> None:
    chat = Chat([events("b", 1), EXPIRED])
    chat.rests["a"] = []
    assert await read(chat, run_id="a", after_seq=9) == [("b:1", True)]
    assert chat.watched == [("a", 9)]


async def test_the_rest_of_a_cursors_run_comes_before_a_later_run() -> None:
    """Whichever of them chat tells first: with the later one as cursor the rest would be missed."""
    chat = Chat([events("b", 1), events("a", 9, 10, end=True), events("b", 2), EXPIRED])
    chat.rests["a"] = [events("a", 9), events("a", 10, end=True)]
    found = await read(chat, run_id="a", after_seq=8)
    assert found == [("a:9", True), ("a:10", True), ("b:1", True), ("b:2", True)]


async def test_a_cursors_run_that_goes_on_stays_the_cursor() -> None:
    chat = Chat([events("b", 1), events("a", 9, end=True), events("b", 2), EXPIRED])
    chat.running.add("a")
    found = await read(chat, run_id="a", after_seq=8)
    assert found == [("b:1", False), ("a:9", True), ("b:2", True)]


async def test_a_cursors_run_that_was_deleted_holds_nothing_back() -> None:
    chat = Chat([events("b", 1), EXPIRED])
    assert await read(chat, run_id="a", after_seq=8) == [("b:1", True)]


async def test_before_the_client_has_been_told_anything_what_is_away_is_told_at_once() -> None:
    away = Unavailable("Come back.")
    away.domain = "data.parley"
    chat = Chat([away])
    assert await read(chat) == []
    assert len(chat.cursors) == 1


async def test_what_is_remembered_is_bounded() -> None:
    script: list[Item] = [events(f"r{number}", 1, end=True) for number in range(1000)]
    chat = Chat(script)
    feed = ConversationFeed(chat.watch, chat.watch_run, chat.has_ended, patience_s=60)
    assert len([batch async for batch in feed.batches()]) == 1000
    assert len(feed._places) <= 201
