"""A gateway that dies costs at most a step, which is asked for again."""

from __future__ import annotations

import pytest

from runtime.errors import Unavailable
from services.chat import steps
from services.chat.domain import Reset, RunStatus, Usage
from tests.unit.chat.turns import STOP, Doing, Saying, Storing, box, calls, kinds, lived, names, result, text, turn, use

AWAY = Unavailable("The service is not reachable right now.")


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(steps, "_GATEWAY_PAUSES_S", (0.001,) * 5)


async def test_a_gateway_that_dies_in_mid_answer_is_asked_again_after_a_reset() -> None:
    gateway = Saying(("Hel", AWAY), ("Good day.", STOP))
    data = Storing()
    run = await lived(turn(gateway, data))
    assert Reset(1, 0) in kinds(run.log)
    assert (run.run.status, data.stored) == (RunStatus.COMPLETED, (text("Good day."),))
    usage = next(kind for kind in kinds(run.log) if isinstance(kind, Usage))
    assert usage.estimated
    assert usage.output_tokens > 7


async def test_what_a_dead_gateway_wrote_stays_until_there_is_something_in_its_place() -> None:
    data = Storing()
    run = await lived(turn(Saying(("Hel", AWAY), *[(AWAY,)] * 6), data))
    assert "Reset" not in names(run.log)
    assert (run.run.error_reason, data.stored) == ("UNAVAILABLE", (text("Hel"),))


async def test_a_rolling_deploy_of_gateways_may_cut_an_answer_more_than_once_but_not_for_ever() -> None:
    data = Storing()
    run = await lived(turn(Saying(("Hel", AWAY), ("He", AWAY), ("H", AWAY), ("Good day.", STOP)), data))
    assert (run.run.status, data.stored) == (RunStatus.COMPLETED, (text("Good day."),))
    run = await lived(turn(Saying(*[("Hel", AWAY)] * 4, ("Good day.", STOP)), Storing()))
    assert (run.run.status, run.run.error_reason) == (RunStatus.FAILED, "UNAVAILABLE")


async def test_calls_alone_take_the_place_of_what_a_dead_gateway_wrote() -> None:
    data = Storing()
    gateway = Saying(("Hel", AWAY), (calls(("act", "{}")),), ("Done.", STOP))
    await lived(turn(gateway, data, tools=box(Doing())))
    assert data.stored == (use("t0"), result("t0", "done"), text("Done."))


async def test_a_stream_that_ends_without_its_end_is_asked_for_again() -> None:
    run = await lived(turn(Saying(("Hel",), ("Good day.", STOP)), Storing()))
    assert Reset(1, 0) in kinds(run.log)


async def test_finished_steps_are_not_done_again() -> None:
    act, data = Doing(), Storing()
    gateway = Saying(("See: ", calls(("act", "{}"))), ("So", AWAY), ("Thus.", STOP))
    run = await lived(turn(gateway, data, tools=box(act)))
    assert len(act.called) == 1
    assert Reset(2, 5) in kinds(run.log)
    assert data.stored == (text("See: "), use("t0"), result("t0", "done"), text("Thus."))


async def test_a_gateway_that_dies_unseen_is_asked_again_silently() -> None:
    gateway = Saying((AWAY,), (AWAY,), ("Hello", STOP))
    run = await lived(turn(gateway, Storing()))
    assert "Reset" not in names(run.log)
    assert (run.run.status, len(gateway.calls)) == (RunStatus.COMPLETED, 3)
