"""Runs that nobody owns are claimed: by one instance each, the longest forsaken first, fairly, and never from an owner who lives."""

import asyncio
from typing import Any

import asyncpg
import pytest
from google.protobuf.duration_pb2 import Duration

from parley.data.v1 import data_pb2 as pb
from runtime.errors import InvalidArgument, PermissionDenied
from tests.contract.data.person import (
    Person,
    Service,
    checkpoint_request,
    claim_request,
    finish_request,
    lapse,
    load_request,
    release_request,
    retry_request,
    text,
)

SHORT = Duration(nanos=1_000_000)
LAPSED, RELEASED, QUEUED = pb.Claim.KIND_LAPSED, pb.Claim.KIND_RELEASED, pb.Claim.KIND_QUEUED
ONE = pb.ActiveLimits(per_user=1)

pytestmark = pytest.mark.usefixtures("nothing_to_claim")


async def suspect(owner: asyncpg.Connection, run: pb.Run, ago: str) -> None:
    """Moves the moment in which a lease was first seen lapsed."""
    moved = await owner.execute(
        "UPDATE chat.run SET suspected_at = clock_timestamp() - $2::text::interval WHERE id::text = $1 AND suspected_at IS NOT NULL",
        run.id,
        ago,
    )
    assert moved == "UPDATE 1"


# --- lapsed leases


async def test_a_run_that_is_owned_is_nobodys_to_claim(person: Person, claimer: Person) -> None:
    await person.begin()
    assert await claimer.claim() == []


async def test_a_lapsed_run_has_a_new_owner_and_a_higher_fence(
    person: Person, claimer: Person, owner: asyncpg.Connection
) -> None:
    run = (await person.begin()).run
    await lapse(owner, run)
    (claim,) = await claimer.claim()
    assert (claim.kind, claim.previous_owner) == (LAPSED, "chat-1")
    assert (claim.user_id, claim.org_id) == (person.user_id, person.org_id)
    assert (claim.run.id, claim.run.owner, claim.run.fence) == (run.id, "chat-2", 2)
    assert (claim.run.status, claim.run.tries, claim.run.takeovers) == (pb.RUN_STATUS_RUNNING, 1, 1)
    assert claim.run == (await person.stored(run.id)).run
    assert await claimer.claim() == []


async def test_a_claim_says_with_what_role_its_run_was_begun(
    service: Service, claimer: Person, owner: asyncpg.Connection
) -> None:
    """Of the credential, not of the user: whoever goes on with it must not be able to do more."""
    program = service.person(role="member")
    chief = service.person(user_id=program.user_id, org=program.org_id, role="owner")
    lapsed = (await program.begin()).run
    queued = (await chief.begin(background=True)).run
    await lapse(owner, lapsed)
    claims = {claim.run.id: claim.begun_as for claim in await claimer.claim()}
    assert claims == {lapsed.id: "member", queued.id: "owner"}


async def test_a_lapsed_lease_is_suspected_first_and_claimed_when_that_has_lasted(
    person: Person, claimer: Person, owner: asyncpg.Connection
) -> None:
    run = (await person.begin()).run
    await lapse(owner, run)
    three = Duration(seconds=3)
    assert await claimer.claim(suspicion=three) == []
    assert await claimer.claim(suspicion=three) == []
    await suspect(owner, run, "4 seconds")
    assert [claim.run.id for claim in await claimer.claim(suspicion=three)] == [run.id]


async def test_an_owner_that_renews_is_suspected_no_longer(
    person: Person, claimer: Person, owner: asyncpg.Connection
) -> None:
    """Also after a lapse: the suspicion begins anew with the next one."""
    run = (await person.begin()).run
    await lapse(owner, run)
    three = Duration(seconds=3)
    assert await claimer.claim(suspicion=three) == []
    await suspect(owner, run, "1 hour")
    await person.call(checkpoint_request(run.id, text("alive")))
    assert await claimer.claim(suspicion=three) == []
    await lapse(owner, run)
    assert await claimer.claim(suspicion=three) == []
    assert (await person.stored(run.id)).run.fence == 1


