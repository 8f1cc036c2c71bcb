"""A user finds conversations by words in their titles and in what was said, and never anybody else's."""

from typing import Any

import pytest

from parley.data.v1 import data_pb2 as pb
from runtime import postgres
from runtime.channel import open_channel
from runtime.errors import InvalidArgument
from runtime.testing import Clock, Issuer, loopback
from runtime.validation import encode_page_token
from services.data.composition import load_queries, servicers
from services.data.search.domain import snippet
from tests.channels import connected
from tests.contract.data.person import Person, Service, text


async def search(person: Person, query: str, **fields: Any) -> pb.SearchConversationsResponse:
    request = pb.SearchConversationsRequest(query=query, **fields)
    response: pb.SearchConversationsResponse = await person.call(request)
    return response


async def found(person: Person, query: str, **fields: Any) -> list[str]:
    return [result.conversation.id for result in (await search(person, query, **fields)).results]


async def spoken(person: Person, question: str, answer: str, title: str = "") -> str:
    opened = (await person.create(title)).id
    await person.turn(opened, question, answer)
    return opened


async def test_words_are_found_in_titles_questions_and_answers(person: Person) -> None:
    titled = (await person.create("Trip to Kyoto")).id
    asked = await spoken(person, "how far is kyoto?", "far")
    answered = await spoken(person, "where to?", "Take the train to KYOTO.")
    await spoken(person, "osaka", "nara")
    assert set(await found(person, "Kyoto")) == {titled, asked, answered}


async def test_a_result_names_its_conversation_and_the_message_and_shows_the_place(person: Person) -> None:
    opened = await spoken(person, "where to?", "Take the\n\ntrain to **Kyoto**.", title="Holiday")
    (result,) = (await search(person, "kyoto")).results
    assert result.conversation == await person.conversation(opened)
    assert result.message_id == (await person.messages(opened))[1].id
    assert result.snippet == "Take the train to **Kyoto**."


async def test_a_title_that_matches_names_no_message(person: Person) -> None:
    await spoken(person, "kyoto", "kyoto", title="Kyoto and Nara")
    (result,) = (await search(person, "nara kyoto")).results
    assert (result.message_id, result.snippet) == ("", "Kyoto and Nara")


async def test_a_conversation_comes_once_with_its_newest_best_message(person: Person) -> None:
    opened = await spoken(person, "red apple", "an apple that is red")
    await person.turn(opened, "a red apple", "apple, red")
    (result,) = (await search(person, "red apple")).results
    assert result.message_id == (await person.messages(opened))[2].id


async def test_all_words_must_be_in_one_place(person: Person) -> None:
    await spoken(person, "apple", "pear")
    both = await spoken(person, "fruit", "apple and pear")
    assert await found(person, "pear apple") == [both]


async def test_the_best_match_comes_first(service: Service, person: Person) -> None:
    """Titles before messages, words side by side before words apart, then the most recently active."""
    titled_together = (await person.create("the red apple")).id
    titled_apart = (await person.create("apple, red")).id
    together = await spoken(person, "one red apple", "")
    older = await spoken(person, "apple that is red", "")
    service.clock.advance(1)
    newer = await spoken(person, "red or apple", "")
    assert await found(person, "red apple") == [titled_together, titled_apart, together, newer, older]


async def test_reasoning_and_what_tools_say_is_not_searched(person: Person) -> None:
    begun = await person.begin(content="question")
    use = pb.Part(tool_use=pb.ToolUse(tool_call_id="c", name="kumquat", input_json='"kumquat"'))
    result = pb.Part(tool_result=pb.ToolResult(tool_call_id="c", name="kumquat", content="kumquat"))
    await person.finish(begun.run, pb.Part(reasoning="kumquat"), use, result, text("fruit"))
    assert await found(person, "kumquat") == []
    assert await found(person, "fruit") == [begun.run.conversation_id]


@pytest.mark.parametrize(
    "query", ["100%", "a_b", "back\\slash", "it's", '"quoted"', "'; DROP SCHEMA chat; --", "京都", "🙂", "é"]
)
async def test_signs_are_looked_for_to_the_letter(person: Person, query: str) -> None:
    wanted = await spoken(person, f"x {query} y", "-")
    await spoken(person, "100 aXb backslash its quoted e", "-")
    assert await found(person, query) == [wanted]


