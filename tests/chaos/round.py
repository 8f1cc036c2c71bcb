"""One round: people at work, a fault in the middle of it, and the question whether everything held."""

from __future__ import annotations

import asyncio
from collections import Counter
from dataclasses import dataclass
from random import Random
from typing import TYPE_CHECKING

import asyncpg

from tests.chaos import durations, effects, invariants
from tests.chaos.history import History, now
from tests.chaos.traffic import User

if TYPE_CHECKING:
    from tests.chaos.faults import Fault
    from tests.chaos.invariants import Violation
    from tests.chaos.system import System

_AFTER_S = 2.0
_USERS_AT_FULL_SPEED = 6
_PATIENCE_S = 150.0


@dataclass(frozen=True)
class Outcome:
    """What a round showed.

    Attributes:
        fault: What went wrong.
        seed: Decides everything that is decided.
        history: What happened.
        violations: Where a rule was broken.
        pauses_s: How long each answer that was under way when the fault came stood still.
        stops_s: How long each stop took that the fault was not in the way of.
    """

    fault: str
    seed: str
    history: History
    violations: list[Violation]
    pauses_s: list[float]
    stops_s: list[float]

    @property
    def statuses(self) -> Counter[str]:
        """How the runs ended."""
        return Counter(str(run["status"]) for run in self.history.stored.runs.values())


async def play(system: System, fault: Fault, seed: str, *, users: int = 4) -> Outcome:
    """Plays one round.

    Args:
        system: Parley, whole.
        fault: What goes wrong.
        seed: Decides everything that is decided.
        users: How many people.
    """
    random = Random(seed)
    history = History(
        interrupts=fault.interrupts,
        interrupts_effects=fault.interrupts_effects,
        fails=fault.fails,
        longest_pause_s=fault.longest_pause_s,
    )
    edges = system.stack.edge_urls
    slower = max(1, users // _USERS_AT_FULL_SPEED)
    people = [
        User(number, seed, edges, history, faults=fault.provider, slower=slower) for number in range(1, users + 1)
    ]
    calls, effects_before = len(system.provider.calls), len(effects.effects(system.ledger))
    await asyncio.gather(*(person.arrive() for person in people))
    enough = asyncio.Event()
    living = [asyncio.create_task(person.live(enough)) for person in people]
    try:
        await asyncio.sleep(random.uniform(1.0, 2.5))
        begun = now()
        await fault.strike(system, random)
        history.hit = (begun, now())
        await asyncio.sleep(_AFTER_S)
    finally:
        enough.set()
        _, late = await asyncio.wait(living, timeout=_PATIENCE_S * slower)
        for task in late:
            task.cancel()
            history.unserved.append(f"{task.get_name()} has not come to an end")
        await asyncio.gather(*living, return_exceptions=True)
    for task in living:
        if not task.cancelled() and (error := task.exception()) is not None:
            raise error
    await asyncio.gather(*(person.say_farewell() for person in people))
    await asyncio.gather(*(person.leave() for person in people))
    await asyncio.gather(*(person.look(history) for person in people))
    history.stored.unfinished = await _unfinished(system)
    history.calls = system.provider.calls[calls:]
    history.effects = effects.effects(system.ledger)[effects_before:]
    return Outcome(
        fault.name,
        seed,
        history,
        invariants.check(history),
        durations.pauses(history),
        durations.stops_s(history),
    )


async def _unfinished(system: System) -> int:
    connection = await asyncpg.connect(system.stack.database_url)
    try:
        found: int = await connection.fetchval("SELECT count(*) FROM chat.run WHERE ended_at IS NULL")
        return found
    finally:
        await connection.close()
