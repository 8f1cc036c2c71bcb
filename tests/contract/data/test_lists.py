"""Lists come in pages that miss and repeat nothing, and take no page token but their own."""

from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from parley.data.v1 import data_pb2 as pb
from runtime.errors import InvalidArgument, ParleyError
from runtime.validation import encode_page_token
from tests.contract.data.person import UNKNOWN_ID, Person, Service


async def conversations(person: Person, page_size: int, page_token: str = "") -> pb.ListConversationsResponse:
    request = pb.ListConversationsRequest(page_size=page_size, page_token=page_token)
    response: pb.ListConversationsResponse = await person.call(request)
    return response


async def messages(
    person: Person, conversation_id: str, page_size: int = 0, page_token: str = ""
) -> pb.ListMessagesResponse:
    request = pb.ListMessagesRequest(conversation_id=conversation_id, page_size=page_size, page_token=page_token)
    response: pb.ListMessagesResponse = await person.call(request)
    return response


async def titles(person: Person) -> list[str]:
    return [found.title for found in (await conversations(person, 100)).conversations]


async def test_conversations_come_most_recently_active_first(service: Service, person: Person) -> None:
    made = {}
    for title in "abc":
        made[title] = await person.create(title)
        service.clock.advance(1)
    assert await titles(person) == ["c", "b", "a"]
    begun = await person.begin(made["a"].id)
    assert await titles(person) == ["a", "c", "b"]
    service.clock.advance(1)
    await person.call(pb.UpdateConversationRequest(conversation_id=made["b"].id, title="B"))
    assert await titles(person) == ["B", "a", "c"]
    service.clock.advance(1)
    await person.finish(begun.run)
    assert await titles(person) == ["a", "B", "c"]


@pytest.mark.parametrize("apart_s", [0, 1])
async def test_pages_of_conversations_miss_and_repeat_nothing(service: Service, person: Person, apart_s: int) -> None:
    """Also where all are of one moment."""
    made = []
    for _ in range(9):
        made.append((await person.create()).id)
        service.clock.advance(apart_s)
    seen, sizes, token = [], [], ""
    while True:
        page = await conversations(person, 4, token)
        seen += [found.id for found in page.conversations]
        sizes.append(len(page.conversations))
        token = page.next_page_token
        if not token:
            break
    assert seen == made[::-1]
    assert sizes == [4, 4, 1]


async def test_a_last_page_that_is_full_says_so(person: Person) -> None:
    for _ in range(3):
        await person.create()
    assert (await conversations(person, 3)).next_page_token == ""
    assert (await conversations(person, 2)).next_page_token != ""


async def test_what_is_made_while_paging_moves_no_page(service: Service, person: Person) -> None:
    made = []
    for _ in range(6):
        made.append((await person.create()).id)
        service.clock.advance(1)
    first = await conversations(person, 3)
    await person.create("made between two pages")
    second = await conversations(person, 3, first.next_page_token)
    assert [found.id for found in (*first.conversations, *second.conversations)] == made[::-1]


async def test_twenty_conversations_and_fifty_messages_are_a_page_unless_told(person: Person) -> None:
    for _ in range(21):
        await person.create()
    page = await conversations(person, 0)
    assert len(page.conversations) == 20
    opened = page.conversations[0].id
    for number in range(26):
        await person.begin(opened, str(number))
    assert len((await messages(person, opened)).messages) == 50


async def test_an_empty_conversation_has_an_empty_page(person: Person) -> None:
    page = await messages(person, (await person.create()).id)
    assert (list(page.messages), page.next_page_token) == ([], "")


async def test_messages_come_oldest_first_and_older_ones_on_the_next_page(person: Person) -> None:
    opened = (await person.create()).id
    for number in range(1, 8, 2):
        await person.turn(opened, str(number), str(number + 1))
    seen, token = [], ""
    while True:
        page = await messages(person, opened, 3, token)
        seen.append([found.parts[0].text for found in page.messages])
        token = page.next_page_token
        if not token:
            break
    assert seen == [["6", "7", "8"], ["3", "4", "5"], ["1", "2"]]


async def test_messages_that_come_while_paging_move_no_page(person: Person) -> None:
    opened = (await person.create()).id
    await person.turn(opened, "1", "2")
    await person.turn(opened, "3", "4")
    first = await messages(person, opened, 2)
    await person.turn(opened, "5", "6")
    second = await messages(person, opened, 2, first.next_page_token)
    assert [found.parts[0].text for found in (*second.messages, *first.messages)] == ["1", "2", "3", "4"]


