"""A user makes, reads, renames and deletes conversations, and nobody else's."""

from typing import Any

import asyncpg
import pytest

from parley.data.v1 import data_pb2 as pb
from runtime.errors import InvalidArgument, NotFound, Unauthenticated
from tests.contract.data.person import (
    UNKNOWN_ID,
    Person,
    Service,
    begin_request,
    checkpoint_request,
    finish_request,
    load_request,
    release_request,
    retry_request,
    text,
)

ON_A_CONVERSATION: list[Any] = [
    lambda given: pb.GetConversationRequest(conversation_id=given),
    lambda given: pb.UpdateConversationRequest(conversation_id=given, title="mine now"),
    lambda given: pb.DeleteConversationRequest(conversation_id=given),
    lambda given: pb.ListMessagesRequest(conversation_id=given),
    lambda given: pb.SelectBranchRequest(conversation_id=given, message_id=UNKNOWN_ID),
    lambda given: pb.ListRunsRequest(conversation_id=given),
    begin_request,
]
ON_A_RUN: list[Any] = [
    lambda given: pb.GetRunRequest(run_id=given),
    lambda given: checkpoint_request(given, text("seen")),
    lambda given: finish_request(given, text("done")),
    lambda given: release_request(given, text("seen")),
    lambda given: retry_request(given, text("seen")),
    load_request,
    lambda given: pb.CancelRunRequest(run_id=given),
]


def name_of(make: Any) -> str:
    return type(make("")).__name__


async def test_a_conversation_is_kept_as_it_was_created(service: Service, person: Person) -> None:
    created = await person.create("Trip to Kyoto 京都")
    assert created.title == "Trip to Kyoto 京都"
    assert created.create_time.ToNanoseconds() / 1e9 == pytest.approx(service.clock())
    assert created.update_time == created.create_time
    assert await person.conversation(created.id) == created


@pytest.mark.parametrize("title", ["", "x" * 200, "🙂" * 200])
async def test_a_title_holds_up_to_two_hundred_characters(person: Person, title: str) -> None:
    assert (await person.create(title)).title == title


@pytest.mark.parametrize("title", ["x" * 201, "nul\x00"])
async def test_a_title_that_is_no_title_is_refused(person: Person, title: str) -> None:
    refusal = await person.refusal(pb.CreateConversationRequest(title=title))
    assert isinstance(refusal, InvalidArgument)
    assert refusal.metadata["field"] == "title"


async def test_renaming_changes_the_title_and_counts_as_activity(service: Service, person: Person) -> None:
    created = await person.create("old")
    service.clock.advance(10)
    request = pb.UpdateConversationRequest(conversation_id=created.id, title="new")
    renamed = (await person.call(request)).conversation
    assert (renamed.id, renamed.title, renamed.create_time) == (created.id, "new", created.create_time)
    assert renamed.update_time.ToSeconds() - created.update_time.ToSeconds() == 10
    assert await person.conversation(created.id) == renamed


@pytest.mark.parametrize("title", ["", "x" * 201, "\x00"])
async def test_renaming_needs_a_title(person: Person, title: str) -> None:
    created = await person.create("old")
    refusal = await person.refusal(pb.UpdateConversationRequest(conversation_id=created.id, title=title))
    assert isinstance(refusal, InvalidArgument)
    assert refusal.metadata["field"] == "title"
    assert (await person.conversation(created.id)).title == "old"


async def test_a_title_made_for_an_untitled_conversation_replaces_no_other(service: Service, person: Person) -> None:
    """Made beside the answer, it may come after the user has given one."""
    created = await person.create()
    service.clock.advance(10)
    first = pb.UpdateConversationRequest(conversation_id=created.id, title="made", if_untitled=True)
    titled = (await person.call(first)).conversation
    assert titled.title == "made"
    service.clock.advance(10)
    second = pb.UpdateConversationRequest(conversation_id=created.id, title="other", if_untitled=True)
    assert (await person.call(second)).conversation == titled


async def test_a_deleted_conversation_leaves_nothing(person: Person, stored: Any) -> None:
    begun = await person.begin(content="forget me")
    await person.finish(begun.run, text("forgotten"))
    await person.call(pb.DeleteConversationRequest(conversation_id=begun.run.conversation_id))
    assert (await person.refusal(ON_A_CONVERSATION[0](begun.run.conversation_id))).code == "CONVERSATION_NOT_FOUND"
    owner = await asyncpg.connect(stored.owner_url)
    try:
        for table in ("conversation", "message", "run"):
            rows = await owner.fetchval(f"SELECT count(*) FROM chat.{table} WHERE user_id = $1", person.user_id)
            assert rows == 0, table
    finally:
        await owner.close()


