"""The agentic loop: models are asked, tools are called, and there is always an answer."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest

from runtime.errors import InvalidArgument, Unavailable
from services.chat.asking import FinishReason, ModelFinished, Role
from services.chat.bounds import ANSWER_MAX_BYTES
from services.chat.domain import Done, Failed, Progress, RunStatus, ToolResult, ToolUse, Usage
from services.chat.steps import MOST_STEPS
from services.chat.tools.tool import ToolContext, ToolError
from tests.unit.chat.turns import (
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


async def test_a_tool_is_called_and_the_model_is_asked_again_with_what_it_said() -> None:
    gateway, data, act = Saying(("Let me see. ", calls(("act", '{"a":1}'))), ("It is done.", STOP)), Storing(), Doing()
    run = await lived(turn(gateway, data, tools=box(act)))
    assert names(run.log) == [
        "RunStarted",
        "UserMessage",
        "Thinking",
        "Text",
        "ToolUse",
        "ToolResult",
        "Progress",
        "Text",
        "Usage",
        "Done",
    ]
    assert [arguments for arguments, _ in act.called] == [{"a": 1}]
    assert [(message.role, message.text) for message in gateway.calls[1].messages] == [
        (Role.USER, "Hello?"),
        (Role.ASSISTANT, "Let me see. "),
        (Role.TOOL, "done"),
    ]
    assert data.stored == (
        text("Let me see. "),
        use("t0", arguments='{"a":1}'),
        result("t0", "done"),
        text("It is done."),
    )


async def test_a_tool_is_told_for_whom_and_for_which_call_it_works() -> None:
    async def act(_: Mapping[str, Any], context: ToolContext) -> str:
        context.progress("Half way")
        return f"{context.identity.user_id} {context.run_id} {context.tool_call_id}"

    gateway = Saying(("x", calls(("act", "{}"), ids=["call-7"])))
    run = await lived(turn(gateway, Storing(), tools=box(Doing(does=act))))
    assert ToolResult("call-7", "act", "user r call-7") in kinds(run.log)
    assert Progress(1, "Half way") in kinds(run.log)


async def test_the_tools_of_one_call_run_beside_one_another() -> None:
    """Each waits for the other: one after the other they would never end."""
    met = asyncio.Barrier(2)

    async def meet(_: Mapping[str, Any], __: ToolContext) -> str:
        await met.wait()
        return "met"

    gateway = Saying((calls(("one", "{}"), ("other", "{}")),))
    run = await lived(turn(gateway, Storing(), tools=box(Doing("one", meet), Doing("other", meet))))
    assert [kind.content for kind in kinds(run.log) if isinstance(kind, ToolResult)] == ["met", "met"]


async def test_a_call_names_the_step_that_has_made_it() -> None:
    """A reset names a step as well: whoever watches must know what it takes back."""
    gateway = Saying((calls(("act", "{}"), ("act", "{}")),), (calls(("act", "{}")),), ("Yes.", STOP))
    run = await lived(turn(gateway, Storing(), tools=box(Doing())))
    assert [kind.step for kind in kinds(run.log) if isinstance(kind, ToolUse)] == [1, 1, 2]


async def test_an_answer_that_cannot_be_sent_to_a_model_any_more_ends_as_it_is() -> None:
    gateway = Saying(("x" * ANSWER_MAX_BYTES, calls(("act", "{}"))))
    run = await lived(turn(gateway, Storing(), tools=box(Doing())))
    assert (len(gateway.calls), run.run.status) == (1, RunStatus.LIMITED)


async def test_usage_is_that_of_all_steps() -> None:
    run = await lived(turn(Saying((calls(("act", "{}")),), ("Yes.", STOP)), Storing(), tools=box(Doing())))
    assert Usage(30, 12, cost_usd=0.75) in kinds(run.log)


async def test_tools_are_withheld_from_the_last_call_so_that_there_is_an_answer() -> None:
    """A model that calls tools whenever it can is asked ten times and no more."""
    act = Doing()
    gateway = Saying(*([("x", calls(("act", "{}")))] * (MOST_STEPS - 1)), ("At last.", STOP))
    run = await lived(turn(gateway, Storing(), tools=box(act)))
    assert [bool(call.tools) for call in gateway.calls] == [True] * 9 + [False]
    assert len(act.called) == 9
    assert isinstance(kinds(run.log)[-1], Done)


async def test_tools_called_in_the_last_call_all_the_same_are_not_called() -> None:
    act = Doing()
    gateway = Saying(*([("x", calls(("act", "{}")))] * 12))
    run = await lived(turn(gateway, Storing(), tools=box(act)))
    assert (len(gateway.calls), len(act.called), run.run.status) == (10, 9, RunStatus.COMPLETED)


async def test_no_two_calls_of_a_run_have_one_id() -> None:
    gateway = Saying((calls(("act", "{}")),), (calls(("act", "{}"), ("act", "{}"), ids=["t0", ""]),), ("Yes.", STOP))
    run = await lived(turn(gateway, Storing(), tools=box(Doing())))
    used = [kind.tool_call_id for kind in kinds(run.log) if isinstance(kind, ToolUse)]
    assert len(set(used)) == 3
    assert used[0] == "t0"
    assert [kind.tool_call_id for kind in kinds(run.log) if isinstance(kind, ToolResult)] == used


async def _raises(_: Mapping[str, Any], __: ToolContext) -> str:
    raise RuntimeError("postgres://secret")


async def _says(_: Mapping[str, Any], __: ToolContext) -> str:
    raise ToolError("The file is gone.")


async def _hangs(_: Mapping[str, Any], __: ToolContext) -> str:
    await asyncio.Event().wait()
    return ""


async def _no_text(_: Mapping[str, Any], __: ToolContext) -> Any:
    return {"a": 1}


async def _cancels_itself(_: Mapping[str, Any], __: ToolContext) -> str:
    raise asyncio.CancelledError


CLOSED = {"type": "object", "properties": {"n": {"type": "integer"}}, "additionalProperties": False}


@pytest.mark.parametrize(
    ("tool", "call", "words"),
    [
        (Doing(), ("other", "{}"), "There is no tool other. There are: act."),
        (Doing(), ("ac t!", "{}"), "There is no tool ac_t_. There are: act."),
        (Doing(), ("act", '{"a":'), "The arguments are no JSON object."),
        (Doing(), ("act", "[1]"), "The arguments are no JSON object."),
        (Doing(parameters=CLOSED), ("act", '{"n":"x"}'), "n: 'x' is not of type 'integer'"),
        (Doing(permission="run:admin"), ("act", "{}"), "The user may not use the tool act."),
        (Doing(does=_raises), ("act", "{}"), "The tool failed with an internal error."),
        (Doing(does=_no_text), ("act", "{}"), "The tool failed with an internal error."),
        (Doing(does=_cancels_itself), ("act", "{}"), "The tool failed with an internal error."),
        (Doing(does=_says), ("act", "{}"), "The file is gone."),
        (Doing(does=_hangs, timeout_s=0.01, read_only=True), ("act", "{}"), "did not answer within 0.01 seconds."),
        (Doing(does=_hangs, timeout_s=0.01), ("act", "{}"), "It is not known whether it took effect."),
    ],
    ids=lambda value: value[0] if isinstance(value, tuple) else None,
)
async def test_a_call_that_fails_is_told_to_the_model_in_words(tool: Doing, call: tuple[str, str], words: str) -> None:
    gateway = Saying((calls(call),), ("Sorry.", STOP))
    tools = box(tool)
    tools.offers = box(Doing()).offers  # a model may call what it was not offered
    run = await lived(turn(gateway, Storing(), tools=tools))
    told = next(kind for kind in kinds(run.log) if isinstance(kind, ToolResult))
    assert told.is_error
    assert told.content.endswith(words)
    assert gateway.calls[1].messages[-1].text == told.content
    assert "secret" not in told.content
    assert isinstance(kinds(run.log)[-1], Done)


async def test_arguments_that_are_no_json_are_stored_as_none_with_their_result() -> None:
    """What is stored is a JSON object; the call cannot be made with it by whoever takes the run up."""
    data = Storing()
    await lived(turn(Saying((calls(("act", "{{")),), ("Sorry.", STOP)), data, tools=box(Doing())))
    assert data.stored[:2] == (use("t0"), result("t0", "The arguments are no JSON object.", is_error=True))


async def test_a_result_longer_than_it_may_be_is_cut_with_a_note() -> None:
    async def speak(_: Mapping[str, Any], __: ToolContext) -> str:
        return "é" * 600

    run = await lived(turn(Saying((calls(("act", "{}")),)), Storing(), tools=box(Doing(does=speak))))
    told = next(kind for kind in kinds(run.log) if isinstance(kind, ToolResult))
    assert told.content == "é" * 500 + "\n[Cut off: these are the first 1000 of 1200 bytes.]"
    assert not told.is_error


async def test_what_cannot_be_stored_is_replaced_in_a_result() -> None:
    async def speak(_: Mapping[str, Any], __: ToolContext) -> str:
        return "a\x00b\ud800c"

    run = await lived(turn(Saying((calls(("act", "{}")),)), Storing(), tools=box(Doing(does=speak))))
    assert ToolResult("t0", "act", "a\ufffdb?c") in kinds(run.log)


async def test_a_stop_cancels_the_tool_that_runs_and_keeps_what_there_is() -> None:
    data, act = Storing(), Doing(does=_hangs)
    run = turn(Saying(("Wait. ", calls(("act", "{}")))), data, tools=box(act))
    run.begin()
    living = asyncio.create_task(run.live())
    await until(lambda: bool(act.called))
    run.stop(RunStatus.CANCELLED)
    await living
    assert act.ended == ["cancelled"]
    assert (run.run.status, data.stored) == (RunStatus.CANCELLED, (text("Wait. "), use("t0")))
    assert Usage(10, 5, cost_usd=0.25) in kinds(run.log)


async def test_a_tool_that_takes_too_long_is_cancelled() -> None:
    act = Doing(does=_hangs, timeout_s=0.01)
    await lived(turn(Saying((calls(("act", "{}")),)), Storing(), tools=box(act)))
    await until(lambda: act.ended == ["cancelled"])


async def test_a_tool_that_heeds_no_cancellation_does_not_hold_up_a_stop() -> None:
    release = asyncio.Event()

    async def stubborn(_: Mapping[str, Any], __: ToolContext) -> str:
        while not release.is_set():
            try:
                await release.wait()
            except asyncio.CancelledError:
                continue
        return ""

    act = Doing(does=stubborn)
    run = turn(Saying((calls(("act", "{}")),)), Storing(), tools=box(act))
    run.begin()
    living = asyncio.create_task(run.live())
    await until(lambda: bool(act.called))
    run.stop(RunStatus.CANCELLED)
    await living
    assert not act.ended
    release.set()
    await until(lambda: act.ended == ["returned"])


async def test_the_result_of_an_effect_is_shown_once_it_is_stored_or_in_the_tail() -> None:
    """Whoever takes the run over and finds no result takes the outcome for unknown: nobody may have seen it."""
    data = Storing()

    async def cut_off(_: Mapping[str, Any], __: ToolContext) -> str:
        data.refuse = Unavailable("away")
        return "done"

    act = Doing(does=cut_off)
    run = turn(Saying((calls(("act", "{}")),), ("Done.", STOP)), data, tools=box(act))
    run.begin()
    living = asyncio.create_task(run.live())
    await until(lambda: result("t0", "done") in run.log.parts())
    told = next(event.seq for event in events(run.log) if isinstance(event.kind, ToolResult))
    assert told not in [event.seq for event in run.log.after(0)]
    run.log.confirm(told)
    assert run.log.after(0)[-1].seq == told
    data.refuse = None
    await living
    assert isinstance(run.log.after(0)[-1].kind, Done)


async def test_a_call_is_stored_before_its_effect_and_its_result_right_after() -> None:
    data = Storing()
    seen: list[Any] = []

    async def look(_: Mapping[str, Any], __: ToolContext) -> str:
        seen.append(data.stored)
        return "done"

    gate: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    seldom = replace(PACE, checkpoint_every_s=60)  # so that nothing else stores it
    gateway = Saying((calls(("act", "{}")),), (gate, "Yes.", STOP))
    slow = turn(gateway, data, tools=box(Doing(does=look)), pace=seldom)
    slow.begin()
    living = asyncio.create_task(slow.live())
    await until(lambda: result("t0", "done") in data.stored)
    assert seen == [(use("t0"),)]
    gate.set_result(None)
    await living


async def test_a_tool_whose_call_cannot_be_stored_is_not_called() -> None:
    data, act = Storing(), Doing(timeout_s=0.02)
    data.refuse = Unavailable("away")
    gateway = Saying((calls(("act", "{}")),), ("I could not.", STOP))
    run = turn(gateway, data, tools=box(act))
    run.begin()
    living = asyncio.create_task(run.live())
    await until(lambda: len(gateway.calls) == 2)
    data.refuse = None
    await living
    assert act.called == []
    assert "was not called" in gateway.calls[1].messages[-1].text


async def test_a_tool_that_changes_nothing_waits_for_nobody() -> None:
    data, act = Storing(), Doing(read_only=True)
    data.refuse = Unavailable("away")
    run = turn(Saying((calls(("act", "{}")),)), data, tools=box(act))
    run.begin()
    living = asyncio.create_task(run.live())
    await until(lambda: bool(act.ended))
    data.refuse = None
    await living


async def test_a_model_that_calls_no_tools_is_offered_none() -> None:
    gateway = Saying()
    await lived(turn(gateway, Storing(), tools=box(Doing(), offered=False)))
    assert gateway.calls[0].tools == ()


async def test_who_may_not_use_a_tool_is_not_offered_it() -> None:
    hidden = Doing("hidden", permission="run:admin")
    assert [offer.name for offer in box(Doing(), hidden).offers] == ["act"]
    assert [offer.name for offer in box(Doing(), hidden, role="admin").offers] == ["act", "hidden"]


async def test_a_providers_own_fault_after_visible_text_keeps_the_partial() -> None:
    fault = Unavailable.of("PROVIDER_UNAVAILABLE", "words")
    data = Storing()
    run = await lived(turn(Saying(("Hel", fault)), data))
    assert isinstance(kinds(run.log)[-1], Failed)
    assert data.stored == (text("Hel"),)


async def test_a_prompt_too_long_is_shortened_where_there_is_something_to_shorten() -> None:
    too_long = InvalidArgument.of("CONTEXT_TOO_LONG", "words")
    run = await lived(turn(Saying((too_long,)), Storing()))
    assert run.run.error_reason == "CONTEXT_TOO_LONG"


async def test_calls_of_an_answer_cut_at_its_limit_are_not_made() -> None:
    act = Doing()
    cut = ModelFinished(FinishReason.LENGTH, Usage(1, 1), calls(("act", "{}")).calls)
    run = await lived(turn(Saying(("Hel", cut)), Storing(), tools=box(act)))
    assert (run.run.status, act.called) == (RunStatus.LIMITED, [])
