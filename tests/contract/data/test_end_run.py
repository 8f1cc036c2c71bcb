"""An answer is kept while it is written and when it is done, by the run's owner alone."""

import asyncio
from typing import Any

import pytest
from google.protobuf.duration_pb2 import Duration

from parley.data.v1 import data_pb2 as pb
from runtime.errors import FailedPrecondition, InvalidArgument, ParleyError
from tests.contract.data.person import Person, Service, checkpoint_request, finish_request, release_request, text

USAGE = pb.Usage(
    input_tokens=100, output_tokens=2**40, cached_tokens=60, reasoning_tokens=7, cost_usd=0.00123, estimated=True
)
STATES = {
    pb.RUN_STATUS_COMPLETED: pb.MESSAGE_STATE_COMPLETE,
    pb.RUN_STATUS_LIMITED: pb.MESSAGE_STATE_COMPLETE,
    pb.RUN_STATUS_CANCELLED: pb.MESSAGE_STATE_CANCELLED,
    pb.RUN_STATUS_FAILED: pb.MESSAGE_STATE_FAILED,
    pb.RUN_STATUS_INTERRUPTED: pb.MESSAGE_STATE_INTERRUPTED,
}


# --- checkpoints


async def test_a_checkpoint_is_what_is_read_until_the_next(person: Person) -> None:
    run = (await person.begin()).run
    await person.call(checkpoint_request(run.id, text("Hel"), last_seq=4))
    await person.call(checkpoint_request(run.id, pb.Part(reasoning="hmm"), text("Hello"), last_seq=6))
    stored = await person.stored(run.id)
    assert stored.answer.parts == [pb.Part(reasoning="hmm"), text("Hello")]
    assert stored.answer.state == pb.MESSAGE_STATE_PARTIAL
    assert (stored.run.status, stored.run.last_seq) == (pb.RUN_STATUS_RUNNING, 6)


async def test_a_checkpoint_renews_the_lease(person: Person) -> None:
    run = (await person.begin()).run
    await person.call(checkpoint_request(run.id, lease=Duration(seconds=120)))
    renewed = (await person.stored(run.id)).run.lease_expire_time
    assert renewed.ToNanoseconds() - run.lease_expire_time.ToNanoseconds() >= 105_000_000_000


async def test_a_checkpoint_never_shortens_the_lease(person: Person) -> None:
    run = (await person.begin()).run
    await person.call(checkpoint_request(run.id, lease=Duration(seconds=1)))
    assert (await person.stored(run.id)).run.lease_expire_time == run.lease_expire_time


async def test_an_instances_clock_moves_no_lease(service: Service, person: Person) -> None:
    """Leases are by the database's clock, which everybody shares."""
    service.clock.advance(5000)
    ahead = (await person.begin()).run
    service.clock.advance(-10_000)
    behind = (await person.begin()).run
    service.clock.advance(5000)
    assert 0 <= behind.lease_expire_time.seconds - ahead.lease_expire_time.seconds <= 60


async def test_a_checkpoint_that_was_overtaken_takes_nothing_back(person: Person) -> None:
    run = (await person.begin()).run
    await person.call(checkpoint_request(run.id, text("Hello"), last_seq=6))
    await person.call(checkpoint_request(run.id, text("Hel"), last_seq=4, lease=Duration(seconds=99)))
    stored = await person.stored(run.id)
    assert (list(stored.answer.parts), stored.run.last_seq) == ([text("Hello")], 6)
    assert stored.run.lease_expire_time.seconds - run.lease_expire_time.seconds >= 84


async def test_what_a_checkpoint_says_was_used_stays_until_it_is_said_anew(person: Person) -> None:
    run = (await person.begin()).run
    await person.call(checkpoint_request(run.id, text("Hel"), last_seq=4))
    assert not (await person.stored(run.id)).answer.HasField("usage")
    await person.call(checkpoint_request(run.id, text("Hell"), last_seq=5, usage=USAGE))
    await person.call(checkpoint_request(run.id, text("Hello"), last_seq=6))
    await person.call(checkpoint_request(run.id, text("He"), last_seq=3, usage=pb.Usage(input_tokens=1)))
    assert (await person.stored(run.id)).answer.usage == USAGE
    await person.call(release_request(run.id, text("Hello"), last_seq=6, usage=pb.Usage(input_tokens=99)))
    assert (await person.stored(run.id)).answer.usage == pb.Usage(input_tokens=99)


async def test_an_ended_run_takes_no_checkpoint(person: Person) -> None:
    run = (await person.begin()).run
    await person.finish(run, text("done"))
    refusal = await person.refusal(checkpoint_request(run.id, text("late"), last_seq=99))
    assert isinstance(refusal, FailedPrecondition)
    assert refusal.code == "RUN_ENDED"
    assert (await person.stored(run.id)).answer.parts == [text("done")]


# --- the end


