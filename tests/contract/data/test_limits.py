"""No more runs are active than may be: held by the database, whatever happens at the same instant and whoever crashes."""

import asyncio
from typing import Any

import asyncpg
import pytest
from google.protobuf.duration_pb2 import Duration

from parley.data.v1 import data_pb2 as pb
from runtime.errors import Conflict, InvalidArgument, ResourceExhausted
from tests.contract.data.person import Person, Service, begin_request, checkpoint_request, claim_request, text

ONE = pb.ActiveLimits(per_user=1, queued_per_user=3)
ONE_HERE = pb.ActiveLimits(per_conversation=1)
REJECT, ENQUEUE, INTERRUPT = pb.ON_CONFLICT_REJECT, pb.ON_CONFLICT_ENQUEUE, pb.ON_CONFLICT_INTERRUPT

HELD_UP = """
    SELECT pid FROM pg_stat_activity
    WHERE datname = current_database() AND usename = 'parley_data' AND wait_event_type = 'Lock'
"""


async def active(person: Person, conversation_id: str) -> list[str]:
    request = pb.ListRunsRequest(conversation_id=conversation_id, active_only=True)
    return [run.id for run in (await person.call(request)).runs]


# --- reject


@pytest.mark.parametrize("on_conflict", [REJECT, pb.ON_CONFLICT_UNSPECIFIED])
async def test_a_second_run_of_a_user_is_refused_and_names_the_first(person: Person, on_conflict: Any) -> None:
    first = (await person.begin(active_limits=ONE)).run
    for place in ("", (await person.create()).id, first.conversation_id):
        refusal = await person.refusal(begin_request(place, active_limits=ONE, on_conflict=on_conflict))
        assert isinstance(refusal, Conflict)
        assert (refusal.code, refusal.metadata) == ("CONCURRENT_REQUEST", {"run_id": first.id})


async def test_a_refused_message_leaves_nothing(person: Person) -> None:
    first = (await person.begin(active_limits=ONE)).run
    await person.refusal(begin_request(active_limits=ONE))
    await person.refusal(begin_request(active_limits=ONE, client_message_id="m-1"))
    assert len((await person.call(pb.ListConversationsRequest())).conversations) == 1
    before = await person.messages(first.conversation_id)
    await person.refusal(begin_request(first.conversation_id, active_limits=ONE))
    assert await person.messages(first.conversation_id) == before


async def test_the_end_of_a_run_makes_room(person: Person) -> None:
    first = (await person.begin(active_limits=ONE)).run
    await person.finish(first)
    assert (await person.begin(active_limits=ONE)).run.status == pb.RUN_STATUS_RUNNING


async def test_a_limit_is_of_one_user_in_one_organization(service: Service, person: Person) -> None:
    await person.begin(active_limits=ONE)
    await service.person(org=person.org_id).begin(active_limits=ONE)
    await service.person(user_id=person.user_id).begin(active_limits=ONE)


async def test_a_conversations_limit_leaves_others_alone(person: Person) -> None:
    first = (await person.begin(active_limits=ONE_HERE)).run
    refusal = await person.refusal(begin_request(first.conversation_id, active_limits=ONE_HERE))
    assert refusal.metadata == {"run_id": first.id}
    await person.begin(active_limits=ONE_HERE)


async def test_a_limit_may_be_more_than_one(person: Person) -> None:
    two = pb.ActiveLimits(per_user=2)
    for _ in range(2):
        await person.begin(active_limits=two)
    assert (await person.refusal(begin_request(active_limits=two))).code == "CONCURRENT_REQUEST"


async def test_a_resend_of_an_active_run_is_no_second_one(person: Person) -> None:
    for place in ("", (await person.create()).id):
        first = await person.begin(place, client_message_id="m-1", active_limits=ONE)
        again = await person.begin(place, client_message_id="m-1", active_limits=ONE)
        assert (again.existing, again.run) == (True, first.run)
        await person.finish(first.run)


@pytest.mark.parametrize("named", [True, False], ids=["one conversation", "new ones"])
async def test_of_many_at_the_same_instant_one_begins(person: Person, named: bool) -> None:
    place = (await person.create()).id if named else ""
    begun = await asyncio.gather(
        *(person.begin(place, str(number), active_limits=ONE) for number in range(12)), return_exceptions=True
    )
    assert sum(isinstance(each, pb.BeginRunResponse) for each in begun) == 1
    assert {each.code for each in begun if isinstance(each, Conflict)} == {"CONCURRENT_REQUEST"}


@pytest.mark.parametrize("named", [True, False], ids=["named", "new"])
async def test_of_many_resends_at_the_same_instant_one_begins_and_all_return_it(person: Person, named: bool) -> None:
    place = (await person.create()).id if named else ""
    begun = await asyncio.gather(*(person.begin(place, client_message_id="m-1", active_limits=ONE) for _ in range(12)))
    assert len({each.run.id for each in begun}) == 1
    assert sorted(each.existing for each in begun) == [False] + [True] * 11


