"""A run's events go on when the instance that gave them goes away: each once, in order, and not for ever."""

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Sequence
from typing import Any

import pytest

from parley.chat.v1 import chat_pb2
from runtime.errors import Cancelled, NotFound, OutOfRange, ParleyError, Unavailable
from services.edge.runs.reattach import RunFeed

RUN = "r"
Item = chat_pb2.WatchRunResponse | ParleyError


def events(*seqs: int, end: bool = False) -> chat_pb2.WatchRunResponse:
    """Returns a batch; with `end` its last event is the run's."""
    found = [chat_pb2.RunEvent(seq=seq, thinking=chat_pb2.Thinking()) for seq in seqs]
    if end:
        found[-1] = chat_pb2.RunEvent(seq=seqs[-1], done=chat_pb2.Done())
    return chat_pb2.WatchRunResponse(run_id=RUN, events=found)


def gone(reason: str = "UNAVAILABLE", *, said_by: str | None = None) -> ParleyError:
    """Returns what a call breaks with; `said_by` is the service that says so, None for the transport."""
    error = Unavailable.of(reason, "Gone.")
    error.domain = said_by
    return error


class Chat:
    """Answers each call with the next of these scripts; `calls` are the positions asked for, None for a start."""

    def __init__(self, *scripts: Sequence[Item]) -> None:
        self.scripts = list(scripts)
        self.calls: list[tuple[str, int] | None] = []
        self.closed = 0
        self.thrice = asyncio.Event()

    def start(self) -> AsyncGenerator[Any, None]:
        self.calls.append(None)
        return self._play()

    def watch(self, run_id: str, after: int) -> AsyncGenerator[Any, None]:
        self.calls.append((run_id, after))
        if len(self.calls) == 3:
            self.thrice.set()
        return self._play()

    async def _play(self) -> AsyncGenerator[Any, None]:
        try:
            for item in self.scripts.pop(0):
                if isinstance(item, ParleyError):
                    raise item
                yield item
        finally:
            self.closed += 1


def feed(chat: Chat, *, patience_s: float = 60, repeatable: bool = False) -> RunFeed:
    return RunFeed(chat.start, chat.watch, patience_s=patience_s, repeatable=repeatable)


async def read(source: RunFeed) -> list[int]:
    """Reads to the end as a stream does: the first batch commits."""
    seqs = []
    async for batch in source.batches():
        source.commit()
        seqs += [event.seq for event in batch.events]
    return seqs


@pytest.mark.parametrize("error", [gone(), gone("RUN_MOVED"), gone("DRAINING"), Cancelled("Gone.")])
async def test_it_goes_on_after_the_last_event(error: ParleyError) -> None:
    chat = Chat([events(1, 2), events(3), error], [events(4, 5, end=True)])
    assert await read(feed(chat)) == [1, 2, 3, 4, 5]
    assert chat.calls == [None, (RUN, 3)]


async def test_what_comes_again_is_left_out() -> None:
    chat = Chat([events(1, 2, 3), gone()], [events(1, 2), events(3, 4), events(5, end=True)])
    assert await read(feed(chat)) == [1, 2, 3, 4, 5]


async def test_it_tries_again_while_nobody_is_there() -> None:
    chat = Chat([events(1), gone()], [gone()], [gone()], [events(2, end=True)])
    assert await read(feed(chat)) == [1, 2]


async def test_it_gives_up_after_its_patience() -> None:
    chat = Chat([events(1), gone()], *[[gone()]] * 50)
    source = feed(chat, patience_s=0.1)
    with pytest.raises(Unavailable):
        await read(source)
    assert len(chat.calls) < 50


async def test_each_gap_has_its_own_patience() -> None:
    """What comes in between proves that the run is well."""
    scripts: list[list[Item]] = [[events(seq), gone()] for seq in range(1, 8)]
    chat = Chat(*scripts, [events(8, end=True)])
    assert await read(feed(chat, patience_s=0.12)) == list(range(1, 9))


async def test_a_call_that_breaks_after_the_end_is_not_made_again() -> None:
    chat = Chat([events(1, 2, end=True), gone()])
    assert await read(feed(chat)) == [1, 2]
    assert len(chat.calls) == 1


@pytest.mark.parametrize("error", [NotFound("None."), OutOfRange("Ahead.")])
async def test_what_is_no_loss_of_an_instance_ends_it(error: ParleyError) -> None:
    chat = Chat([events(1), gone()], [error])
    with pytest.raises(type(error)):
        await read(feed(chat))


async def test_before_the_client_has_been_told_anything_what_is_away_is_told_at_once() -> None:
    chat = Chat([gone()])
    with pytest.raises(Unavailable):
        await read(feed(chat))
    assert len(chat.calls) == 1


async def test_what_may_be_repeated_is_when_nobody_can_be_reached() -> None:
    chat = Chat([gone()], [gone()], [events(1, end=True)])
    assert await read(feed(chat, repeatable=True)) == [1]


async def test_what_a_service_says_is_away_is_told_at_once() -> None:
    chat = Chat([gone(said_by="data.parley")])
    with pytest.raises(Unavailable):
        await read(feed(chat, repeatable=True))
    assert len(chat.calls) == 1


async def test_an_instance_that_is_about_to_stop_is_passed_over() -> None:
    """It has begun nothing, so that nothing is begun twice."""
    chat = Chat([gone("DRAINING")], [gone("DRAINING")], [events(1, end=True)])
    assert await read(feed(chat)) == [1]
    assert chat.calls == [None, None, None]


async def test_a_watch_of_whom_the_client_has_been_told_goes_on_without_an_event() -> None:
    chat = Chat([gone()], [events(8, end=True)])
    source = RunFeed(lambda: chat.watch(RUN, 7), chat.watch, patience_s=60, repeatable=True, run_id=RUN, after_seq=7)
    source.commit()
    assert await read(source) == [8]
    assert chat.calls == [(RUN, 7), (RUN, 7)]


async def test_who_leaves_while_it_looks_for_another_ends_it() -> None:
    chat = Chat([events(1), gone()], *[[gone()]] * 100)
    task = asyncio.create_task(read(feed(chat)))
    await chat.thrice.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_leaving_closes_the_call() -> None:
    chat = Chat([events(1), events(2)])
    async with contextlib.aclosing(feed(chat).batches()) as batches:
        await anext(batches)
    assert chat.closed == 1
