"""Background runs that were given up are kept for an operator: to look at, to try again, to drop; each organization sees its own."""

from typing import Any

import pytest

from parley.data.v1 import data_pb2 as pb
from runtime.errors import InvalidArgument, NotFound, PermissionDenied
from runtime.validation import encode_page_token
from tests.contract.data.person import UNKNOWN_ID, Person, Service, load_request, retry_request, text

ENDS = [pb.RUN_STATUS_FAILED, pb.RUN_STATUS_INTERRUPTED]


pytestmark = pytest.mark.usefixtures("nothing_to_claim")


async def letters(person: Person, **fields: Any) -> list[pb.DeadLetter]:
    return list((await person.call(pb.ListDeadLettersRequest(**fields))).dead_letters)


async def give_up(person: Person, claimer: Person, status: Any = pb.RUN_STATUS_FAILED) -> pb.Run:
    """Makes a background run that is given up with its first try."""
    run = (await person.begin(background=True, max_tries=3)).run
    await claimer.claim()
    reason = "PROVIDER_UNAVAILABLE" if status == pb.RUN_STATUS_FAILED else ""
    return await person.finish(run, text("partly"), status=status, error_reason=reason)


@pytest.mark.parametrize("status", ENDS, ids=pb.RunStatus.Name)
async def test_a_background_run_that_is_given_up_is_listed_with_its_reason(
    person: Person, claimer: Person, status: Any
) -> None:
    ended = await give_up(person, claimer, status)
    (letter,) = await letters(person)
    assert (letter.run, letter.user_id) == (ended, person.user_id)
    assert letter.HasField("create_time")


async def test_the_last_failed_try_makes_a_dead_letter_and_no_earlier_one(person: Person, claimer: Person) -> None:
    run = (await person.begin(background=True, max_tries=2)).run
    for fence in (1, 2):
        assert await letters(person) == []
        await claimer.claim()
        await person.call(retry_request(run.id, fence=fence))
    (letter,) = await letters(person)
    assert (letter.run.id, letter.run.tries, letter.run.error_reason) == (run.id, 2, "PROVIDER_UNAVAILABLE")


@pytest.mark.parametrize("status", [pb.RUN_STATUS_COMPLETED, pb.RUN_STATUS_CANCELLED, pb.RUN_STATUS_LIMITED])
async def test_any_other_end_makes_none(person: Person, claimer: Person, status: Any) -> None:
    await give_up(person, claimer, status)
    assert await letters(person) == []


@pytest.mark.parametrize("status", ENDS, ids=pb.RunStatus.Name)
async def test_a_run_somebody_waited_for_makes_none(person: Person, status: Any) -> None:
    reason = "PROVIDER_UNAVAILABLE" if status == pb.RUN_STATUS_FAILED else ""
    await person.finish((await person.begin()).run, status=status, error_reason=reason)
    assert await letters(person) == []


async def test_a_dead_letter_is_tried_again_with_all_its_tries_before_it(person: Person, claimer: Person) -> None:
    ended = await give_up(person, claimer)
    again = (await person.call(pb.RetryDeadLetterRequest(run_id=ended.id))).run
    assert (again.status, again.tries, again.max_tries, again.owner) == (pb.RUN_STATUS_QUEUED, 0, 3, "")
    assert (again.error_reason, again.takeovers, again.HasField("end_time")) == ("", 0, False)
    assert again == (await person.stored(ended.id)).run
    assert (await person.stored(ended.id)).answer.state == pb.MESSAGE_STATE_PARTIAL
    assert await letters(person) == []
    (claim,) = await claimer.claim()
    assert (claim.run.id, claim.run.fence, claim.run.tries) == (ended.id, 2, 1)
    loaded = await person.call(load_request(ended.id, fence=2))
    assert list(loaded.answer.parts) == [text("partly")]
    finished = await person.finish(ended, text("whole"), fence=2)
    assert finished.status == pb.RUN_STATUS_COMPLETED


async def test_a_dead_letter_that_is_dropped_stays_failed(person: Person, claimer: Person) -> None:
    ended = await give_up(person, claimer)
    await person.call(pb.DropDeadLetterRequest(run_id=ended.id))
    assert await letters(person) == []
    assert (await person.stored(ended.id)).run == ended
    assert await claimer.claim() == []