@pytest.mark.parametrize("status", STATES, ids=pb.RunStatus.Name)
async def test_the_end_is_stored(service: Service, person: Person, status: Any) -> None:
    run = (await person.begin()).run
    service.clock.advance(3)
    reason = "PROVIDER_UNAVAILABLE" if status == pb.RUN_STATUS_FAILED else ""
    parts = [pb.Part(reasoning="hmm"), text("Hello")]
    given: dict[str, Any] = {"status": status, "error_reason": reason, "usage": USAGE, "model": "openai/small"}
    finished = await person.finish(run, *parts, **given)
    assert (finished.status, finished.error_reason) == (status, reason)
    assert (finished.model, finished.response_model) == ("fast", "openai/small")
    assert finished.last_seq == 9
    assert finished.end_time.seconds - finished.create_time.seconds == 3
    assert not finished.HasField("lease_expire_time")
    stored = await person.stored(run.id)
    assert stored.run == finished
    assert (list(stored.answer.parts), stored.answer.state) == (parts, STATES[status])
    assert (stored.answer.usage, stored.answer.model) == (USAGE, "openai/small")
    assert stored.answer.create_time == run.create_time


async def test_the_end_moves_the_conversation_and_no_clock_moves_it_back(service: Service, person: Person) -> None:
    run = (await person.begin()).run
    service.clock.advance(7)
    other = (await person.begin(run.conversation_id)).run
    service.clock.advance(-3)
    await person.finish(run)
    before = await person.conversation(run.conversation_id)
    assert before.update_time == other.create_time
    service.clock.advance(5)
    finished = await person.finish(other)
    assert (await person.conversation(run.conversation_id)).update_time == finished.end_time


async def test_usage_without_a_price_or_none_at_all_stays_so(person: Person) -> None:
    run = (await person.begin()).run
    await person.finish(run, usage=pb.Usage(input_tokens=1))
    usage = (await person.stored(run.id)).answer.usage
    assert (usage.input_tokens, usage.HasField("cost_usd")) == (1, False)
    other = (await person.begin()).run
    await person.finish(other)
    assert not (await person.stored(other.id)).answer.HasField("usage")


async def test_the_model_asked_for_stays_where_none_is_said_to_have_answered(person: Person) -> None:
    run = (await person.begin()).run
    assert (await person.finish(run, model="")).model == "fast"


async def test_the_end_takes_no_sequence_number_back(person: Person) -> None:
    """A new owner may not know the last event that was seen; cursors into the log must stay behind its end."""
    run = (await person.begin()).run
    await person.call(checkpoint_request(run.id, text("so far"), last_seq=6))
    assert (await person.finish(run, text("so far"), status=pb.RUN_STATUS_INTERRUPTED, last_seq=0)).last_seq == 6


async def test_ending_twice_changes_nothing(service: Service, person: Person) -> None:
    run = (await person.begin()).run
    first = await person.finish(run, text("first"))
    service.clock.advance(60)
    second = await person.finish(run, text("second"), status=pb.RUN_STATUS_CANCELLED, last_seq=70)
    assert second == first
    assert (await person.stored(run.id)).answer.parts == [text("first")]
    assert (await person.conversation(run.conversation_id)).update_time == first.end_time


async def test_twenty_ends_at_once_store_one(person: Person) -> None:
    run = (await person.begin()).run
    ends = await asyncio.gather(*(person.finish(run, text(str(number)), last_seq=number) for number in range(20)))
    assert all(end == ends[0] for end in ends)
    stored = await person.stored(run.id)
    assert stored.run == ends[0]
    assert stored.answer.parts == [text(str(ends[0].last_seq))]


@pytest.mark.parametrize("fence", [2, 2**62])
@pytest.mark.parametrize("ended", [False, True], ids=["running", "ended"])
@pytest.mark.parametrize("make", [checkpoint_request, finish_request])
async def test_another_owners_fence_is_refused(person: Person, make: Any, ended: bool, fence: int) -> None:
    run = (await person.begin()).run
    if ended:
        await person.finish(run)
    before = await person.stored(run.id)
    refusal = await person.refusal(make(run.id, text("stale"), fence=fence))
    assert isinstance(refusal, FailedPrecondition)
    assert refusal.code == "STALE_FENCE"
    assert await person.stored(run.id) == before


async def test_a_character_that_cannot_be_stored_costs_no_answer(person: Person) -> None:
    """U+0000 becomes U+FFFD, one for one, so that offsets into the text stay right."""
    run = (await person.begin()).run
    await person.call(checkpoint_request(run.id, text("a\x00b")))
    assert (await person.stored(run.id)).answer.parts == [text("a\ufffdb")]
    await person.finish(run, text("a\x00b\x00"))
    assert (await person.stored(run.id)).answer.parts == [text("a\ufffdb\ufffd")]


async def test_parts_of_every_kind_are_kept_in_their_order(person: Person) -> None:
    use = pb.ToolUse(tool_call_id="call-1", name="add", input_json='{"a": 1, "b": "é"}')
    failed = pb.ToolResult(tool_call_id="call-1", name="add", content="no numbers", is_error=True)
    parts = [text("a"), pb.Part(reasoning="b"), pb.Part(tool_use=use), pb.Part(tool_result=failed), text("c"), text("")]
    run = (await person.begin()).run
    await person.call(checkpoint_request(run.id, *parts))
    assert (await person.stored(run.id)).answer.parts == parts
    await person.finish(run, *parts)
    assert (await person.stored(run.id)).answer.parts == parts


