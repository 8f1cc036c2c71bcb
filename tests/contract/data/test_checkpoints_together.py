"""Checkpoints of many runs in one call: each as it would have been in a call of its own."""

import asyncio
from typing import Any

import asyncpg
import pytest
from google.protobuf.duration_pb2 import Duration

from parley.data.v1 import data_pb2 as pb
from runtime.errors import InvalidArgument
from tests.contract.data.person import Person, Service, checkpoint_request, lapse, release_request, text


def item(person: Person, run: pb.Run, said: str = "so far", **fields: Any) -> pb.CheckpointRunsRequest.Item:
    return pb.CheckpointRunsRequest.Item(
        access_token=person.token, checkpoint=checkpoint_request(run.id, text(said), **fields)
    )


async def keep(person: Person, *items: pb.CheckpointRunsRequest.Item) -> list[tuple[bool, bool]]:
    kept = await person.call(pb.CheckpointRunsRequest(items=items))
    return [(one.stored, one.cancel_requested) for one in kept.items]


async def said(person: Person, run: pb.Run) -> list[pb.Part]:
    return list((await person.stored(run.id)).answer.parts)


async def test_each_is_stored_for_its_own_user(service: Service) -> None:
    people = [service.person() for _ in range(3)]
    runs = [(await person.begin()).run for person in people]
    usage = pb.Usage(input_tokens=3, output_tokens=2)
    items = [
        item(person, run, f"of {place}", last_seq=5 + place, usage=usage, lease=Duration(seconds=900))
        for place, (person, run) in enumerate(zip(people, runs, strict=True))
    ]
    assert await keep(people[1], *items) == [(True, False)] * 3
    for place, (person, run) in enumerate(zip(people, runs, strict=True)):
        stored = await person.stored(run.id)
        assert (list(stored.answer.parts), stored.answer.usage) == ([text(f"of {place}")], usage)
        assert stored.run.last_seq == 5 + place
        renewed = stored.run.lease_expire_time.seconds - run.lease_expire_time.seconds
        assert renewed == pytest.approx(885, abs=30)


async def test_all_of_them_are_stored_to_the_letter(person: Person) -> None:
    """They travel as texts within arrays: nothing of what a model may write means anything there."""
    texts = ["NULL", "{", '","', "it's", '\\"', "\\u0041", "{1,2}", "\n\t", "Zürich 😀\u2028", "$1::text", "x" * 60_000]
    runs = [(await person.begin()).run for _ in texts]
    items = [item(person, run, said) for run, said in zip(runs, texts, strict=True)]
    assert await keep(person, *items) == [(True, False)] * len(texts)
    assert [await said(person, run) for run in runs] == [[text(each)] for each in texts]


async def test_usage_that_is_not_named_stays(person: Person) -> None:
    run = (await person.begin()).run
    usage = pb.Usage(input_tokens=3)
    await keep(person, item(person, run, usage=usage))
    await keep(person, item(person, run, last_seq=9))
    assert (await person.stored(run.id)).answer.usage == usage


async def test_the_wish_to_stop_is_told_to_its_owner_alone(person: Person) -> None:
    wanted, other = (await person.begin()).run, (await person.begin()).run
    await person.call(pb.CancelRunRequest(run_id=wanted.id))
    assert await keep(person, item(person, other), item(person, wanted)) == [(True, False), (True, True)]


async def test_what_cannot_be_stored_hinders_nothing_else(service: Service, person: Person) -> None:
    good, stale, ended, released, strangers, bad = [(await person.begin()).run for _ in range(6)]
    await person.finish(ended, text("whole"))
    await person.call(release_request(released.id, text("given back")))
    nobody = item(person, good)
    nobody.access_token = "no token"
    kept = await keep(
        person,
        item(person, stale, fence=2),
        item(person, ended),
        item(person, released),
        item(service.person(), strangers),
        item(person, bad, lease=Duration(seconds=86_400)),
        nobody,
        item(person, good),
    )
    assert kept == [(False, False)] * 6 + [(True, False)]
    assert await said(person, good) == [text("so far")]
    assert await said(person, ended) == [text("whole")]
    assert await said(person, released) == [text("given back")]
    for run in (stale, strangers, bad):
        assert await said(person, run) == []


async def test_one_that_was_overtaken_renews_the_lease_and_no_more(person: Person) -> None:
    run = (await person.begin()).run
    await keep(person, item(person, run, "newer", last_seq=8))
    assert await keep(person, item(person, run, "older", last_seq=6, lease=Duration(seconds=900))) == [(True, False)]
    stored = await person.stored(run.id)
    assert (list(stored.answer.parts), stored.run.last_seq) == ([text("newer")], 8)
    assert stored.run.lease_expire_time.seconds - run.lease_expire_time.seconds > 800


@pytest.mark.usefixtures("nothing_to_claim")
async def test_a_renewal_clears_the_suspicion(owner: asyncpg.Connection, person: Person, claimer: Person) -> None:
    run = (await person.begin()).run
    await lapse(owner, run)
    suspicion = Duration(seconds=600)
    assert await claimer.claim(suspicion=suspicion) == []
    await keep(person, item(person, run))
    assert await owner.fetchval("SELECT suspected_at FROM chat.run WHERE id::text = $1", run.id) is None


async def test_calls_about_the_same_runs_do_not_wait_for_each_other_in_a_circle(person: Person) -> None:
    runs = [(await person.begin()).run for _ in range(20)]
    items = [item(person, run) for run in runs]
    orders = [items, items[::-1]] * 6
    kept = await asyncio.gather(*(keep(person, *order) for order in orders))
    assert kept == [[(True, False)] * 20] * len(orders)


@pytest.mark.parametrize("count", [0, 101])
async def test_how_many_there_may_be(person: Person, count: int) -> None:
    run = (await person.begin()).run
    refusal = await person.refusal(pb.CheckpointRunsRequest(items=[item(person, run)] * count))
    assert isinstance(refusal, InvalidArgument)
    assert refusal.metadata["field"] == "items"