@pytest.mark.parametrize("make", [checkpoint_request, finish_request, release_request, retry_request, load_request])
async def test_the_owner_before_can_write_no_more(
    person: Person, claimer: Person, owner: asyncpg.Connection, make: Any
) -> None:
    run = (await person.begin()).run
    await person.call(checkpoint_request(run.id, text("so far")))
    await lapse(owner, run)
    await claimer.claim()
    before = await person.stored(run.id)
    refusal = await person.refusal(make(run.id, fence=1))
    assert refusal.code == "STALE_FENCE"
    assert await person.stored(run.id) == before


async def test_the_new_owner_loads_goes_on_and_ends(person: Person, claimer: Person, owner: asyncpg.Connection) -> None:
    opened = (await person.create()).id
    await person.turn(opened, "1", "2")
    run = (await person.begin(opened, "3")).run
    await person.call(checkpoint_request(run.id, text("4, so"), last_seq=7))
    await lapse(owner, run)
    await claimer.claim()
    loaded = await person.call(load_request(run.id, fence=2))
    assert (loaded.run.last_seq, list(loaded.answer.parts)) == (7, [text("4, so")])
    assert list(loaded.user_message.parts) == [text("3")]
    assert ["".join(part.text for part in message.parts) for message in loaded.history] == ["1", "2"]
    assert loaded.untitled
    await person.call(checkpoint_request(run.id, text("4, so far"), fence=2, last_seq=90))
    assert (await person.finish(run, text("4, so far so good"), fence=2)).status == pb.RUN_STATUS_COMPLETED
    assert (await person.refusal(load_request(run.id, fence=2))).code == "RUN_ENDED"


@pytest.mark.parametrize("background", [False, True])
async def test_a_run_that_nobody_can_take_up_comes_to_an_end(
    person: Person, claimer: Person, owner: asyncpg.Connection, background: bool
) -> None:
    """Its user has gone, say: whoever claims it gets no token, and drops it."""
    run = (await person.begin(background=background)).run
    if background:
        await claimer.claim()
    for takeovers in range(1, 6):
        await lapse(owner, run)
        assert [claim.run.takeovers for claim in await claimer.claim()] == [takeovers]
    assert await claimer.claim() == []
    await lapse(owner, run)
    assert await claimer.claim() == []
    stored = await person.stored(run.id)
    assert (stored.run.status, stored.answer.state) == (pb.RUN_STATUS_INTERRUPTED, pb.MESSAGE_STATE_INTERRUPTED)
    assert stored.run.last_seq == 5
    assert (await person.refusal(checkpoint_request(run.id, fence=6))).code == "RUN_ENDED"
    dead = await owner.fetchval("SELECT dead_lettered_at IS NOT NULL FROM chat.run WHERE id::text = $1", run.id)
    assert dead is background


# --- handing over


async def test_a_released_run_is_claimed_at_once_and_that_is_no_crash(person: Person, claimer: Person) -> None:
    run = (await person.begin()).run
    await person.call(release_request(run.id, text("so far"), last_seq=8))
    stored = await person.stored(run.id)
    assert (stored.run.status, stored.run.last_seq) == (pb.RUN_STATUS_RUNNING, 8)
    assert list(stored.answer.parts) == [text("so far")]
    (claim,) = await claimer.claim(suspicion=Duration(seconds=60), active_limits=ONE)
    assert (claim.kind, claim.previous_owner, claim.run.id) == (RELEASED, "chat-1", run.id)
    assert (claim.run.takeovers, claim.run.tries, claim.run.fence) == (0, 1, 2)


@pytest.mark.parametrize("make", [checkpoint_request, finish_request, retry_request, load_request])
async def test_who_gave_a_run_back_owns_it_no_more(person: Person, make: Any) -> None:
    run = (await person.begin()).run
    await person.call(release_request(run.id, text("so far")))
    before = await person.stored(run.id)
    assert (await person.refusal(make(run.id))).code == "STALE_FENCE"
    assert await person.stored(run.id) == before


async def test_giving_back_twice_changes_nothing(person: Person) -> None:
    run = (await person.begin()).run
    await person.call(release_request(run.id, text("so far")))
    before = await person.stored(run.id)
    await person.call(release_request(run.id, text("something else"), last_seq=9))
    assert await person.stored(run.id) == before


