"""A run that changes hands: what its new owner makes of what it finds."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any

import pytest

from services.chat.answer import GOING_ON
from services.chat.asking import Role
from services.chat.domain import (
    Done,
    Event,
    Failed,
    Kind,
    Part,
    PartKind,
    Progress,
    Reset,
    RunStarted,
    RunStatus,
    Text,
    Thinking,
    ToolResult,
    ToolUse,
    Usage,
    UserMessage,
)
from services.chat.log import RunLog
from services.chat.ports import Begun, ClaimKind
from services.chat.prompt import UNKNOWN_OUTCOME
from tests.unit.chat.turns import (
    BEGUN,
    PACE,
    STOP,
    Doing,
    Saying,
    Storing,
    box,
    calls,
    events,
    kinds,
    lived,
    names,
    result,
    text,
    turn,
    until,
    use,
)

LAPSED = replace(BEGUN, fence=2, claim=ClaimKind.LAPSED, takeovers=1)
RELEASED = replace(BEGUN, fence=2, claim=ClaimKind.RELEASED)
AGAIN = replace(BEGUN, fence=2, claim=ClaimKind.QUEUED, tries=2, max_tries=3)
SELDOM = replace(PACE, checkpoint_every_s=60)
OPENING: tuple[Kind, ...] = (RunStarted("c", "m", "u", "fast"), UserMessage("u", "Hello?", BEGUN.asked_at), Thinking())
CALLED: tuple[Kind, ...] = (Text("See: ", 0), ToolUse("t0", "act", "{}"))
ANSWERED: tuple[Kind, ...] = (*CALLED, ToolResult("t0", "act", "done"))


def told(*said: Kind) -> RunLog:
    """Returns a log as an owner before has left it."""
    log = RunLog()
    for kind in (*OPENING, *said):
        log.append(kind)
    return log


async def test_a_step_of_which_nothing_was_visible_is_done_silently() -> None:
    data = Storing()
    run = await lived(turn(Saying(), data, begun=LAPSED, log=told()))
    assert names(run.log) == ["RunStarted", "UserMessage", "Thinking", "Text", "Usage", "Done"]
    assert data.endings[0].fence == 2


@pytest.mark.parametrize("begun", [LAPSED, RELEASED, AGAIN], ids=lambda begun: begun.claim)
async def test_a_step_that_was_visible_is_reset_and_done_again(begun: Begun) -> None:
    data = Storing()
    run = await lived(turn(Saying(("Good day.", STOP)), data, begun=begun, log=told(Text("Hel", 0), Text("lo", 3))))
    assert [event.seq for event in events(run.log)] == list(range(1, 10))
    assert kinds(run.log)[5:7] == [Reset(1, 0), Text("Good day.", 0)]
    assert data.stored == (text("Good day."),)


async def test_every_cursor_the_dead_owner_may_have_given_out_meets_a_reset() -> None:
    run = await lived(turn(Saying(), Storing(), begun=replace(LAPSED, unseen_events=64), log=told(Text("Hel", 0))))
    assert kinds(run.log)[4:68] == [Reset(1, 0)] * 64


async def test_finished_steps_and_their_results_are_not_repeated() -> None:
    act, gateway, data = Doing(), Saying(("Thus.", STOP)), Storing()
    log = told(*ANSWERED, Text("So", 5))
    run = await lived(turn(gateway, data, begun=LAPSED, log=log, tools=box(act)))
    assert act.called == []
    assert [message.role for message in gateway.calls[0].messages] == [Role.USER, Role.ASSISTANT, Role.TOOL]
    assert Reset(2, 5) in kinds(run.log)
    assert data.stored == (text("See: "), use("t0"), result("t0", "done"), text("Thus."))


@pytest.mark.parametrize("more", [{"read_only": True}, {"idempotent": True}], ids=str)
async def test_a_call_without_a_result_is_made_again_where_that_does_no_harm(more: dict[str, Any]) -> None:
    act, gateway, data = Doing(**more), Saying(("Thus.", STOP)), Storing()
    run = await lived(turn(gateway, data, begun=LAPSED, log=told(*CALLED), tools=box(act)))
    assert [context.tool_call_id for _, context in act.called] == ["t0"]
    assert "Reset" not in names(run.log)
    assert len(gateway.calls) == 1
    assert data.stored == (text("See: "), use("t0"), result("t0", "done"), text("Thus."))


@pytest.mark.parametrize("tools", [box(Doing()), box(), None], ids=["has effects", "is gone", "no tools at all"])
@pytest.mark.parametrize("begun", [LAPSED, RELEASED, AGAIN], ids=lambda begun: begun.claim)
async def test_a_call_of_which_nobody_knows_whether_it_took_effect_ends_the_run(begun: Begun, tools: Any) -> None:
    gateway, data = Saying(), Storing()
    run = await lived(turn(gateway, data, begun=begun, log=told(*CALLED), tools=tools))
    assert isinstance(kinds(run.log)[-1], Done)
    assert data.endings[0].status is RunStatus.INTERRUPTED
    assert (gateway.calls, data.stored) == ([], (text("See: "), use("t0")))


async def test_of_several_calls_only_those_without_a_result_are_made() -> None:
    look, act = Doing("look", read_only=True), Doing()
    log = told(ToolUse("t0", "act", "{}"), ToolUse("t1", "look", "{}"), ToolResult("t0", "act", "done"))
    run = await lived(turn(Saying(), Storing(), begun=LAPSED, log=log, tools=box(look, act)))
    assert (act.called, [context.tool_call_id for _, context in look.called]) == ([], ["t1"])
    assert run.run.status is RunStatus.COMPLETED


async def test_events_nobody_holds_are_reset_without_voiding_the_calls_that_are_made_again() -> None:
    """The owner before may have shown the result, and text after it: that text is dropped, the call stays."""
    look, data = Doing("look", read_only=True), Storing()
    log = told(Text("See: ", 0), ToolUse("t0", "look", "{}"))
    begun = replace(LAPSED, unseen_events=64)
    run = await lived(turn(Saying(("Thus.", STOP)), data, begun=begun, log=log, tools=box(look)))
    assert kinds(run.log)[5:69] == [Reset(2, 5)] * 64
    assert data.stored == (text("See: "), use("t0", "look"), result("t0", "done", "look"), text("Thus."))


async def test_a_second_takeover_ends_the_run_with_its_partial() -> None:
    gateway, data = Saying(), Storing()
    await lived(turn(gateway, data, begun=replace(LAPSED, takeovers=2), log=told(Text("Hel", 0))))
    assert (gateway.calls, data.endings[0].status) == ([], RunStatus.INTERRUPTED)
    assert data.stored == (text("Hel"),)


async def test_handing_over_is_no_takeover() -> None:
    run = await lived(turn(Saying(), Storing(), begun=replace(RELEASED, takeovers=2), log=told(Text("Hel", 0))))
    assert run.run.status is RunStatus.COMPLETED


async def test_a_run_that_somebody_wants_stopped_is_stopped_before_the_model_is_asked() -> None:
    gateway, data = Saying(), Storing()
    begun = replace(BEGUN, claim=ClaimKind.QUEUED, cancel_requested=True)
    run = await lived(turn(gateway, data, begun=begun))
    assert (gateway.calls, run.run.status) == ([], RunStatus.CANCELLED)
    assert names(run.log) == ["RunStarted", "UserMessage", "Thinking", "Usage", "Done"]
    assert Usage(0, 0, estimated=True) in kinds(run.log)


@pytest.mark.parametrize("begun", [replace(LAPSED, cancel_requested=True), replace(LAPSED, takeovers=2)])
async def test_a_run_that_ends_when_it_is_taken_over_takes_back_what_only_the_dead_owner_had_shown(
    begun: Begun,
) -> None:
    """Whatever number a client comes back with, it finds a reset to what is kept, and the end after it."""
    data = Storing()
    run = await lived(turn(Saying(), data, begun=replace(begun, unseen_events=64), log=told(Text("Hel", 0))))
    assert [event.kind.offset for event in events(run.log) if isinstance(event.kind, Reset)] == [3] * 64
    assert (data.stored, data.endings[0].last_seq) == ((text("Hel"),), 4 + 64 + 2)


async def test_an_end_that_was_told_and_not_stored_is_stored() -> None:
    gateway, data = Saying(), Storing()
    log = told(Text("Hello", 0), Usage(1, 2), Done(RunStatus.COMPLETED, "m", "mini"))
    run = await lived(turn(gateway, data, begun=LAPSED, log=log))
    ending = data.endings[0]
    assert (gateway.calls, ending.status, ending.usage, ending.last_seq) == ([], RunStatus.COMPLETED, Usage(1, 2), 6)
    assert ending.model == "mini"
    assert (run.log.last_seq, data.stored) == (6, (text("Hello"),))


async def test_a_failed_end_that_was_told_is_stored_with_its_reason() -> None:
    data = Storing()
    log = told(Text("Hel", 0), Usage(1, 2), Failed("STREAM_STALLED", "words", "req"))
    await lived(turn(Saying(), data, begun=LAPSED, log=log))
    assert (data.endings[0].status, data.endings[0].error_reason) == (RunStatus.FAILED, "STREAM_STALLED")


async def test_a_run_out_of_the_queue_opens_its_log() -> None:
    run = await lived(turn(Saying(), Storing(), begun=replace(BEGUN, claim=ClaimKind.QUEUED)))
    assert kinds(run.log)[:3] == list(OPENING)


async def test_an_answer_is_gone_on_with_where_it_stops() -> None:
    gateway, data = Saying(("lo there.", STOP)), Storing()
    run = await lived(turn(gateway, data, begun=replace(BEGUN, answer=(text("Hel"),))))
    assert kinds(run.log)[3:6] == [Text("Hel", 0), Progress(2, GOING_ON), Text("lo there.", 3)]
    assert [message.text for message in gateway.calls[0].messages[:2]] == ["Hello?", "Hel"]
    assert data.stored == (text("Hello there."),)


async def test_a_call_of_unknown_outcome_is_told_as_such_where_an_answer_is_gone_on_with() -> None:
    act, gateway, data = Doing(), Saying(("I see.", STOP)), Storing()
    await lived(turn(gateway, data, begun=replace(BEGUN, answer=(text("See: "), use("t0"))), tools=box(act)))
    assert act.called == []
    assert data.stored == (
        text("See: "),
        use("t0"),
        result("t0", UNKNOWN_OUTCOME, is_error=True),
        text("I see."),
    )


async def test_what_an_answer_goes_on_with_outlives_a_takeover() -> None:
    """Only what came after it is done again, whether the log was kept or was made of what is stored."""
    gate: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    data = Storing()
    first = turn(Saying(("lo th", gate)), data, begun=replace(BEGUN, answer=(text("Hel"),)))
    first.begin()
    living = asyncio.create_task(first.live())
    await until(lambda: data.stored == (text("Hel"), text("lo th")))
    first.supersede()
    await living
    for log, begun in ((first.log, LAPSED), (None, replace(LAPSED, answer=data.stored, last_seq=data.stored_seq))):
        taken, gateway = Storing(), Saying(("p!", STOP))
        copy = None
        if log is not None:
            copy = RunLog()
            copy.load(events(log))
        run = await lived(turn(gateway, taken, begun=begun, log=copy))
        assert Reset(2, 3) in kinds(run.log)
        assert (gateway.calls[0].messages[1].text, taken.stored) == ("Hel", (text("Help!"),))


@pytest.mark.parametrize("begun", [replace(LAPSED, unseen_events=64), RELEASED], ids=lambda begun: begun.claim)
async def test_what_an_answer_goes_on_with_outlives_an_owner_that_has_written_nothing(begun: Begun) -> None:
    """It died before its first flush, or gave the run back before it had begun: what is stored is the earlier answer, as it was."""
    gateway, data = Saying(("lo there.", STOP)), Storing()
    await lived(turn(gateway, data, begun=replace(begun, answer=(text("Hel"),))))
    assert [message.text for message in gateway.calls[0].messages[:2]] == ["Hello?", "Hel"]
    assert data.stored == (text("Hello there."),)


async def test_what_an_earlier_owner_has_used_is_counted_as_far_as_can_be_told() -> None:
    run = await lived(turn(Saying(("Thus.", STOP)), Storing(), begun=LAPSED, log=told(*ANSWERED), tools=box(Doing())))
    usage = next(kind for kind in kinds(run.log) if isinstance(kind, Usage))
    assert (usage.estimated, usage.cost_usd) == (True, None)
    assert usage.output_tokens > 7


def cut(log: RunLog, seq: int) -> RunLog:
    """Returns what an owner's log held at a position."""
    copy = RunLog()
    copy.load(Event(*event) for event in events(log) if event.seq <= seq)
    return copy


