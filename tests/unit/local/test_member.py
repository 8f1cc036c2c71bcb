"""A part that ends is started again after a growing pause, as Kubernetes would; one that is stopped is not."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from deploy.local.member import Member, State
from deploy.local.process import Process
from deploy.local.unit import ProcessSpec, Service, StartError

CAT = ("/bin/sh", "-c", "exec sleep 60")


async def healthy(address: str) -> None:
    """Passes at once."""


async def unhealthy(address: str) -> None:
    await asyncio.Event().wait()


def service(
    tmp_path: Path, argv: tuple[str, ...] = CAT, check: Callable[[str], object] = healthy, drain_s: float = 5
) -> Service:
    spec = ProcessSpec(name="part", argv=argv, env=dict(os.environ), address="", check=check, drain_s=drain_s)  # type: ignore[arg-type]
    return Service(spec, tmp_path / "part.log")


class Pauses:
    """A clock that stands still, and pauses that take no time but are counted; after `enough` they last for ever."""

    def __init__(self, enough: int) -> None:
        self.taken: list[float] = []
        self.now = 0.0
        self._begun = asyncio.Semaphore(0)
        self._enough = enough

    async def sleep(self, seconds: float) -> None:
        self.taken.append(seconds)
        self._begun.release()
        if len(self.taken) == self._enough:
            await asyncio.Event().wait()

    async def next(self) -> None:
        """Returns when one more pause has begun."""
        await self._begun.acquire()


async def test_the_pause_doubles_up_to_thirty_seconds(tmp_path: Path) -> None:
    pauses = Pauses(7)
    member = Member(
        service(tmp_path, ("/bin/sh", "-c", "exit 1")), lambda _: None, clock=lambda: 0.0, sleep=pauses.sleep
    )
    unit = member.unit
    assert isinstance(unit, Service)
    # The first start succeeds, all later ones end at once.
    unit.process = Process.spawn(CAT)
    member._watch = asyncio.create_task(member._keep_alive())
    unit.process.send(signal.SIGKILL)
    for _ in range(7):
        await pauses.next()
    await member.stop()
    assert pauses.taken == [1, 2, 4, 8, 16, 30, 30]


async def test_a_long_healthy_life_forgives_earlier_ends(tmp_path: Path) -> None:
    pauses = Pauses(4)
    member = Member(service(tmp_path), lambda _: None, clock=lambda: pauses.now, sleep=pauses.sleep)
    await member.start()
    for life_s in (0.0, 0.0, 61.0, 0.0):
        await member.ready()
        pauses.now += life_s
        await member.kill()
        await pauses.next()
    await member.stop()
    assert pauses.taken == [1, 2, 1, 2]


async def test_whatever_a_restart_meets_it_is_tried_again(tmp_path: Path) -> None:
    """An error nobody foresaw, after the process was started: it is told by its class, the process ends, the next try follows."""
    pauses, checks, told = Pauses(3), 0, []

    async def check(address: str) -> None:
        nonlocal checks
        checks += 1
        if checks == 2:
            raise LookupError("secret")

    member = Member(
        service(tmp_path, check=check), lambda changed: told.append((changed.state, changed.detail)), sleep=pauses.sleep
    )
    await member.start()
    await member.kill()
    await pauses.next()
    await pauses.next()
    await member.ready()
    await member.stop()
    assert checks == 3
    assert (State.RESTARTING, "cannot be started (LookupError); starts again in 2 s") in told


async def test_one_that_ends_before_it_is_healthy_is_told_with_the_end_of_its_log(tmp_path: Path) -> None:
    member = Member(service(tmp_path, ("/bin/sh", "-c", "echo no such database; exit 7"), unhealthy), lambda _: None)
    with pytest.raises(StartError, match=r"part ended with status 7.*\n(.|\n)*no such database"):
        await member.start()
    assert member.state is State.FAILED


async def test_one_that_is_stopped_stays_so(tmp_path: Path) -> None:
    states: list[State] = []
    member = Member(service(tmp_path), lambda changed: states.append(changed.state))
    await member.start()
    process = member.unit.process
    assert process is not None
    await member.stop()
    assert process.returncode == -signal.SIGTERM
    assert states == [State.STARTING, State.READY, State.STOPPING, State.STOPPED]


async def test_one_that_does_not_drain_in_time_is_killed(tmp_path: Path) -> None:
    """The shell says when its trap stands, so that the signal cannot come too early."""
    said = tmp_path / "part.log"
    member = Member(
        service(tmp_path, ("/bin/sh", "-c", "trap '' TERM; echo deaf; while :; do sleep 1; done"), drain_s=0.1),
        lambda _: None,
    )
    await member.start()
    while "deaf" not in said.read_text():  # noqa: ASYNC110 - another process says it
        await asyncio.sleep(0.01)
    process = member.unit.process
    await member.stop()
    assert process is not None
    assert process.returncode == -signal.SIGKILL


async def test_a_hurried_stop_overtakes_one_that_waits(tmp_path: Path) -> None:
    """What a second Ctrl-C does: the first stop is given up and the process gets no more grace."""
    member = Member(
        service(tmp_path, ("/bin/sh", "-c", "trap '' TERM; while :; do sleep 1; done"), drain_s=600), lambda _: None
    )
    await member.start()
    patient = asyncio.create_task(member.stop())
    await asyncio.sleep(0)
    patient.cancel()
    await asyncio.wait({patient})
    await member.stop(hurry=True)
    assert member.state is State.STOPPED
    process = member.unit.process
    assert process is not None
    assert process.returncode is not None


async def test_a_restart_is_in_order_and_makes_a_new_process(tmp_path: Path) -> None:
    member = Member(service(tmp_path), lambda _: None)
    await member.start()
    first = member.unit.process
    await member.stop()
    await member.start()
    second = member.unit.process
    assert first is not None
    assert second is not None
    assert first.pid != second.pid
    await member.stop()
