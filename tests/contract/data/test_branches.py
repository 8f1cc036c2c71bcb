"""Messages form a tree: an edit, another answer or a continuation is a branch of its own, the old one is kept, and one is being talked on."""

from typing import Any

import pytest

from parley.data.v1 import data_pb2 as pb
from runtime.errors import AlreadyExists, FailedPrecondition, InvalidArgument, NotFound
from tests.contract.data.person import UNKNOWN_ID, Person, Service, begin_request, load_request, text

BRANCHES = ("edit_message_id", "regenerate_message_id", "continue_message_id")


def said(messages: Any) -> list[str]:
    return ["".join(part.text for part in message.parts) for message in messages]


async def listed(person: Person, conversation_id: str, **fields: Any) -> pb.ListMessagesResponse:
    request = pb.ListMessagesRequest(conversation_id=conversation_id, **fields)
    response: pb.ListMessagesResponse = await person.call(request)
    return response


async def select(person: Person, conversation_id: str, message_id: str) -> pb.Conversation:
    request = pb.SelectBranchRequest(conversation_id=conversation_id, message_id=message_id)
    response: pb.SelectBranchResponse = await person.call(request)
    return response.conversation


async def talk(person: Person) -> tuple[str, list[pb.Message]]:
    """Makes a conversation of two turns: "1", "2", "3", "4"."""
    opened = (await person.create()).id
    await person.turn(opened, "1", "2")
    await person.turn(opened, "3", "4")
    return opened, await person.messages(opened)


# --- edit


async def test_an_edited_message_has_the_same_parent_and_a_history_of_its_own(person: Person) -> None:
    opened, (_, two, three, _) = await talk(person)
    begun = await person.begin(opened, "three", edit_message_id=three.id)
    assert begun.user_message.parent_id == two.id
    assert said([begun.user_message]) == ["three"]
    assert said(begun.history) == ["1", "2"]
    await person.finish(begun.run, text("four"))
    assert said(await person.messages(opened)) == ["1", "2", "three", "four"]
    assert said((await person.begin(opened, "five")).history) == ["1", "2", "three", "four"]


async def test_the_first_message_can_be_edited(person: Person) -> None:
    opened, (one, *_) = await talk(person)
    begun = await person.begin(opened, "one", edit_message_id=one.id)
    assert (begun.user_message.parent_id, list(begun.history)) == ("", [])
    page = await listed(person, opened)
    assert list(page.messages[0].sibling_ids) == [one.id, begun.user_message.id]


async def test_the_old_branch_is_kept_and_can_be_gone_back_to(person: Person) -> None:
    opened, (_, _, three, four) = await talk(person)
    begun = await person.begin(opened, "three", edit_message_id=three.id)
    await person.finish(begun.run, text("four"))
    selected = await select(person, opened, three.id)
    assert selected.head_message_id == four.id
    assert said(await person.messages(opened)) == ["1", "2", "3", "4"]
    again = await person.begin(opened, "5")
    assert again.user_message.parent_id == four.id
    assert said(again.history) == ["1", "2", "3", "4"]


# --- regenerate


async def test_another_answer_is_a_sibling_of_the_first_and_answers_the_same_message(person: Person) -> None:
    opened, (one, two, three, four) = await talk(person)
    begun = await person.begin(opened, "", regenerate_message_id=four.id)
    assert (begun.user_message, begun.run.user_message_id) == (three, three.id)
    assert said(begun.history) == ["1", "2"]
    assert (begun.answer.parent_id, list(begun.answer.parts)) == (three.id, [])
    stored = await person.stored(begun.run.id)
    assert (stored.user_message, stored.answer) == (three, begun.answer)
    await person.finish(begun.run, text("vier"))
    page = await listed(person, opened)
    assert said(page.messages) == ["1", "2", "3", "vier"]
    assert [list(message.sibling_ids) for message in page.messages] == [
        [one.id],
        [two.id],
        [three.id],
        [four.id, begun.answer.id],
    ]


