"""Runs wait in the queue, are tried again after a failure, and are stopped, also while nobody owns them."""

from typing import Any

import asyncpg
import pytest
from google.protobuf.duration_pb2 import Duration

from parley.data.v1 import data_pb2 as pb
from tests.contract.data.person import (
    Person,
    checkpoint_request,
    claim_request,
    finish_request,
    lapse,
    load_request,
    release_request,
    retry_request,
    text,
)

QUEUED = pb.Claim.KIND_QUEUED
ONE = pb.ActiveLimits(per_user=1)

pytestmark = pytest.mark.usefixtures("nothing_to_claim")


# --- the queue


async def test_a_queued_run_has_no_owner_and_no_lease_and_is_tried_once_claimed(
    person: Person, claimer: Person
) -> None:
    begun = await person.begin(background=True, max_tries=3)
    run = begun.run
    assert (run.status, run.owner, run.fence, run.tries, run.max_tries) == (pb.RUN_STATUS_QUEUED, "", 0, 0, 3)
    assert not run.HasField("lease_expire_time")
    assert begun.answer.state == pb.MESSAGE_STATE_PARTIAL
    (claim,) = await claimer.claim()
    assert (claim.kind, claim.previous_owner) == (QUEUED, "")
    assert (claim.run.status, claim.run.owner, claim.run.fence, claim.run.tries) == (
        pb.RUN_STATUS_RUNNING,
        "chat-2",
        1,
        1,
    )
    assert claim.run.HasField("lease_expire_time")


async def test_a_failed_try_waits_its_delay_and_is_tried_again(
    person: Person, claimer: Person, owner: asyncpg.Connection
) -> None:
    run = (await person.begin(background=True, max_tries=2)).run
    await claimer.claim()
    request = retry_request(
        run.id, text("kept"), delay=Duration(seconds=60), last_seq=8, usage=pb.Usage(input_tokens=5)
    )
    again = (await person.call(request)).run
    assert (again.status, again.owner, again.tries, again.error_reason) == (pb.RUN_STATUS_QUEUED, "", 1, "")
    stored = await person.stored(run.id)
    assert (list(stored.answer.parts), stored.answer.usage.input_tokens, stored.run.last_seq) == ([text("kept")], 5, 8)
    assert stored.answer.state == pb.MESSAGE_STATE_PARTIAL
    response = await claimer.call(claim_request())
    assert list(response.claims) == []
    assert response.HasField("next_due_time")
    due = await owner.fetchval("SELECT due_at FROM chat.run WHERE id::text = $1", run.id)
    assert response.next_due_time.ToMicroseconds() == round(due.timestamp() * 1e6)
    await owner.execute("UPDATE chat.run SET due_at = clock_timestamp() WHERE id::text = $1", run.id)
    (claim,) = await claimer.claim()
    assert (claim.kind, claim.run.tries, claim.run.fence) == (QUEUED, 2, 2)


async def test_after_the_last_try_a_run_has_failed(person: Person, claimer: Person) -> None:
    run = (await person.begin(background=True, max_tries=1)).run
    await claimer.claim()
    ended = (await person.call(retry_request(run.id, text("partly"), last_seq=8))).run
    assert (ended.status, ended.error_reason, ended.last_seq) == (pb.RUN_STATUS_FAILED, "PROVIDER_UNAVAILABLE", 10)
    assert ended.HasField("end_time")
    stored = await person.stored(run.id)
    assert (stored.answer.state, list(stored.answer.parts)) == (pb.MESSAGE_STATE_FAILED, [text("partly")])


async def test_putting_back_twice_changes_nothing(person: Person, claimer: Person) -> None:
    run = (await person.begin(background=True, max_tries=2)).run
    await claimer.claim()
    first = (await person.call(retry_request(run.id, text("kept"), delay=Duration(seconds=60)))).run
    assert (await person.call(retry_request(run.id, text("other")))).run == first
    assert (await person.stored(run.id)).answer.parts == [text("kept")]


@pytest.mark.parametrize("make", [checkpoint_request, finish_request, release_request, load_request])
async def test_who_put_a_run_back_owns_it_no_more(person: Person, claimer: Person, make: Any) -> None:
    run = (await person.begin(background=True, max_tries=2)).run
    await claimer.claim()
    await person.call(retry_request(run.id, delay=Duration(seconds=60)))
    assert (await person.refusal(make(run.id))).code == "STALE_FENCE"


# --- stopping


async def test_a_queued_run_that_is_stopped_ends_at_once(person: Person, claimer: Person) -> None:
    run = (await person.begin(background=True)).run
    ended = (await person.call(pb.CancelRunRequest(run_id=run.id))).run
    assert (ended.status, ended.cancel_requested, ended.last_seq) == (pb.RUN_STATUS_CANCELLED, True, 5)
    assert (await person.stored(run.id)).answer.state == pb.MESSAGE_STATE_CANCELLED
    assert await claimer.claim() == []


async def test_the_owner_learns_of_the_wish_to_stop_from_its_next_checkpoint(person: Person) -> None:
    run = (await person.begin()).run
    assert not (await person.call(checkpoint_request(run.id))).cancel_requested
    asked = (await person.call(pb.CancelRunRequest(run_id=run.id))).run
    assert (asked.status, asked.cancel_requested) == (pb.RUN_STATUS_RUNNING, True)
    assert (await person.call(checkpoint_request(run.id))).cancel_requested
    assert (await person.call(pb.CancelRunRequest(run_id=run.id))).run.cancel_requested


async def test_stopping_an_ended_run_changes_nothing(person: Person) -> None:
    run = (await person.begin()).run
    finished = await person.finish(run, text("done"))
    assert (await person.call(pb.CancelRunRequest(run_id=run.id))).run == finished


async def test_the_wish_to_stop_survives_its_owner(person: Person, claimer: Person, owner: asyncpg.Connection) -> None:
    run = (await person.begin()).run
    await person.call(pb.CancelRunRequest(run_id=run.id))
    await lapse(owner, run)
    (claim,) = await claimer.claim()
    assert claim.run.cancel_requested
    assert (await person.call(load_request(run.id, fence=2))).run.cancel_requested


async def test_a_failed_try_that_shall_stop_waits_for_nothing(person: Person, claimer: Person) -> None:
    """Neither for its delay nor for the limits: whoever claims it only ends it."""
    run = (await person.begin(background=True, max_tries=2)).run
    await claimer.claim()
    await person.call(pb.CancelRunRequest(run_id=run.id))
    await person.call(retry_request(run.id, delay=Duration(seconds=60)))
    await person.begin()
    (claim,) = await claimer.claim(active_limits=ONE)
    assert (claim.run.id, claim.run.cancel_requested) == (run.id, True)