async def test_a_page_of_very_long_messages_is_shorter(person: Person) -> None:
    """A response stays below what its receiver takes; the token leads to the rest."""
    opened = (await person.create()).id
    for _ in range(3):
        await person.turn(opened, "go on", "長" * 1_200_000)
    newest = await messages(person, opened)
    assert [len(found.parts[0].text) for found in newest.messages] == [5, 1_200_000, 5, 1_200_000]
    older = await messages(person, opened, 0, newest.next_page_token)
    assert [len(found.parts[0].text) for found in older.messages] == [5, 1_200_000]
    assert older.next_page_token == ""


@pytest.mark.parametrize("page_size", [-1, 101, 2**31 - 1])
@pytest.mark.parametrize("kind", [pb.ListConversationsRequest, pb.ListMessagesRequest])
async def test_a_page_holds_one_to_a_hundred(person: Person, kind: Any, page_size: int) -> None:
    refusal = await person.refusal(request_for(kind, UNKNOWN_ID, page_size=page_size))
    assert isinstance(refusal, InvalidArgument)
    assert refusal.metadata["field"] == "page_size"


async def test_a_page_token_serves_its_own_list_alone(service: Service, person: Person) -> None:
    other = service.person()
    opened = [(await one.create()).id for one in (person, person, other, other)]
    for conversation_id in opened[:2]:
        await person.turn(conversation_id, "hello", "hi")
    of_list = (await conversations(person, 1)).next_page_token
    of_messages = (await messages(person, opened[0], 1)).next_page_token
    assert of_list
    assert of_messages
    await assert_refused(person, pb.ListConversationsRequest(page_token=of_messages))
    await assert_refused(person, pb.ListMessagesRequest(conversation_id=opened[0], page_token=of_list))
    await assert_refused(person, pb.ListMessagesRequest(conversation_id=opened[1], page_token=of_messages))
    await assert_refused(other, pb.ListConversationsRequest(page_token=of_list))


NUMBERS = st.integers().map(str) | st.sampled_from(["", " 1", "1_0", "٣", "-", "--1", "1e3", "9" * 5000])
PIECES = NUMBERS | st.text(st.characters(exclude_characters="\n", exclude_categories=["Cs"])) | st.uuids().map(str)


@settings(max_examples=50, deadline=None)
@given(token=st.text(st.characters(exclude_categories=["Cs"]), min_size=1))
async def test_any_other_text_is_no_page_token(service: Service, token: str) -> None:
    person = service.person()
    await assert_refused(person, pb.ListConversationsRequest(page_token=token))
    await assert_refused(person, pb.ListMessagesRequest(conversation_id=UNKNOWN_ID, page_token=token))


@settings(max_examples=50, deadline=None)
@given(first=PIECES, second=PIECES)
@example(first="9" * 18, second=UNKNOWN_ID)  # a moment that no calendar has
@example(first="-" + "9" * 18, second=UNKNOWN_ID)
async def test_a_forged_page_token_shows_nothing_and_breaks_nothing(service: Service, first: str, second: str) -> None:
    person = service.person()
    list_token = encode_page_token("conversations", person.org_id, person.user_id, first, second)
    messages_token = encode_page_token("messages", UNKNOWN_ID, first)
    for request in (
        pb.ListConversationsRequest(page_token=list_token),
        pb.ListMessagesRequest(conversation_id=UNKNOWN_ID, page_token=messages_token),
    ):
        assert await outcome(person, request) in {"nothing", "INVALID_ARGUMENT", "CONVERSATION_NOT_FOUND"}


async def outcome(person: Person, request: Any) -> str:
    try:
        response = await person.call(request)
    except ParleyError as refusal:
        return refusal.code
    return "something" if response.conversations else "nothing"


async def assert_refused(person: Person, request: Any) -> None:
    refusal = await person.refusal(request)
    assert isinstance(refusal, InvalidArgument)
    assert refusal.metadata["field"] == "page_token"


def request_for(kind: Any, conversation_id: str, **fields: Any) -> Any:
    if kind is pb.ListMessagesRequest:
        fields["conversation_id"] = conversation_id
    return kind(**fields)