async def test_an_older_answer_can_be_given_anew(person: Person) -> None:
    opened, (_, two, *_) = await talk(person)
    begun = await person.begin(opened, "", regenerate_message_id=two.id)
    assert said([begun.user_message]) == ["1"]
    assert list(begun.history) == []
    assert said(await person.messages(opened)) == ["1", ""]


# --- continue


@pytest.mark.parametrize(
    "status", [pb.RUN_STATUS_CANCELLED, pb.RUN_STATUS_FAILED, pb.RUN_STATUS_INTERRUPTED, pb.RUN_STATUS_LIMITED]
)
async def test_an_answer_that_was_cut_off_is_gone_on_with(person: Person, status: Any) -> None:
    begun = await person.begin(content="question")
    parts = [
        text("so far"),
        pb.Part(tool_use=pb.ToolUse(tool_call_id="call-1", name="now", input_json="{}")),
        pb.Part(tool_result=pb.ToolResult(tool_call_id="call-1", name="now", content="noon", is_error=True)),
    ]
    reason = "STREAM_STALLED" if status == pb.RUN_STATUS_FAILED else ""
    await person.finish(begun.run, *parts, status=status, error_reason=reason)
    opened = begun.run.conversation_id
    following = await person.begin(opened, "", continue_message_id=begun.run.answer_message_id)
    assert list(following.answer.parts) == parts
    assert following.answer.state == pb.MESSAGE_STATE_PARTIAL
    assert (following.user_message.id, following.answer.parent_id) == (begun.user_message.id, begun.user_message.id)
    assert (await person.stored(following.run.id)).answer == following.answer
    assert (await person.stored(begun.run.id)).answer.parts == parts
    await person.finish(following.run, *parts, text(" and on"))
    assert said((await person.begin(opened)).history) == ["question", "so far and on"]


async def test_a_whole_answer_cannot_be_gone_on_with(person: Person) -> None:
    opened, (_, _, _, four) = await talk(person)
    refusal = await person.refusal(begin_request(opened, "", continue_message_id=four.id))
    assert isinstance(refusal, FailedPrecondition)
    assert refusal.code == "NOT_INTERRUPTED"
    assert len(await person.messages(opened)) == 4


@pytest.mark.parametrize("field", ["regenerate_message_id", "continue_message_id"])
async def test_an_answer_that_is_being_written_has_no_branch(person: Person, field: str) -> None:
    begun = await person.begin()
    request = begin_request(begun.run.conversation_id, "", **{field: begun.run.answer_message_id})
    refusal = await person.refusal(request)
    assert isinstance(refusal, FailedPrecondition)
    assert refusal.code == "MESSAGE_NOT_FINISHED"


# --- what is refused, and sending again


@pytest.mark.parametrize("field", BRANCHES)
async def test_a_message_that_is_not_there_is_an_unknown_one(service: Service, person: Person, field: str) -> None:
    """Somebody else's, another conversation's, and one of the other role."""
    opened, (_, _, three, four) = await talk(person)
    _, others = await talk(service.person(org=person.org_id))
    _, elsewhere = await talk(person)
    wrong_role = four if field == "edit_message_id" else three
    content = "x" if field == "edit_message_id" else ""
    for given in (UNKNOWN_ID, others[2].id, others[3].id, elsewhere[2].id, elsewhere[3].id, wrong_role.id):
        refusal = await person.refusal(begin_request(opened, content, **{field: given}))
        assert isinstance(refusal, NotFound)
        assert (refusal.code, refusal.metadata) == ("MESSAGE_NOT_FOUND", {})
    assert len(await person.messages(opened)) == 4


@pytest.mark.parametrize("field", BRANCHES)
@pytest.mark.parametrize("given", ["", "42", "\x00"])
async def test_a_branch_that_is_no_uuid_is_named(person: Person, field: str, given: str) -> None:
    opened = (await person.create()).id
    refusal = await person.refusal(begin_request(opened, "x", **{field: given}))
    assert isinstance(refusal, InvalidArgument)
    assert refusal.metadata["field"] == field


@pytest.mark.parametrize("field", BRANCHES)
async def test_a_branch_needs_its_conversation(person: Person, field: str) -> None:
    _, (*_, four) = await talk(person)
    refusal = await person.refusal(begin_request("", "x", **{field: four.id}))
    assert refusal.metadata["field"] == "conversation_id"