async def test_without_limits_nothing_is_in_the_way(person: Person) -> None:
    first = (await person.begin()).run
    assert (await person.begin(first.conversation_id)).run.status == pb.RUN_STATUS_RUNNING


@pytest.mark.parametrize("end", ["the caller leaves", "the connection breaks"])
async def test_who_goes_away_while_a_run_begins_leaves_nothing_locked(
    person: Person, owner: asyncpg.Connection, end: str
) -> None:
    """Held up at its conversation, the call has the user's turn already."""
    opened = (await person.create()).id
    async with owner.transaction():
        await owner.execute("SELECT FROM chat.conversation WHERE id::text = $1 FOR UPDATE", opened)
        call = asyncio.ensure_future(person.begin(opened, active_limits=ONE))
        while (backend := await owner.fetchval(HELD_UP)) is None:  # noqa: ASYNC110 - the server tells nobody
            await asyncio.sleep(0.01)
        if end == "the caller leaves":
            call.cancel()
        else:
            await owner.execute("SELECT pg_terminate_backend($1)", backend)
        await asyncio.wait([call])
        while await owner.fetchval(HELD_UP) is not None:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
    assert (await person.begin(active_limits=ONE)).run.status == pb.RUN_STATUS_RUNNING
    assert await person.messages(opened) == []


# --- enqueue


async def test_a_run_that_waits_is_claimed_when_those_before_it_have_ended(service: Service, person: Person) -> None:
    first = (await person.begin(content="1", active_limits=ONE)).run
    waits = await person.begin(first.conversation_id, "3", active_limits=ONE, on_conflict=ENQUEUE)
    assert (waits.run.status, waits.run.owner, waits.run.fence) == (pb.RUN_STATUS_QUEUED, "", 0)
    request = claim_request(active_limits=ONE, suspicion=Duration(seconds=3600))
    claimer = service.claimer()
    claims = (await claimer.call(request)).claims
    assert waits.run.id not in [claim.run.id for claim in claims]
    await person.finish(first, text("2"))
    claims = (await claimer.call(request)).claims
    assert waits.run.id in [claim.run.id for claim in claims]
    loaded = await person.call(
        pb.LoadRunRequest(run_id=waits.run.id, fence=1, history_max_messages=9, history_max_tokens=99)
    )
    assert ["".join(part.text for part in message.parts) for message in loaded.history] == ["1", "2"]


async def test_where_nothing_is_in_the_way_it_begins_at_once(person: Person) -> None:
    for on_conflict in (ENQUEUE, INTERRUPT):
        begun = await person.begin(active_limits=ONE, on_conflict=on_conflict)
        assert (begun.run.status, list(begun.interrupted)) == (pb.RUN_STATUS_RUNNING, [])
        await person.finish(begun.run)


async def test_what_waits_is_in_the_way_too(person: Person) -> None:
    first = (await person.begin(active_limits=ONE)).run
    waits = (await person.begin(active_limits=ONE, on_conflict=ENQUEUE)).run
    await person.finish(first)
    assert (await person.refusal(begin_request(active_limits=ONE))).metadata == {"run_id": waits.id}


@pytest.mark.parametrize("field", [{"background": True}, {"on_conflict": ENQUEUE}], ids=["background", "enqueue"])
async def test_a_full_queue_takes_no_more_and_nothing_is_left_of_it(person: Person, field: dict[str, Any]) -> None:
    await person.begin(active_limits=ONE)
    for _ in range(3):
        await person.begin(active_limits=ONE, **field)
    refusal = await person.refusal(begin_request(active_limits=ONE, **field))
    assert isinstance(refusal, ResourceExhausted)
    assert refusal.code == "QUEUE_FULL"
    assert len((await person.call(pb.ListConversationsRequest())).conversations) == 4


async def test_of_many_at_the_same_instant_as_many_are_queued_as_may_be(person: Person) -> None:
    begun = await asyncio.gather(
        *(person.begin(active_limits=ONE, background=True) for _ in range(10)), return_exceptions=True
    )
    assert sum(isinstance(each, pb.BeginRunResponse) for each in begun) == 3


async def test_a_background_run_waits_whatever_else_is_active(person: Person) -> None:
    assert (await person.begin(background=True)).run.status == pb.RUN_STATUS_QUEUED
    await person.begin()
    assert (await person.begin(background=True, active_limits=ONE)).run.status == pb.RUN_STATUS_QUEUED


# --- interrupt