async def test_an_older_hand_over_takes_no_text_back(person: Person) -> None:
    run = (await person.begin()).run
    await person.call(checkpoint_request(run.id, text("Hello"), last_seq=6))
    await person.call(release_request(run.id, text("Hel"), last_seq=4))
    stored = await person.stored(run.id)
    assert (list(stored.answer.parts), stored.run.last_seq) == ([text("Hello")], 6)


async def test_an_ended_run_cannot_be_given_back(person: Person) -> None:
    run = (await person.begin()).run
    await person.finish(run)
    assert (await person.refusal(release_request(run.id))).code == "RUN_ENDED"


# --- order and fairness


async def test_released_come_before_lapsed_and_those_before_queued(
    service: Service, claimer: Person, owner: asyncpg.Connection
) -> None:
    people = [service.person() for _ in range(3)]
    await people[0].begin(background=True)
    lapsed = (await people[1].begin()).run
    released = (await people[2].begin()).run
    await lapse(owner, lapsed)
    await people[2].call(release_request(released.id))
    kinds = [(await claimer.claim(max_runs=1))[0].kind for _ in range(3)]
    assert kinds == [RELEASED, LAPSED, QUEUED]


async def test_each_users_oldest_comes_before_any_users_second(service: Service, claimer: Person) -> None:
    busy, modest = service.person(), service.person()
    of_busy = [(await busy.begin(background=True)).run.id for _ in range(3)]
    of_modest = [(await modest.begin(background=True)).run.id for _ in range(2)]
    order = [claim.run.id for claim in await claimer.claim()]
    assert order == [of_busy[0], of_modest[0], of_busy[1], of_modest[1], of_busy[2]]


async def test_a_user_is_given_no_more_than_may_be_active(service: Service, claimer: Person) -> None:
    one, two = service.person(), service.person()
    first = [(await one.begin(background=True)).run for _ in range(3)]
    await two.begin(background=True)
    claims = await claimer.claim(active_limits=ONE)
    assert [claim.user_id for claim in claims] == [one.user_id, two.user_id]
    assert await claimer.claim(active_limits=ONE) == []
    await one.finish(first[0])
    assert [claim.run.id for claim in await claimer.claim(active_limits=ONE)] == [first[1].id]


async def test_a_conversation_is_given_no_more_than_may_be_active(person: Person, claimer: Person) -> None:
    """What waits for its conversation holds up no other one of the same user."""
    one, two = (await person.create()).id, (await person.create()).id
    first = (await person.begin(one, background=True)).run
    waits = (await person.begin(one, background=True)).run
    other = (await person.begin(two, background=True)).run
    limits = pb.ActiveLimits(per_user=2, per_conversation=1)
    assert {claim.run.id for claim in await claimer.claim(active_limits=limits)} == {first.id, other.id}
    await person.finish(first)
    assert [claim.run.id for claim in await claimer.claim(active_limits=limits)] == [waits.id]


async def test_no_more_are_claimed_than_asked_for(person: Person, claimer: Person, owner: asyncpg.Connection) -> None:
    lapsed = [(await person.begin()).run for _ in range(3)]
    await lapse(owner, *lapsed)
    await person.begin(background=True)
    assert [len(await claimer.claim(max_runs=2)) for _ in range(3)] == [2, 2, 0]


# --- several claimers


async def test_two_claimers_at_once_never_get_the_same_run(
    service: Service, claimer: Person, owner: asyncpg.Connection
) -> None:
    lapsed = [(await service.person().begin()).run for _ in range(12)]
    queued = [(await service.person().begin(background=True)).run for _ in range(12)]
    await lapse(owner, *lapsed)
    rounds = await asyncio.gather(*(claimer.claim(owner=f"chat-{number}", max_runs=7) for number in range(8)))
    claims = [claim for claimed in rounds for claim in claimed]
    assert len({claim.run.id for claim in claims}) == len(claims)
    rest = await claimer.claim()
    assert {claim.run.id for claim in (*claims, *rest)} == {run.id for run in (*lapsed, *queued)}
    for number, claimed in enumerate(rounds):
        assert {claim.run.owner for claim in claimed} <= {f"chat-{number}"}