@pytest.mark.parametrize(
    ("field", "content"), [("edit_message_id", ""), ("regenerate_message_id", "x"), ("continue_message_id", "x")]
)
async def test_only_an_edit_has_content(person: Person, field: str, content: str) -> None:
    opened, (*_, four) = await talk(person)
    refusal = await person.refusal(begin_request(opened, content, **{field: four.id}))
    assert isinstance(refusal, InvalidArgument)
    assert refusal.metadata["field"] == "content"


async def test_a_branch_sent_again_is_the_same_run(person: Person) -> None:
    opened, (_, _, three, four) = await talk(person)
    for number, fields in enumerate(({"edit_message_id": three.id}, {"regenerate_message_id": four.id})):
        content = "three" if "edit_message_id" in fields else ""
        given: dict[str, Any] = {"client_message_id": f"m-{number}", **fields}
        first = await person.begin(opened, content, **given)
        again = await person.begin(opened, content, **given)
        assert (again.existing, again.run, again.user_message) == (True, first.run, first.user_message)
        assert (again.history, again.answer) == (first.history, first.answer)
        await person.finish(first.run, text("done"))


async def test_an_id_that_comes_again_for_another_place_is_refused(person: Person) -> None:
    opened, (one, two, three, four) = await talk(person)
    await person.begin(opened, "x", edit_message_id=three.id, client_message_id="m-1")
    for content, fields in (
        ("x", {}),
        ("x", {"edit_message_id": one.id}),
        ("", {"regenerate_message_id": two.id}),
        ("", {"regenerate_message_id": four.id}),
    ):
        refusal = await person.refusal(begin_request(opened, content, client_message_id="m-1", **fields))
        assert isinstance(refusal, AlreadyExists)


async def test_a_claimed_run_has_the_history_of_its_branch(service: Service, person: Person) -> None:
    opened, (_, _, three, _) = await talk(person)
    run = (await person.begin(opened, "three", edit_message_id=three.id, background=True)).run
    while run.id not in [claim.run.id for claim in await service.claimer().claim()]:
        pass
    loaded = await person.call(load_request(run.id))
    assert said(loaded.history) == ["1", "2"]


async def test_history_on_a_branch_keeps_its_bounds(person: Person) -> None:
    opened, (_, _, three, _) = await talk(person)
    begun = await person.begin(opened, "x" * 100, edit_message_id=three.id)
    await person.finish(begun.run, text("four"))
    assert said((await person.begin(opened, "a", history_max_messages=3)).history) == ["2", "x" * 100, "four"]
    assert said((await person.begin(opened, "b", history_max_tokens=2)).history) == ["four", "a"]


# --- the branch a conversation is on


async def test_the_head_is_the_newest_message(person: Person) -> None:
    opened = (await person.create()).id
    assert (await person.conversation(opened)).head_message_id == ""
    begun = await person.begin(opened)
    assert (await person.conversation(opened)).head_message_id == begun.run.answer_message_id
    made = await person.begin()
    assert (await person.conversation(made.run.conversation_id)).head_message_id == made.run.answer_message_id


async def test_a_branch_is_selected_at_its_newest_end(person: Person) -> None:
    opened, (one, two, three, four) = await talk(person)
    other = await person.begin(opened, "three", edit_message_id=three.id)
    assert (await select(person, opened, two.id)).head_message_id == other.run.answer_message_id
    assert (await select(person, opened, four.id)).head_message_id == four.id
    assert (await select(person, opened, one.id)).head_message_id == other.run.answer_message_id
    assert await select(person, opened, three.id) == await person.conversation(opened)


@pytest.mark.parametrize("given", ["", "42", "\x00"])
async def test_a_selected_message_that_is_no_uuid_is_named(person: Person, given: str) -> None:
    request = pb.SelectBranchRequest(conversation_id=(await person.create()).id, message_id=given)
    assert (await person.refusal(request)).metadata["field"] == "message_id"