@pytest.mark.parametrize("make", [pb.RetryDeadLetterRequest, pb.DropDeadLetterRequest])
async def test_what_is_no_dead_letter_is_not_found(person: Person, claimer: Person, make: Any) -> None:
    dropped = await give_up(person, claimer)
    await person.call(pb.DropDeadLetterRequest(run_id=dropped.id))
    for given in (UNKNOWN_ID, dropped.id, (await person.begin()).run.id):
        refusal = await person.refusal(make(run_id=given))
        assert isinstance(refusal, NotFound)
        assert refusal.code == "DEAD_LETTER_NOT_FOUND"


async def test_a_deleted_conversation_takes_its_dead_letter_along(person: Person, claimer: Person) -> None:
    ended = await give_up(person, claimer)
    await person.call(pb.DeleteConversationRequest(conversation_id=ended.conversation_id))
    assert await letters(person) == []
    assert (await person.refusal(pb.RetryDeadLetterRequest(run_id=ended.id))).code == "DEAD_LETTER_NOT_FOUND"


async def test_an_operator_sees_everybodys_of_the_organization_and_nobody_elses(
    service: Service, person: Person, claimer: Person
) -> None:
    ended = await give_up(person, claimer)
    elsewhere = await give_up(service.person(), claimer)
    admin = service.person(org=person.org_id, role="admin")
    assert [(letter.run.id, letter.user_id) for letter in await letters(admin)] == [(ended.id, person.user_id)]
    for make in (pb.RetryDeadLetterRequest, pb.DropDeadLetterRequest):
        refusal = await admin.refusal(make(run_id=elsewhere.id))
        assert refusal.code == "DEAD_LETTER_NOT_FOUND"
    assert (await admin.call(pb.RetryDeadLetterRequest(run_id=ended.id))).run.status == pb.RUN_STATUS_QUEUED
    assert [letter.run.id for letter in await letters(claimer)] == [elsewhere.id]


@pytest.mark.parametrize("role", ["member", ""])
@pytest.mark.parametrize(
    "request_",
    [
        pb.ListDeadLettersRequest(),
        pb.RetryDeadLetterRequest(run_id=UNKNOWN_ID),
        pb.DropDeadLetterRequest(run_id=UNKNOWN_ID),
    ],
    ids=lambda request: type(request).__name__,
)
async def test_a_member_may_not(service: Service, role: str, request_: Any) -> None:
    assert isinstance(await service.person(role=role).refusal(request_), PermissionDenied)


async def test_the_newest_comes_first_and_pages_miss_nothing(person: Person, claimer: Person) -> None:
    made = [(await give_up(person, claimer)).id for _ in range(5)]
    seen, token = [], ""
    while True:
        page = await person.call(pb.ListDeadLettersRequest(page_size=2, page_token=token))
        seen += [letter.run.id for letter in page.dead_letters]
        token = page.next_page_token
        if not token:
            break
    assert seen == made[::-1]


@pytest.mark.parametrize("make", [pb.RetryDeadLetterRequest, pb.DropDeadLetterRequest])
@pytest.mark.parametrize("given", ["", "42", "\x00", UNKNOWN_ID + "0"])
async def test_an_id_that_is_no_uuid_is_named(person: Person, make: Any, given: str) -> None:
    refusal = await person.refusal(make(run_id=given))
    assert isinstance(refusal, InvalidArgument)
    assert refusal.metadata["field"] == "run_id"


@pytest.mark.parametrize("size", [-1, 101])
async def test_a_page_size_out_of_bounds_is_named(person: Person, size: int) -> None:
    assert (await person.refusal(pb.ListDeadLettersRequest(page_size=size))).metadata["field"] == "page_size"


async def test_a_page_token_of_another_list_is_named(service: Service, person: Person, claimer: Person) -> None:
    stranger = service.person()
    for _ in range(2):
        await give_up(stranger, claimer)
    token = (await stranger.call(pb.ListDeadLettersRequest(page_size=1))).next_page_token
    place = ("dead_letters", person.org_id)
    for given in (
        token,
        "!",
        encode_page_token(*place, "x", UNKNOWN_ID),
        encode_page_token(*place, "1", "x"),
        encode_page_token(*place, "9" * 19, UNKNOWN_ID),
    ):
        refusal = await person.refusal(pb.ListDeadLettersRequest(page_token=given))
        assert isinstance(refusal, InvalidArgument)
        assert refusal.metadata["field"] == "page_token"