async def test_those_in_the_way_are_asked_to_stop_and_the_new_one_waits(person: Person) -> None:
    first = (await person.begin(active_limits=ONE)).run
    begun = await person.begin(active_limits=ONE, on_conflict=INTERRUPT)
    assert begun.run.status == pb.RUN_STATUS_QUEUED
    (asked,) = begun.interrupted
    assert (asked.id, asked.status, asked.owner, asked.cancel_requested) == (
        first.id,
        pb.RUN_STATUS_RUNNING,
        "chat-1",
        True,
    )
    assert (await person.call(checkpoint_request(first.id))).cancel_requested


async def test_what_waits_in_the_queue_is_not_stopped_and_waited_for(person: Person) -> None:
    """Somebody has asked for it, and nobody sees that it is gone."""
    waited = (await person.begin(background=True)).run
    begun = await person.begin(active_limits=ONE, on_conflict=INTERRUPT)
    assert (list(begun.interrupted), begun.run.status) == ([], pb.RUN_STATUS_QUEUED)
    assert (await person.stored(waited.id)).run.status == pb.RUN_STATUS_QUEUED


async def test_what_is_answered_in_the_background_is_not_stopped(person: Person, claimer: Person) -> None:
    background = (await person.begin(background=True)).run
    await claimer.claim()
    begun = await person.begin(background.conversation_id, active_limits=ONE, on_conflict=INTERRUPT)
    assert (list(begun.interrupted), begun.run.status) == ([], pb.RUN_STATUS_QUEUED)
    stored = (await person.stored(background.id)).run
    assert (stored.status, stored.cancel_requested) == (pb.RUN_STATUS_RUNNING, False)


async def test_the_conversations_own_answer_gives_way_before_any_other(person: Person) -> None:
    three = pb.ActiveLimits(per_user=3)
    here = (await person.begin(active_limits=three)).run
    others = [(await person.begin(active_limits=three)).run for _ in range(2)]
    begun = await person.begin(here.conversation_id, active_limits=three, on_conflict=INTERRUPT)
    assert [run.id for run in begun.interrupted] == [here.id]
    assert not any([(await person.stored(run.id)).run.cancel_requested for run in others])


async def test_at_a_users_limit_the_newest_answer_gives_way_and_then_the_next(person: Person) -> None:
    two = pb.ActiveLimits(per_user=2)
    older, newer = [(await person.begin(active_limits=two)).run for _ in range(2)]
    for asked in (newer, older):
        begun = await person.begin(active_limits=two, on_conflict=INTERRUPT)
        assert [run.id for run in begun.interrupted] == [asked.id]


async def test_only_those_in_the_way_are_asked(person: Person) -> None:
    here = (await person.begin(active_limits=ONE_HERE)).run
    elsewhere = (await person.begin(active_limits=ONE_HERE)).run
    begun = await person.begin(here.conversation_id, active_limits=ONE_HERE, on_conflict=INTERRUPT)
    assert [run.id for run in begun.interrupted] == [here.id]
    assert not (await person.stored(elsewhere.id)).run.cancel_requested


async def test_an_interruption_stops_nothing_where_the_queue_is_full(person: Person) -> None:
    first = (await person.begin(active_limits=ONE)).run
    for _ in range(3):
        await person.begin(active_limits=ONE, background=True)
    refusal = await person.refusal(begin_request(active_limits=ONE, on_conflict=INTERRUPT))
    assert refusal.code == "QUEUE_FULL"
    assert not (await person.stored(first.id)).run.cancel_requested


async def test_interruptions_at_the_same_instant_wait_for_one_another(person: Person) -> None:
    """Each is somebody's message, and is answered."""
    limits = pb.ActiveLimits(per_user=1, per_conversation=1)
    first = (await person.begin(active_limits=limits)).run
    begun = await asyncio.gather(
        *(
            person.begin(first.conversation_id, str(number), active_limits=limits, on_conflict=INTERRUPT)
            for number in range(8)
        )
    )
    assert {each.run.status for each in begun} == {pb.RUN_STATUS_QUEUED}
    assert {run.id for each in begun for run in each.interrupted} == {first.id}
    assert len(await active(person, first.conversation_id)) == 9


# --- what is refused


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("max_tries", -1),
        ("max_tries", 11),
        ("on_conflict", 99),
        ("active_limits.per_user", pb.ActiveLimits(per_user=-1)),
        ("active_limits.per_conversation", pb.ActiveLimits(per_conversation=-1)),
        ("active_limits.queued_per_user", pb.ActiveLimits(queued_per_user=-1)),
    ],
    ids=lambda value: repr(value)[:40].strip(),
)
async def test_a_field_that_breaks_its_rule_is_named(person: Person, field: str, value: Any) -> None:
    refusal = await person.refusal(begin_request(**{field.partition(".")[0]: value}))
    assert isinstance(refusal, InvalidArgument)
    assert refusal.metadata["field"] == field
