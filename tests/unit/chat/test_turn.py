"""How often a finished answer is tried to be stored, and what a run looks like that is fresh."""

from __future__ import annotations

import asyncio
import gc
import weakref
from dataclasses import replace

import pytest

from runtime.errors import ParleyError, ResourceExhausted, Unavailable
from services.chat import keeping
from services.chat.domain import Done
from tests.unit.chat.turns import PACE, Saying, Storing, kinds, lived, turn, until


def said_by(service: str, error: ParleyError) -> ParleyError:
    error.domain = f"{service}.parley"
    return error


@pytest.mark.parametrize(
    ("refusal", "tries", "taken"),
    [
        (ResourceExhausted("The service failed."), 1, False),
        (said_by("data", ResourceExhausted("Busy.")), 2, True),
        (Unavailable("away"), 2, True),
    ],
    ids=["too large for the transport", "data is busy", "data is away"],
)
async def test_an_answer_is_tried_again_unless_it_is_too_large_to_send(
    monkeypatch: pytest.MonkeyPatch, refusal: ParleyError, tries: int, taken: bool
) -> None:
    monkeypatch.setattr(keeping, "_FINISH_PAUSE_S", 0.001)
    data = Storing(refusal)
    run = await lived(turn(Saying(), data))
    assert (data.tries, bool(data.endings)) == (tries, taken)
    assert isinstance(kinds(run.log)[-1], Done)


async def test_the_end_names_the_model_that_answered() -> None:
    data = Storing()
    run = await lived(turn(Saying(), data))
    told = kinds(run.log)[-1]
    assert isinstance(told, Done)
    assert told.model == data.endings[0].model == run.run.response_model == "mini"
    assert run.run.model == "fast"


async def test_an_end_that_is_neither_stored_nor_in_the_tail_is_not_told() -> None:
    """Should its owner lose the run now, the next one would give another end."""
    data = Storing()
    data.refuse = Unavailable("away")
    run = turn(Saying(), data, pace=replace(PACE, finish_patience_s=0))
    run.begin()
    living = asyncio.create_task(run.live())
    await until(lambda: run.log.ended)
    last = run.log.last_seq
    assert last not in [event.seq for event in run.log.after(0)]
    run.log.confirm(last)
    assert run.log.after(0)[-1].seq == last
    data.refuse = None
    await living
    assert data.endings[0].last_seq == last


async def test_a_run_that_has_ended_is_held_by_nobody() -> None:
    """Its log and its prompt would otherwise stay until the garbage collector comes by, which is rare in a process that holds much."""
    data = Storing()
    held = weakref.ref(data)
    gc.disable()
    try:
        await lived(turn(Saying(), data))
        await asyncio.sleep(0)
        del data
        assert held() is None
    finally:
        gc.enable()
