"""What a run has used is counted once, however often it changes hands, and estimated only where nobody has said it."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from services.chat.domain import (
    Kind,
    Part,
    Progress,
    RunStarted,
    Text,
    Thinking,
    ToolResult,
    ToolUse,
    Usage,
    UserMessage,
)
from services.chat.log import RunLog
from services.chat.ports import Begun, ClaimKind
from tests.unit.chat.turns import (
    BEGUN,
    STOP,
    Doing,
    Saying,
    Storing,
    box,
    calls,
    kinds,
    lived,
    result,
    text,
    turn,
    until,
    use,
)

FIRST, SECOND = Usage(10, 5, cost_usd=0.25), Usage(20, 7, cost_usd=0.5)
BOTH = Usage(30, 12, cost_usd=0.75)
LAPSED = replace(BEGUN, fence=2, claim=ClaimKind.LAPSED, takeovers=1, last_seq=6)
STEP: tuple[Kind, ...] = (Text("See: ", 0), ToolUse("t0", "act", "{}"), ToolResult("t0", "act", "done"))
STORED: tuple[Part, ...] = (text("See: "), use("t0"), result("t0", "done"))


def told(*said: Kind) -> RunLog:
    """Returns the log of an owner that is gone."""
    log = RunLog()
    for kind in (RunStarted("c", "m", "u", "fast"), UserMessage("u", "Hello?", BEGUN.asked_at), Thinking(), *said):
        log.append(kind)
    return log


async def used(begun: Begun, *said: Kind) -> Usage:
    """Has a run taken up and brought to its end by one more model call; returns what it says was used."""
    run = await lived(turn(Saying(("Thus.", STOP)), Storing(), begun=begun, log=told(*said), tools=box(Doing())))
    return next(kind for kind in kinds(run.log) if isinstance(kind, Usage))


async def test_what_a_finished_step_has_used_is_stored_with_it() -> None:
    hold: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    data = Storing()
    run = turn(Saying((calls(("act", "{}")),), (hold,)), data, tools=box(Doing(name="act", read_only=True)))
    run.begin()
    living = asyncio.create_task(run.live())
    await until(lambda: data.usage == FIRST)
    hold.set_result(None)
    run.supersede()
    await living


async def test_what_is_stored_of_a_dead_owners_steps_is_neither_estimated_nor_counted_twice() -> None:
    assert await used(replace(LAPSED, answer=STORED, usage=FIRST), *STEP) == BOTH


async def test_a_step_that_the_log_tells_beyond_what_is_stored_is_estimated() -> None:
    usage = await used(replace(LAPSED, answer=(), usage=SECOND), *STEP)
    assert (usage.estimated, usage.cost_usd) == (True, None)
    assert (usage.input_tokens, usage.output_tokens) > (40, 14)


@pytest.mark.parametrize("claim", [ClaimKind.LAPSED, ClaimKind.RELEASED])
async def test_a_call_that_was_cut_off_with_its_owner_is_estimated_beside_what_is_known(claim: ClaimKind) -> None:
    begun = replace(LAPSED, claim=claim, answer=STORED, usage=FIRST)
    usage = await used(begun, *STEP, Progress(2, "Reading"), Text("Th", 5))
    assert (usage.estimated, usage.output_tokens) == (True, BOTH.output_tokens + 1)


async def test_a_try_that_failed_was_counted_with_its_failure() -> None:
    begun = replace(LAPSED, claim=ClaimKind.QUEUED, tries=2, max_tries=3, answer=(text("Th"),), usage=FIRST)
    assert await used(begun, Text("Th", 0)) == BOTH


@pytest.mark.parametrize("claim", [None, ClaimKind.LAPSED])
async def test_the_answer_that_is_gone_on_with_was_paid_by_its_own_run(claim: ClaimKind | None) -> None:
    """Also where its tools were called, and where an owner dies before it has written anything."""
    begun = replace(BEGUN, fence=2, claim=claim, takeovers=1, answer=STORED)
    assert await used(begun) == SECOND