@pytest.mark.parametrize("make", ON_A_RUN, ids=name_of)
async def test_deleting_a_conversation_ends_its_running_run(person: Person, make: Any) -> None:
    begun = await person.begin()
    await person.call(pb.DeleteConversationRequest(conversation_id=begun.run.conversation_id))
    assert (await person.refusal(make(begun.run.id))).code == "RUN_NOT_FOUND"


async def test_deleting_twice_finds_nothing(person: Person) -> None:
    request = pb.DeleteConversationRequest(conversation_id=(await person.create()).id)
    await person.call(request)
    assert (await person.refusal(request)).code == "CONVERSATION_NOT_FOUND"


@pytest.mark.parametrize("make", ON_A_CONVERSATION, ids=name_of)
@pytest.mark.parametrize("shared", ["org", "user_id"])
async def test_somebody_elses_conversation_is_an_unknown_one(service: Service, make: Any, shared: str) -> None:
    """Also to a member of the same organization, and to the same user acting in another one."""
    owner = service.person()
    theirs = (await owner.create("private")).id
    stranger = service.person(**{shared: owner.org_id if shared == "org" else owner.user_id})
    refusals = [await stranger.refusal(make(given)) for given in (theirs, UNKNOWN_ID)]
    assert isinstance(refusals[0], NotFound)
    assert refusals[0].code == "CONVERSATION_NOT_FOUND"
    first, second = ((type(found), found.code, found.message, found.metadata, found.domain) for found in refusals)
    assert first == second
    assert (await owner.conversation(theirs)).title == "private"
    assert await owner.messages(theirs) == []


@pytest.mark.parametrize("make", ON_A_RUN, ids=name_of)
@pytest.mark.parametrize("shared", ["org", "user_id"])
async def test_somebody_elses_run_is_an_unknown_one(service: Service, make: Any, shared: str) -> None:
    owner = service.person()
    theirs = (await owner.begin()).run
    before = await owner.stored(theirs.id)
    stranger = service.person(**{shared: owner.org_id if shared == "org" else owner.user_id})
    refusals = [await stranger.refusal(make(given)) for given in (theirs.id, UNKNOWN_ID)]
    assert isinstance(refusals[0], NotFound)
    assert refusals[0].code == "RUN_NOT_FOUND"
    first, second = ((type(found), found.code, found.message, found.metadata, found.domain) for found in refusals)
    assert first == second
    assert await owner.stored(theirs.id) == before


@pytest.mark.parametrize("given", ["", "42", "not-a-uuid", UNKNOWN_ID + "0", "\x00"])
@pytest.mark.parametrize("make", [*ON_A_CONVERSATION, *ON_A_RUN], ids=name_of)
async def test_an_id_that_is_no_uuid_is_named(person: Person, make: Any, given: str) -> None:
    request = make(given)
    field = "run_id" if make in ON_A_RUN else "conversation_id"
    if not given and isinstance(request, pb.BeginRunRequest):
        return  # without an id it makes a conversation
    refusal = await person.refusal(request)
    assert isinstance(refusal, InvalidArgument)
    assert refusal.metadata["field"] == field


@pytest.mark.parametrize(
    "request_",
    [
        pb.CreateConversationRequest(),
        pb.ListConversationsRequest(),
        pb.SearchConversationsRequest(query="words"),
        pb.ClaimRunsRequest(),
        pb.ListDeadLettersRequest(),
        pb.RetryDeadLetterRequest(run_id=UNKNOWN_ID),
        pb.DropDeadLetterRequest(run_id=UNKNOWN_ID),
        *(make(UNKNOWN_ID) for make in (*ON_A_CONVERSATION, *ON_A_RUN)),
    ],
    ids=lambda request: type(request).__name__,
)
async def test_every_call_needs_an_access_token(service: Service, request_: Any) -> None:
    assert isinstance(await Person(service.channel, "").refusal(request_), Unauthenticated)


async def test_a_token_delegated_for_data_acts_for_its_user(service: Service) -> None:
    user = service.person()
    begun = await user.begin()
    chat = service.person(user_id=user.user_id, org=user.org_id, aud=["data", "gateway"], act={"sub": "chat"})
    await chat.finish(begun.run, text("said for the user"))
    assert (await user.stored(begun.run.id)).answer.parts == [text("said for the user")]


async def test_a_token_delegated_for_others_is_refused(service: Service) -> None:
    chat = service.person(aud=["gateway"], act={"sub": "chat"})
    assert isinstance(await chat.refusal(pb.ListConversationsRequest()), Unauthenticated)
