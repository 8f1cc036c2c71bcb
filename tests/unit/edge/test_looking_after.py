"""One timer looks after all streams: what it does for one is no other's affair."""

import asyncio

from runtime.context import credential
from services.edge.streams import Ending, Streams


class Placed:
    """A place that is taken; `looked` is set whenever it is looked after."""

    endless = False

    def __init__(self, *, fails: bool = False) -> None:
        self.fails = fails
        self.looked = asyncio.Event()
        self.left: list[Ending] = []
        self.credentials: set[str] = set()

    def leave(self, why: Ending) -> None:
        self.left.append(why)

    def look(self, now: float) -> None:
        self.looked.set()
        self.credentials.add(credential.get())
        if self.fails:
            raise RuntimeError


def streams() -> Streams:
    return Streams(limit=10, heartbeat_s=0.01, stalled_reader_s=60)


async def test_one_whose_turn_fails_ends_and_the_others_are_looked_after() -> None:
    registry, failing, other = streams(), Placed(fails=True), Placed()
    registry.take(failing)
    registry.take(other)
    for _ in range(3):
        await other.looked.wait()
        other.looked.clear()
    assert failing.left[0] == "broken"
    assert other.left == []
    for stream in (failing, other):
        registry.give_back(stream)


async def test_who_came_first_is_not_the_caller_of_all_that_follow() -> None:
    registry, first, second = streams(), Placed(), Placed()
    token = credential.set("of the first")
    registry.take(first)
    credential.reset(token)
    registry.take(second)
    for _ in range(3):
        await second.looked.wait()
        second.looked.clear()
    assert first.credentials | second.credentials == {""}
    for stream in (first, second):
        registry.give_back(stream)