async def test_wherever_an_owner_dies_the_next_one_ends_the_run_with_the_same_answer_and_no_effect_twice() -> None:
    """A run with a step of two tools, one of them with an effect, is cut after each of its events and taken up."""

    def script() -> Saying:
        return Saying(("See: ", calls(("act", "{}"), ("look", "{}"))), ("Th", "us.", STOP))

    whole = await lived(turn(script(), Storing(), tools=box(Doing(), Doing("look", read_only=True))))
    wanted = [part for part in whole.log.parts() if part.kind is PartKind.TEXT]
    outcomes: set[RunStatus] = set()
    for seq in range(3, whole.log.last_seq + 1):
        log = cut(whole.log, seq)
        answered = {part.tool_call_id for part in log.parts() if part.kind is PartKind.TOOL_RESULT}
        called = any(part.kind is PartKind.TOOL_USE for part in log.parts())
        gateway = Saying(("Thus.", STOP)) if called else script()
        act, data = Doing(), Storing()
        run = await lived(turn(gateway, data, begun=LAPSED, log=log, tools=box(act, Doing("look", read_only=True))))
        outcomes.add(run.run.status)
        if run.run.status is RunStatus.INTERRUPTED:
            assert called
            assert "t0" not in answered
            assert act.called == []
            continue
        assert [part for part in run.log.parts() if part.kind is PartKind.TEXT] == wanted
        assert len(act.called) == (0 if called else 1)
        assert _pairs(run.log.parts())
    assert outcomes == {RunStatus.COMPLETED, RunStatus.INTERRUPTED}


def _pairs(parts: tuple[Part, ...]) -> bool:
    called = [part.tool_call_id for part in parts if part.kind is PartKind.TOOL_USE]
    answered = [part.tool_call_id for part in parts if part.kind is PartKind.TOOL_RESULT]
    return sorted(called) == sorted(answered)


async def test_what_earlier_tries_have_used_counts() -> None:
    begun = replace(AGAIN, usage=Usage(100, 50, cost_usd=1.0))
    run = await lived(turn(Saying(), Storing(), begun=begun, log=told(Text("Hel", 0))))
    assert Usage(120, 57, cost_usd=1.5) in kinds(run.log)
