"""A run that leaves its owner: lost to another, given back, put back into the queue."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest

from runtime.errors import InvalidArgument, NotFound, Unavailable
from services.chat.domain import Done, RunMoved, RunStatus
from services.chat.ports import ClaimKind
from services.chat.tools.tool import ToolContext
from tests.unit.chat.turns import (
    BEGUN,
    PACE,
    STALE,
    Doing,
    Saying,
    Storing,
    box,
    calls,
    kinds,
    lived,
    names,
    result,
    text,
    turn,
    until,
    use,
)

SELDOM = replace(PACE, checkpoint_every_s=60)


async def test_a_superseded_owner_stores_nothing_and_sends_its_watchers_elsewhere() -> None:
    gate: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    gateway, data = Saying(("Hel", gate)), Storing()
    run = turn(gateway, data, pace=SELDOM)
    run.begin()
    living = asyncio.create_task(run.live())
    await until(lambda: run.log.text_chars == 3)
    run.supersede()
    await living
    assert (gateway.closed, data.tries) == (1, 0)
    with pytest.raises(RunMoved):
        await anext(run.log.follow(run.log.last_seq))


class Broken(Storing):
    """Fails as nobody foresaw."""

    async def release_run(self, *_: Any, **__: Any) -> None:
        raise ZeroDivisionError


async def test_nobody_waits_here_for_a_run_that_could_not_be_given_back() -> None:
    gate: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    run = turn(Saying(("Hel", gate)), Broken(), pace=SELDOM)
    run.begin()
    living = asyncio.create_task(run.live())
    await until(lambda: run.log.text_chars == 3)
    watching = asyncio.ensure_future(anext(run.log.follow(run.log.last_seq)))
    await run.hand_over()
    with pytest.raises(ZeroDivisionError):
        await living
    with pytest.raises(RunMoved):
        async with asyncio.timeout(5):
            await watching


async def test_nobody_waits_for_a_run_whose_life_is_cut_short() -> None:
    gate: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    run = turn(Saying(("Hel", gate)), Storing(), pace=SELDOM)
    run.begin()
    living = asyncio.create_task(run.live())
    await until(lambda: run.log.text_chars == 3)
    watching = asyncio.ensure_future(anext(run.log.follow(run.log.last_seq)))
    living.cancel()
    with pytest.raises(RunMoved):
        async with asyncio.timeout(5):
            await watching


@pytest.mark.parametrize("code", ["STALE_FENCE", "RUN_ENDED"])
async def test_an_owner_that_learns_it_has_lost_its_run_lets_go(code: str) -> None:
    data = Storing()
    data.refuse = type(STALE).of(code, "words")
    gate: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    gateway = Saying(("Hel", gate))
    run = await lived(turn(gateway, data))
    assert (gateway.closed, data.endings, run.log.ended) == (1, [], False)


async def test_an_owner_that_learns_it_while_it_ends_tells_no_end() -> None:
    data = Storing(STALE)
    run = await lived(turn(Saying(), data, pace=SELDOM))
    assert "Done" not in names(run.log)
    with pytest.raises(RunMoved):
        async for _ in run.log.follow(run.log.last_seq):
            pass


async def test_a_run_whose_conversation_is_gone_stops() -> None:
    data = Storing()
    data.refuse = NotFound("gone")
    gate: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    run = await lived(turn(Saying(("Hel", gate)), data))
    assert run.run.status is RunStatus.CANCELLED
    assert isinstance(kinds(run.log)[-1], Done)


async def test_a_wish_to_stop_that_is_stored_is_heard_at_the_next_checkpoint() -> None:
    data = Storing()
    data.cancel_requested = True
    gate: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    run = await lived(turn(Saying(("Hel", gate)), data))
    assert run.run.status is RunStatus.CANCELLED


async def test_handing_over_flushes_stores_gives_back_and_sends_the_watchers_elsewhere_in_this_order() -> None:
    gate: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    gateway, data = Saying(("Hel", gate)), Storing()
    run = turn(gateway, data, pace=SELDOM)
    run.begin()
    living = asyncio.create_task(run.live())
    await until(lambda: run.log.text_chars == 3)

    async def flush() -> None:
        assert gateway.closed == 1
        data.history.append("flush")

    await run.hand_over(flush)
    await living
    assert data.history == ["flush", "release"]
    assert (data.stored, data.endings, run.log.ended) == ((text("Hel"),), [], False)
    with pytest.raises(RunMoved):
        await anext(run.log.follow(run.log.last_seq))


async def test_a_tool_that_is_having_its_effect_is_waited_for_before_its_run_is_handed_over() -> None:
    gate: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    async def slowly(_: Mapping[str, Any], __: ToolContext) -> str:
        await gate
        return "done"

    data, act = Storing(), Doing(does=slowly)
    never: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    run = turn(Saying((calls(("act", "{}")),), (never,)), data, tools=box(act))
    run.begin()
    living = asyncio.create_task(run.live())
    await until(lambda: bool(act.called))
    handing = asyncio.create_task(run.hand_over())
    await asyncio.sleep(0)
    gate.set_result(None)
    await handing
    await living
    assert data.released
    assert data.stored[:2] == (use("t0"), result("t0", "done"))


async def test_a_run_that_has_just_ended_is_not_handed_over() -> None:
    run = turn(Saying(), data := Storing())
    run.begin()
    living = asyncio.create_task(run.live())
    await until(lambda: run.log.ended)
    await run.hand_over()
    await living
    assert (data.released, len(data.endings)) == (False, 1)


@pytest.mark.parametrize(("tries", "delay_s"), [(1, 1.0), (2, 2.0)])
async def test_a_failed_try_goes_back_into_the_queue_with_a_pause_that_doubles(tries: int, delay_s: float) -> None:
    data = Storing()
    begun = replace(BEGUN, claim=ClaimKind.QUEUED, tries=tries, max_tries=3)
    run = await lived(turn(Saying(("Hel", Unavailable.of("STREAM_STALLED", "words"))), data, begun=begun))
    failed, pause_s = data.retries[0]
    assert (failed.error_reason, pause_s, failed.last_seq) == ("STREAM_STALLED", delay_s, 4)
    assert (data.endings, run.log.ended, run.run.status) == ([], False, RunStatus.QUEUED)
    with pytest.raises(RunMoved):
        await anext(run.log.follow(run.log.last_seq))


async def test_the_last_try_fails_the_run() -> None:
    data = Storing()
    begun = replace(BEGUN, claim=ClaimKind.QUEUED, tries=3, max_tries=3)
    await lived(turn(Saying((Unavailable.of("STREAM_STALLED", "words"),)), data, begun=begun))
    assert (data.retries, data.endings[0].status) == ([], RunStatus.FAILED)


async def test_what_will_not_get_better_is_not_tried_again() -> None:
    data = Storing()
    begun = replace(BEGUN, claim=ClaimKind.QUEUED, tries=1, max_tries=3)
    await lived(turn(Saying((InvalidArgument.of("CONTEXT_TOO_LONG", "words"),)), data, begun=begun))
    assert (data.retries, data.endings[0].error_reason) == ([], "CONTEXT_TOO_LONG")