async def test_words_split_over_a_tools_use_are_read_as_they_are_shown(person: Person) -> None:
    begun = await person.begin(content="question")
    await person.finish(begun.run, text("straw"), pb.Part(reasoning="hmm"), text("berry"))
    assert await found(person, "strawberry") == [begun.run.conversation_id]


@pytest.mark.parametrize("shared", ["nothing", "org", "user_id"])
async def test_nobody_finds_anothers_words(service: Service, person: Person, shared: str) -> None:
    await spoken(person, "secret", "secret", title="secret")
    claims = {} if shared == "nothing" else {shared: person.org_id if shared == "org" else person.user_id}
    assert await found(service.person(**claims), "secret") == []


async def test_pages_of_results_miss_and_repeat_nothing(service: Service, person: Person) -> None:
    made = []
    for number in range(9):
        made.append(await spoken(person, "apple", "-") if number % 2 else (await person.create("apple")).id)
        service.clock.advance(number % 3)
    seen: list[str] = []
    token = ""
    while True:
        page = await search(person, "apple", page_size=2, page_token=token)
        seen += [result.conversation.id for result in page.results]
        token = page.next_page_token
        if not token:
            break
    assert sorted(seen) == sorted(made)
    assert seen == await found(person, "apple")


@pytest.mark.parametrize("query", ["", " \n\t", "x" * 201, "nul\x00"])
async def test_a_query_that_is_none_is_named(person: Person, query: str) -> None:
    refusal = await person.refusal(pb.SearchConversationsRequest(query=query))
    assert isinstance(refusal, InvalidArgument)
    assert refusal.metadata["field"] == "query"


@pytest.mark.parametrize("size", [-1, 101])
async def test_a_page_size_out_of_bounds_is_named(person: Person, size: int) -> None:
    refusal = await person.refusal(pb.SearchConversationsRequest(query="x", page_size=size))
    assert refusal.metadata["field"] == "page_size"


async def test_a_page_token_of_another_list_is_named(service: Service, person: Person) -> None:
    for other in (person, service.person()):
        for _ in range(2):
            await other.create("apple")
    token = (await search(person, "apple", page_size=1)).next_page_token
    foreign = [
        (await search(service.person(user_id=person.user_id, org=person.org_id), "apple", page_size=1)).next_page_token[
            :-2
        ],
        (await person.call(pb.ListConversationsRequest(page_size=1))).next_page_token,
        "!",
        "x" * 5000,
        encode_page_token("search", person.org_id, person.user_id, "0", "1", "1", "1"),
    ]
    for given in foreign:
        refusal = await person.refusal(pb.SearchConversationsRequest(query="apple", page_token=given))
        assert isinstance(refusal, InvalidArgument)
        assert refusal.metadata["field"] == "page_token"
    for query in ("pear", "apples"):
        refusal = await person.refusal(pb.SearchConversationsRequest(query=query, page_token=token))
        assert refusal.metadata["field"] == "page_token"


@pytest.mark.parametrize("length", [0, 100, 199, 200, 201, 260, 5000])
@pytest.mark.parametrize("place", [0.0, 0.3, 0.99, 1.0])
def test_a_snippet_holds_the_match_and_at_most_two_hundred_characters(length: int, place: float) -> None:
    before = int(length * place)
    shown = snippet("a" * before + " Needle " + "b" * (length - before), ["needle"])
    assert "Needle" in shown
    assert len(shown) <= 200


def test_a_snippet_shows_words_side_by_side_rather_than_the_first_of_them() -> None:
    assert "the red apple tree" in snippet("red " + "x " * 300 + "the red apple tree" + " y" * 300, ["red", "apple"])


async def test_a_search_needs_none_of_the_connections_that_answers_are_stored_over(stored: Any) -> None:
    """It may take seconds: were it to wait for them, or they for it, one user's search would stop everybody's answers."""
    issuer, queries = Issuer(), load_queries()
    async with (
        postgres.connect(stored.url, queries, max_connections=1) as answers,
        postgres.connect(stored.url, queries, max_connections=1) as searching,
    ):
        verifier = issuer.verifier("data")
        offered = servicers(answers, searching=searching, message_max_chars=100, verifier=verifier)
        async with (
            loopback("data", *offered, verifier=verifier) as address,
            connected(open_channel(address, pb.DESCRIPTOR)) as channel,
        ):
            person = Service(channel, issuer, Clock()).person()
            titled = (await person.create("Trip to Kyoto")).id
            async with answers.transaction():
                assert await found(person, "Kyoto") == [titled]