async def test_no_character_of_a_tools_part_stops_it_from_being_stored(person: Person) -> None:
    run = (await person.begin()).run
    use = pb.ToolUse(tool_call_id="c\x00", name="n\x00", input_json="{\x00}")
    result = pb.ToolResult(tool_call_id="c\x00", name="n\x00", content="\x00")
    await person.finish(run, pb.Part(tool_use=use), pb.Part(tool_result=result))
    first, second = (await person.stored(run.id)).answer.parts
    assert (first.tool_use.tool_call_id, first.tool_use.name, first.tool_use.input_json) == (
        "c\ufffd",
        "n\ufffd",
        "{\ufffd}",
    )
    assert second.tool_result.content == "\ufffd"


async def test_a_long_answer_is_kept_to_the_letter(person: Person) -> None:
    answer = '"\\ \u2028\ud7ff\ufffe🙂\r\n\x1f' * 20_000
    run = (await person.begin()).run
    await person.finish(run, text(answer))
    assert (await person.stored(run.id)).answer.parts == [text(answer)]


async def test_deleting_while_an_answer_is_stored_ends_in_order(person: Person) -> None:
    """The three lock the same rows: whichever comes first, the others find the run or do not, and none is asked to try again."""
    for _ in range(15):
        run = (await person.begin()).run
        delete = pb.DeleteConversationRequest(conversation_id=run.conversation_id)
        ends = await asyncio.gather(
            person.call(checkpoint_request(run.id, text("so far"))),
            person.call(delete),
            person.call(finish_request(run.id, text("done"))),
            person.begin(run.conversation_id),
            person.call(checkpoint_request(run.id, text("so far and further"), last_seq=5)),
            return_exceptions=True,
        )
        refusals = {end.code for end in ends if isinstance(end, ParleyError)}
        assert refusals <= {"RUN_NOT_FOUND", "RUN_ENDED", "CONVERSATION_NOT_FOUND"}
        assert not isinstance(ends[1], BaseException)


# --- what is refused


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("fence", 0),
        ("fence", -1),
        ("last_seq", -1),
        ("lease", None),
        ("lease", Duration(seconds=3601)),
        ("lease", Duration(seconds=1, nanos=2_000_000_000)),
        ("parts", [pb.Part()]),
    ],
    ids=lambda value: repr(value)[:24].strip(),
)
async def test_a_checkpoints_field_that_breaks_its_rule_is_named(person: Person, field: str, value: Any) -> None:
    run = (await person.begin()).run
    wanted: dict[str, Any] = {"run_id": run.id, "fence": 1, "lease": Duration(seconds=1)}
    request = pb.CheckpointRunRequest(**(wanted | {field: value}))
    refusal = await person.refusal(request)
    assert isinstance(refusal, InvalidArgument)
    assert refusal.metadata["field"] == field


@pytest.mark.parametrize(
    ("field", "given"),
    [
        ("fence", {"fence": 0}),
        ("status", {"status": pb.RUN_STATUS_UNSPECIFIED}),
        ("status", {"status": pb.RUN_STATUS_RUNNING}),
        ("status", {"status": 99}),
        ("error_reason", {"status": pb.RUN_STATUS_FAILED}),
        ("error_reason", {"error_reason": "FINE"}),
        ("error_reason", {"status": pb.RUN_STATUS_FAILED, "error_reason": "went wrong"}),
        ("error_reason", {"status": pb.RUN_STATUS_FAILED, "error_reason": "X" * 64}),
        ("model", {"model": "x" * 201}),
        ("model", {"model": "\x00"}),
        ("last_seq", {"last_seq": -1}),
        ("parts", {"parts": [text("a"), pb.Part()]}),
        ("usage.input_tokens", {"usage": pb.Usage(input_tokens=-1)}),
        ("usage.output_tokens", {"usage": pb.Usage(output_tokens=-1)}),
        ("usage.cached_tokens", {"usage": pb.Usage(cached_tokens=-1)}),
        ("usage.reasoning_tokens", {"usage": pb.Usage(reasoning_tokens=-1)}),
        ("usage.cost_usd", {"usage": pb.Usage(cost_usd=-0.1)}),
        ("usage.cost_usd", {"usage": pb.Usage(cost_usd=float("nan"))}),
        ("usage.cost_usd", {"usage": pb.Usage(cost_usd=float("inf"))}),
    ],
    ids=lambda value: repr(value)[:48].replace("\n", " ").strip(),
)
async def test_an_ends_field_that_breaks_its_rule_is_named(person: Person, field: str, given: dict[str, Any]) -> None:
    run = (await person.begin()).run
    wanted: dict[str, Any] = {"run_id": run.id, "fence": 1, "status": pb.RUN_STATUS_COMPLETED, "last_seq": 2}
    refusal = await person.refusal(pb.FinishRunRequest(**(wanted | given)))
    assert isinstance(refusal, InvalidArgument)
    assert refusal.metadata["field"] == field
    assert (await person.stored(run.id)).run.status == pb.RUN_STATUS_RUNNING
