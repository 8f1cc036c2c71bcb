"""What is done to the system in the middle of its work, and undone again."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import os
import signal
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from redis.asyncio import Redis

from deploy.local.addresses import SERVICES
from deploy.local.unit import Service
from tests.chaos import skew

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from random import Random

    from tests.chaos.proxy import Link
    from tests.chaos.system import System

Strike = Callable[["System", "Random"], Awaitable[None]]


@dataclass(frozen=True)
class Fault:
    """Something that goes wrong.

    Attributes:
        name: Of the fault.
        strike: Does it, and returns when all is whole again.
        interrupts_effects: A run may end `interrupted` in the middle of a tool that cannot be called twice.
        interrupts: Any run may end `interrupted`: it has been taken over once already.
        fails: A run may end `failed`.
        longest_pause_s: How long an answer under way may stand still; None: as long as the fault lasts, whatever that is.
        provider: What the provider may do at the first call for a task.
        through_links: It is done to links between services, so all they say must go through them.
    """

    name: str
    strike: Strike
    interrupts_effects: bool = False
    interrupts: bool = False
    fails: bool = False
    longest_pause_s: float | None = None
    provider: Sequence[str] = ()
    through_links: bool = False


async def _nothing(_: System, random: Random) -> None:
    await asyncio.sleep(random.uniform(1, 3))


def _kill(service: str) -> Strike:
    async def strike(system: System, random: Random) -> None:
        name = random.choice(system.stack.instances(service))
        await system.stack.kill(name)
        await system.stack.ready(name)

    return strike


async def _kill_chat_twice(system: System, random: Random) -> None:
    """The second one dies about when it has taken over what the first one left."""
    first, second = random.sample(system.stack.instances("chat"), 2)
    await system.stack.kill(first)
    await asyncio.sleep(random.uniform(6, 13))
    await system.stack.ready(first)
    await system.stack.kill(second)
    await system.stack.ready(second)


async def _kill_all_chats(system: System, _: Random) -> None:
    names = system.stack.instances("chat")
    await asyncio.gather(*(system.stack.kill(name) for name in names))
    await asyncio.gather(*(system.stack.ready(name) for name in names))


def _roll(*services: str) -> Strike:
    async def strike(system: System, _: Random) -> None:
        for service in services:
            await system.stack.roll(service)

    return strike


def _stall(service: str, for_s: float) -> Strike:
    async def strike(system: System, random: Random) -> None:
        pid = system.stack.pid(random.choice(system.stack.instances(service)))
        assert pid is not None
        with _stopped([pid]):
            await asyncio.sleep(for_s)

    return strike


async def _pause_postgres(system: System, _: Random) -> None:
    """Stops the postmaster and all its children, as a frozen machine does."""
    pid = system.stack.pid("postgres")
    assert pid is not None
    with _stopped([pid, *_children(pid)]):
        await asyncio.sleep(10)


def _part(caller: str, callees: Iterable[str], for_s: float, *, all_instances: bool = False) -> Strike:
    """Parts one instance of the caller, or all of them, from the callees."""

    async def strike(system: System, random: Random) -> None:
        name = caller if all_instances else random.choice(system.stack.instances(caller))
        links = [link for callee in callees for link in system.links_of(name, callee)]
        with _parted(links):
            await asyncio.sleep(for_s)

    return strike


def _cut(*pairs: tuple[str, str], times: int = 1) -> Strike:
    async def strike(system: System, random: Random) -> None:
        for _ in range(times):
            for link in [link for caller, callee in pairs for link in system.links_of(caller, callee)]:
                await link.cut()
            await asyncio.sleep(random.uniform(0.3, 1.0))

    return strike


async def _flush_redis(system: System, random: Random) -> None:
    async with Redis.from_url(system.stack.redis_url) as client:
        for _ in range(3):
            await client.flushall()
            await asyncio.sleep(random.uniform(0.3, 1.0))


async def _restart_redis(system: System, _: Random) -> None:
    await system.stack.kill("redis")
    await system.stack.ready("redis")


async def _stop_redis(system: System, _: Random) -> None:
    await system.stack.halt("redis")
    await asyncio.sleep(6)
    await system.stack.resume("redis")


async def _lose_owner_and_redis(system: System, random: Random) -> None:
    """Both places that hold the newest events go at once; what is stored is all there is."""
    name = random.choice(system.stack.instances("chat"))
    await asyncio.gather(system.stack.kill(name), system.stack.kill("redis"))
    await asyncio.gather(system.stack.ready(name), system.stack.ready("redis"))


def _skew(by_s: float) -> Strike:
    """Starts an instance of chat anew with a clock that is wrong, and another time with the right one."""

    async def strike(system: System, random: Random) -> None:
        name = random.choice(system.stack.instances("chat"))
        unit = system.stack.members[name].unit
        assert isinstance(unit, Service)
        right = unit.spec
        await system.stack.halt(name)
        unit.spec = dataclasses.replace(right, env=skew.environment(right.env, by_s))
        await system.stack.resume(name)
        await asyncio.sleep(4)
        other = next(one for one in system.stack.instances("chat") if one != name)
        await system.stack.kill(other)  # what it leaves is taken over by the one whose clock is wrong
        await system.stack.ready(other)
        await asyncio.sleep(8)
        await system.stack.halt(name)
        unit.spec = right
        await system.stack.resume(name)

    return strike


_TAKEOVER_S = 15.0

FAULTS: dict[str, Fault] = {
    fault.name: fault
    for fault in (
        Fault("none", _nothing, longest_pause_s=3),
        Fault("kill-chat", _kill("chat"), interrupts_effects=True, longest_pause_s=_TAKEOVER_S),
        Fault("kill-chat-twice", _kill_chat_twice, interrupts_effects=True, interrupts=True),
        Fault("kill-all-chats", _kill_all_chats, interrupts_effects=True, longest_pause_s=_TAKEOVER_S),
        Fault("kill-gateway", _kill("gateway"), longest_pause_s=_TAKEOVER_S),
        Fault("kill-data", _kill("data"), longest_pause_s=_TAKEOVER_S),
        Fault("kill-auth", _kill("auth"), longest_pause_s=_TAKEOVER_S),
        Fault("kill-edge", _kill("edge"), longest_pause_s=_TAKEOVER_S),
        Fault("roll-chat", _roll("chat"), longest_pause_s=_TAKEOVER_S),
        Fault("roll-all", _roll(*reversed(SERVICES)), longest_pause_s=_TAKEOVER_S),
        Fault("stall-chat", _stall("chat", 20), interrupts_effects=True, longest_pause_s=_TAKEOVER_S),
        Fault("stall-chat-briefly", _stall("chat", 4), longest_pause_s=_TAKEOVER_S),
        Fault("stall-data", _stall("data", 5), longest_pause_s=_TAKEOVER_S),
        Fault("stall-gateway", _stall("gateway", 5), fails=True),
        Fault("pause-postgres", _pause_postgres),
        Fault("part-postgres", _part("data", ["postgres"], 10, all_instances=True)),
        Fault("cut-postgres", _cut(("data", "postgres"), ("auth", "postgres"), times=3), longest_pause_s=_TAKEOVER_S),
        Fault("part-chat-from-data", _part("chat", ["data"], 14), interrupts_effects=True, through_links=True),
        Fault("isolate-chat", _part("chat", ["data", "redis"], 14), interrupts_effects=True, through_links=True),
        Fault("part-chat-from-redis", _part("chat", ["redis"], 6), longest_pause_s=_TAKEOVER_S),
        Fault("part-chat-from-gateway", _part("chat", ["gateway"], 2), longest_pause_s=_TAKEOVER_S, through_links=True),
        Fault("part-edge-from-chat", _part("edge", ["chat"], 14), longest_pause_s=_TAKEOVER_S, through_links=True),
        Fault(
            "cut-services",
            _cut(("chat", "gateway"), ("chat", "data"), ("edge", "chat"), ("edge", "data")),
            longest_pause_s=_TAKEOVER_S,
            through_links=True,
        ),
        Fault("flush-redis", _flush_redis, longest_pause_s=3),
        Fault("restart-redis", _restart_redis, longest_pause_s=5),
        Fault("stop-redis", _stop_redis, longest_pause_s=8),
        Fault("lose-owner-and-redis", _lose_owner_and_redis, interrupts_effects=True, longest_pause_s=_TAKEOVER_S),
        Fault("provider", _nothing, fails=True, provider=("429", "500", "cut:0", "cut:5", "stall:0", "stall:5")),
        Fault("clock-ahead", _skew(20), interrupts_effects=True),
        Fault("clock-behind", _skew(-4), interrupts_effects=True),
    )
}
"""Everything that can go wrong here, by name."""

SHORT = ("kill-chat", "roll-chat", "lose-owner-and-redis", "pause-postgres")
"""What `make test` goes through."""


@contextlib.contextmanager
def _stopped(pids: list[int]) -> Iterator[None]:
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        for pid in reversed(pids):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)


@contextlib.contextmanager
def _parted(links: list[Link]) -> Iterator[None]:
    for link in links:
        link.part()
    try:
        yield
    finally:
        for link in links:
            link.mend()


def _children(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