async def test_only_a_message_of_the_conversation_can_be_selected(service: Service, person: Person) -> None:
    opened, _ = await talk(person)
    _, elsewhere = await talk(person)
    _, others = await talk(service.person(org=person.org_id))
    for given in (UNKNOWN_ID, elsewhere[0].id, others[0].id):
        refusal = await person.refusal(pb.SelectBranchRequest(conversation_id=opened, message_id=given))
        assert isinstance(refusal, NotFound)
        assert refusal.code == "MESSAGE_NOT_FOUND"


async def test_a_page_token_stays_on_its_branch(person: Person) -> None:
    opened, (_, _, three, _) = await talk(person)
    first = await listed(person, opened, page_size=1)
    assert said(first.messages) == ["4"]
    await person.begin(opened, "three", edit_message_id=three.id)
    second = await listed(person, opened, page_size=2, page_token=first.next_page_token)
    assert said(second.messages) == ["2", "3"]
    third = await listed(person, opened, page_size=2, page_token=second.next_page_token)
    assert (said(third.messages), third.next_page_token) == (["1"], "")


async def test_messages_of_a_long_conversation_with_branches_come_in_pages(person: Person) -> None:
    opened = (await person.create()).id
    for number in range(15):
        await person.turn(opened, f"{number}", f"{number}!")
    three = (await person.messages(opened))[6]
    begun = await person.begin(opened, "three", edit_message_id=three.id)
    assert said(begun.history) == ["0", "0!", "1", "1!", "2", "2!"]
    seen: list[str] = []
    token = ""
    while True:
        page = await listed(person, opened, page_size=3, page_token=token)
        seen = said(page.messages) + seen
        token = page.next_page_token
        if not token:
            break
    assert seen == ["0", "0!", "1", "1!", "2", "2!", "three", ""]


# --- runs in order


async def runs(person: Person, conversation_id: str, **fields: Any) -> list[str]:
    request = pb.ListRunsRequest(conversation_id=conversation_id, **fields)
    return [run.id for run in (await person.call(request)).runs]


async def test_runs_come_in_the_order_in_which_they_began(service: Service, person: Person) -> None:
    """Whatever the clocks of instances say, and whichever branch they are on."""
    opened = (await person.create()).id
    assert await runs(person, opened) == []
    first = (await person.begin(opened)).run
    await person.finish(first)
    service.clock.advance(-100)
    second = (await person.begin(opened, "", regenerate_message_id=first.answer_message_id)).run
    service.clock.advance(200)
    third = (await person.begin(opened, background=True)).run
    assert await runs(person, opened) == [first.id, second.id, third.id]
    assert await runs(person, opened, after_run_id=first.id) == [second.id, third.id]
    assert await runs(person, opened, after_run_id=third.id) == []
    assert await runs(person, opened, active_only=True) == [second.id, third.id]
    assert await runs(person, opened, after_run_id=second.id, active_only=True) == [third.id]
    assert await runs(person, opened, page_size=2) == [first.id, second.id]
    (listed_first, *_) = (await person.call(pb.ListRunsRequest(conversation_id=opened))).runs
    assert listed_first == (await person.stored(first.id)).run


async def test_runs_come_after_one_of_the_same_conversation_alone(service: Service, person: Person) -> None:
    opened = (await person.create()).id
    elsewhere = (await person.begin()).run.id
    theirs = (await service.person(org=person.org_id).begin()).run.id
    for given in (UNKNOWN_ID, elsewhere, theirs):
        refusal = await person.refusal(pb.ListRunsRequest(conversation_id=opened, after_run_id=given))
        assert isinstance(refusal, NotFound)
        assert refusal.code == "RUN_NOT_FOUND"


@pytest.mark.parametrize(
    ("field", "value"), [("after_run_id", "42"), ("after_run_id", "\x00"), ("page_size", -1), ("page_size", 101)]
)
async def test_a_field_of_the_list_of_runs_that_breaks_its_rule_is_named(
    person: Person, field: str, value: Any
) -> None:
    given: dict[str, Any] = {field: value}
    request = pb.ListRunsRequest(conversation_id=(await person.create()).id, **given)
    assert (await person.refusal(request)).metadata["field"] == field