async def test_claimers_at_once_keep_to_a_users_limit(person: Person, claimer: Person, stored: Any) -> None:
    for _ in range(10):
        await person.begin(background=True)
    rounds = await asyncio.gather(*(claimer.claim(active_limits=ONE) for _ in range(8)))
    assert sum(map(len, rounds)) <= 1
    assert sum(map(len, rounds)) + len(await claimer.claim(active_limits=ONE)) == 1


async def test_a_run_that_is_being_renewed_is_passed_over(
    person: Person, claimer: Person, owner: asyncpg.Connection
) -> None:
    """Whoever holds the row is not waited for, and is not robbed."""
    run = (await person.begin()).run
    await lapse(owner, run)
    async with owner.transaction():
        await owner.execute("SELECT FROM chat.run WHERE id::text = $1 FOR NO KEY UPDATE", run.id)
        assert await claimer.claim() == []
    assert [claim.run.id for claim in await claimer.claim()] == [run.id]


# --- who may, and what is refused


@pytest.mark.parametrize("role", ["owner", "admin", "member", "", "Service"])
async def test_only_a_service_claims(service: Service, role: str) -> None:
    refusal = await service.person(role=role).refusal(claim_request())
    assert isinstance(refusal, PermissionDenied)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("owner", ""),
        ("owner", "x" * 201),
        ("owner", "\x00"),
        ("lease", None),
        ("lease", Duration(seconds=3601)),
        ("lease", Duration(seconds=-1)),
        ("suspicion", Duration(seconds=-1)),
        ("suspicion", Duration(seconds=3601)),
        ("suspicion", Duration(seconds=1, nanos=2_000_000_000)),
        ("max_runs", 0),
        ("max_runs", -1),
        ("max_runs", 101),
        ("active_limits.per_user", pb.ActiveLimits(per_user=-1)),
        ("active_limits.per_conversation", pb.ActiveLimits(per_conversation=-1)),
        ("active_limits.queued_per_user", pb.ActiveLimits(queued_per_user=-1)),
    ],
    ids=lambda value: repr(value)[:32].strip(),
)
async def test_a_claims_field_that_breaks_its_rule_is_named(claimer: Person, field: str, value: Any) -> None:
    refusal = await claimer.refusal(claim_request(**{field.partition(".")[0]: value}))
    assert isinstance(refusal, InvalidArgument)
    assert refusal.metadata["field"] == field


@pytest.mark.parametrize(
    ("make", "field", "value"),
    [
        (load_request, "fence", 0),
        (load_request, "fence", -1),
        (load_request, "history_max_messages", -1),
        (load_request, "history_max_messages", 201),
        (load_request, "history_max_tokens", -1),
        (release_request, "fence", 0),
        (release_request, "last_seq", -1),
        (release_request, "last_seq", 2**63 - 1),
        (retry_request, "fence", 0),
        (retry_request, "error_reason", ""),
        (retry_request, "error_reason", "went wrong"),
        (retry_request, "error_reason", "X" * 64),
        (retry_request, "delay", Duration(seconds=-1)),
        (retry_request, "delay", Duration(seconds=86_401)),
        (retry_request, "last_seq", -1),
        (retry_request, "last_seq", 2**63 - 1),
        (retry_request, "usage.input_tokens", pb.Usage(input_tokens=-1)),
        (checkpoint_request, "usage.input_tokens", pb.Usage(input_tokens=-1)),
    ],
    ids=lambda value: getattr(value, "__name__", repr(value)[:32].strip()),
)
async def test_a_field_that_breaks_its_rule_is_named(person: Person, make: Any, field: str, value: Any) -> None:
    run = (await person.begin()).run
    refusal = await person.refusal(make(run.id, **{field.partition(".")[0]: value}))
    assert isinstance(refusal, InvalidArgument)
    assert refusal.metadata["field"] == field


@pytest.mark.parametrize("make", [release_request, retry_request])
async def test_a_part_of_no_kind_is_refused(person: Person, make: Any) -> None:
    run = (await person.begin()).run
    refusal = await person.refusal(make(run.id, pb.Part()))
    assert refusal.metadata["field"] == "parts"
