"""A user begins no more turns in a minute, an hour and a day than may be."""

import asyncio
from typing import Any

import pytest

from parley.data.v1 import data_pb2 as pb
from runtime.errors import InvalidArgument, ResourceExhausted
from tests.contract.data.person import Person, Service, begin_request


def limits(**of: int) -> pb.RequestLimits:
    return pb.RequestLimits(**of)


@pytest.mark.parametrize(("window", "length_s"), [("minute", 60), ("hour", 3600), ("day", 86400)])
async def test_a_window_slides(service: Service, person: Person, window: str, length_s: int) -> None:
    """Two fit; a third does once the first has left the window, not before, and not the second with it."""
    two = limits(**{f"per_{window}": 2})
    await person.begin(request_limits=two)
    service.clock.advance(length_s / 2)
    await person.begin(request_limits=two)
    service.clock.advance(length_s / 2 - 1)
    refusal = await person.refusal(begin_request(request_limits=two))
    assert isinstance(refusal, ResourceExhausted)
    assert refusal.code == ("DAILY_LIMIT_EXCEEDED" if window == "day" else "RATE_LIMIT_EXCEEDED")
    told = dict(refusal.metadata)
    assert told.pop("resets_at").endswith("Z")
    assert told == {"limit_type": f"requests_{window}", "current": "2", "limit": "2"}
    assert refusal.retry_after_s == pytest.approx(1, abs=0.01)
    service.clock.advance(1.01)
    await person.begin(request_limits=two)
    refusal = await person.refusal(begin_request(request_limits=two))
    assert refusal.retry_after_s == pytest.approx(length_s / 2 - 1, abs=1)


async def test_every_window_holds(person: Person) -> None:
    both = limits(per_minute=3, per_day=2)
    for _ in range(2):
        await person.begin(request_limits=both)
    assert (await person.refusal(begin_request(request_limits=both))).code == "DAILY_LIMIT_EXCEEDED"


async def test_of_many_at_the_same_instant_as_many_begin_as_may(person: Person) -> None:
    begun = await asyncio.gather(
        *(person.begin(content=str(number), request_limits=limits(per_minute=5)) for number in range(20)),
        return_exceptions=True,
    )
    assert sum(isinstance(each, pb.BeginRunResponse) for each in begun) == 5
    assert {each.code for each in begun if isinstance(each, ResourceExhausted)} == {"RATE_LIMIT_EXCEEDED"}


@pytest.mark.parametrize("named", [True, False], ids=["named", "new"])
async def test_a_resend_neither_counts_nor_is_refused(person: Person, named: bool) -> None:
    two = limits(per_minute=2)
    place = (await person.create()).id if named else ""
    first = await person.begin(place, client_message_id="m-1", request_limits=two)
    for _ in range(3):
        assert (await person.begin(place, client_message_id="m-1", request_limits=two)).existing
    await person.begin(request_limits=two)
    again = await person.begin(place, client_message_id="m-1", request_limits=two)
    assert (again.existing, again.run.id) == (True, first.run.id)


async def test_what_was_refused_does_not_count(person: Person) -> None:
    one, two = pb.ActiveLimits(per_user=1), limits(per_minute=2)
    first = (await person.begin(active_limits=one, request_limits=two)).run
    for _ in range(3):
        refusal = await person.refusal(begin_request(active_limits=one, request_limits=two))
        assert refusal.code == "CONCURRENT_REQUEST"
    await person.finish(first)
    await person.begin(request_limits=two)


async def test_a_refused_message_leaves_nothing(person: Person) -> None:
    await person.begin(request_limits=limits(per_minute=1))
    await person.refusal(begin_request(request_limits=limits(per_minute=1)))
    assert len((await person.call(pb.ListConversationsRequest())).conversations) == 1


async def test_deleting_what_was_said_makes_no_room(person: Person) -> None:
    one = limits(per_day=1)
    run = (await person.begin(request_limits=one)).run
    await person.call(pb.DeleteConversationRequest(conversation_id=run.conversation_id))
    assert (await person.refusal(begin_request(request_limits=one))).code == "DAILY_LIMIT_EXCEEDED"


async def test_a_limit_is_of_one_user_in_one_organization(service: Service, person: Person) -> None:
    one = limits(per_minute=1)
    await person.begin(request_limits=one)
    await service.person(org=person.org_id).begin(request_limits=one)
    await service.person(user_id=person.user_id).begin(request_limits=one)


async def test_without_limits_nobody_is_refused(person: Person) -> None:
    for _ in range(12):
        await person.begin(request_limits=limits())


async def test_a_limit_that_was_raised_holds_from_the_next_turn_on(person: Person) -> None:
    for _ in range(2):
        await person.begin(request_limits=limits(per_minute=2))
    await person.refusal(begin_request(request_limits=limits(per_minute=2)))
    await person.begin(request_limits=limits(per_minute=3))
    await person.refusal(begin_request(request_limits=limits(per_minute=3)))


@pytest.mark.parametrize("field", ["per_minute", "per_hour", "per_day"])
@pytest.mark.parametrize("value", [-1, 10_001])
async def test_a_bound_that_breaks_its_rule_is_named(person: Person, field: str, value: int) -> None:
    given: dict[str, Any] = {"request_limits": limits(**{field: value})}
    refusal = await person.refusal(begin_request(**given))
    assert isinstance(refusal, InvalidArgument)
    assert refusal.metadata["field"] == f"request_limits.{field}"
