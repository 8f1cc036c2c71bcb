"""A run begins once, with what was said before."""

import asyncio
from typing import Any

import asyncpg
import pytest
from google.protobuf.duration_pb2 import Duration

from parley.data.v1 import data_pb2 as pb
from runtime.errors import AlreadyExists, InvalidArgument
from tests.contract.data.person import Person, Service, begin_request, serving, text


def texts(begun: pb.BeginRunResponse) -> list[str]:
    return ["".join(part.text for part in message.parts) for message in begun.history]


async def test_a_run_is_stored_with_its_message_and_an_empty_answer(service: Service, person: Person) -> None:
    opened = (await person.create()).id
    begun = await person.begin(opened, "hello 🙂", client_message_id="m-1")
    run, asked = begun.run, begun.user_message
    assert (run.conversation_id, run.client_message_id, run.model) == (opened, "m-1", "fast")
    assert (run.status, run.fence, run.owner, run.last_seq) == (pb.RUN_STATUS_RUNNING, 1, "chat-1", 0)
    assert run.create_time.ToNanoseconds() / 1e9 == pytest.approx(service.clock())
    assert run.HasField("lease_expire_time")
    assert not run.HasField("end_time")
    assert (asked.id, asked.run_id, asked.parent_id) == (run.user_message_id, run.id, "")
    assert (asked.role, asked.state, list(asked.parts)) == (pb.ROLE_USER, pb.MESSAGE_STATE_COMPLETE, [text("hello 🙂")])
    assert (begun.existing, begun.conversation_created, list(begun.history)) == (False, False, [])
    stored = await person.stored(run.id)
    assert (stored.run, stored.user_message) == (run, asked)
    answer = stored.answer
    assert (answer.id, answer.run_id, answer.parent_id) == (run.answer_message_id, run.id, asked.id)
    assert (answer.role, answer.state, answer.model) == (pb.ROLE_ASSISTANT, pb.MESSAGE_STATE_PARTIAL, "fast")
    assert not answer.parts
    assert not answer.HasField("usage")
    assert begun.answer == answer
    assert (run.tries, run.max_tries, run.takeovers, run.cancel_requested) == (1, 1, 0, False)
    assert await person.messages(opened) == [asked, answer]


async def test_without_a_conversation_one_is_made(person: Person) -> None:
    begun = await person.begin()
    assert begun.conversation_created
    made = await person.conversation(begun.run.conversation_id)
    assert (made.title, made.create_time) == ("", begun.run.create_time)


async def test_whether_the_conversation_has_a_title_is_told(person: Person) -> None:
    assert (await person.begin()).untitled
    assert (await person.begin((await person.create()).id, client_message_id="m-1")).untitled
    titled = (await person.create("Kyoto")).id
    assert not (await person.begin(titled, client_message_id="m-1")).untitled
    assert not (await person.begin(titled, client_message_id="m-1")).untitled


async def test_each_message_follows_the_newest(person: Person) -> None:
    first = await person.begin()
    second = await person.begin(first.run.conversation_id)
    assert second.user_message.parent_id == first.run.answer_message_id


@pytest.mark.parametrize("named", [True, False], ids=["named", "new"])
async def test_an_ordinary_message_needs_no_closer_look(owner: asyncpg.Connection, person: Person, named: bool) -> None:
    """It is begun by the short way alone, limits, an id of its own and history or not; the long one is closed here."""
    opened = (await person.create()).id if named else ""
    bounds: dict[str, Any] = {
        "active_limits": pb.ActiveLimits(per_user=1, per_conversation=1, queued_per_user=1),
        "request_limits": pb.RequestLimits(per_minute=2, per_hour=3),
    }
    await owner.execute("REVOKE EXECUTE ON FUNCTION chat.start_run_in_pace FROM parley_data")
    try:
        first = await person.begin(opened, "1", client_message_id="m-1", **bounds)
        await person.finish(first.run, text("2"))
        second = await person.begin(first.run.conversation_id, client_message_id="m-2", **bounds)
    finally:
        await owner.execute("GRANT EXECUTE ON FUNCTION chat.start_run_in_pace TO parley_data")
    assert (first.conversation_created, second.conversation_created, texts(second)) == (not named, False, ["1", "2"])


# --- history


async def test_history_is_what_was_said_before_oldest_first(person: Person) -> None:
    opened = (await person.create()).id
    elsewhere = (await person.create()).id
    await person.turn(elsewhere, "elsewhere", "elsewhere")
    await person.turn(opened, "1", "2", model="small")
    await person.turn(opened, "3", "4")
    begun = await person.begin(opened, "5")
    assert texts(begun) == ["1", "2", "3", "4"]
    said = (await person.messages(opened))[:4]
    # Who, and what: whatever else is stored of them no prompt needs.
    assert list(begun.history) == [pb.Message(role=message.role, parts=message.parts) for message in said]


@pytest.mark.parametrize(
    ("status", "kept"),
    [
        (pb.RUN_STATUS_COMPLETED, True),
        (pb.RUN_STATUS_LIMITED, True),
        (pb.RUN_STATUS_CANCELLED, True),
        (pb.RUN_STATUS_INTERRUPTED, True),
        (pb.RUN_STATUS_FAILED, False),
    ],
)
async def test_a_failed_answer_is_no_history(person: Person, status: Any, kept: bool) -> None:
    begun = await person.begin(content="question")
    reason = "PROVIDER_UNAVAILABLE" if status == pb.RUN_STATUS_FAILED else ""
    await person.finish(begun.run, text("answer"), status=status, error_reason=reason)
    again = await person.begin(begun.run.conversation_id)
    assert texts(again) == (["question", "answer"] if kept else ["question"])


async def test_an_answer_still_being_written_is_no_history(person: Person) -> None:
    begun = await person.begin(content="question")
    assert texts(await person.begin(begun.run.conversation_id)) == ["question"]


async def test_an_answer_without_text_is_no_history(person: Person) -> None:
    begun = await person.begin(content="question")
    await person.finish(begun.run, pb.Part(reasoning="hmm"), text(""), status=pb.RUN_STATUS_CANCELLED)
    assert texts(await person.begin(begun.run.conversation_id)) == ["question"]


async def test_history_leaves_reasoning_out(person: Person) -> None:
    begun = await person.begin(content="question")
    await person.finish(begun.run, pb.Part(reasoning="hmm"), text("ans"), pb.Part(reasoning="so"), text("wer"))
    again = await person.begin(begun.run.conversation_id)
    assert list(again.history[1].parts) == [text("ans"), text("wer")]


USE = pb.Part(tool_use=pb.ToolUse(tool_call_id="call-1", name="look_up", input_json='{"of": "x"}'))
RESULT = pb.Part(tool_result=pb.ToolResult(tool_call_id="call-1", name="look_up", content="y" * 400))


async def test_history_keeps_what_tools_were_asked_and_said(person: Person) -> None:
    begun = await person.begin(content="question")
    await person.finish(begun.run, pb.Part(reasoning="hmm"), USE, RESULT, text("answer"))
    again = await person.begin(begun.run.conversation_id)
    assert list(again.history[1].parts) == [USE, RESULT, text("answer")]


async def test_what_tools_said_takes_room_in_history(person: Person) -> None:
    begun = await person.begin(content="question")
    await person.finish(begun.run, USE, RESULT, text("answer"))
    opened = begun.run.conversation_id
    assert texts(await person.begin(opened, "a", history_max_tokens=100)) == []
    assert texts(await person.begin(opened, "b", history_max_tokens=105)) == ["answer", "a"]


async def test_an_answer_of_tools_alone_is_no_history(person: Person) -> None:
    begun = await person.begin(content="question")
    await person.finish(begun.run, USE, status=pb.RUN_STATUS_INTERRUPTED)
    assert texts(await person.begin(begun.run.conversation_id)) == ["question"]


@pytest.mark.parametrize("most", [0, 1, 3, 4, 200])
async def test_history_holds_the_newest_messages_up_to_a_number(person: Person, most: int) -> None:
    opened = (await person.create()).id
    await person.turn(opened, "1", "2")
    await person.turn(opened, "3", "4")
    begun = await person.begin(opened, history_max_messages=most)
    assert texts(begun) == ["1", "2", "3", "4"][max(4 - most, 0) :]


@pytest.mark.parametrize(
    ("tokens", "kept"), [(0, 0), (9, 0), (10, 1), (19, 1), (20, 2), (29, 2), (30, 3), (40, 4), (2**31 - 1, 4)]
)
async def test_history_holds_the_newest_messages_that_fit(person: Person, tokens: int, kept: int) -> None:
    """Ten tokens each, at four bytes: a character may have several."""
    said = ["a" * 40, "é" * 20, "京都京都京都京都京都京都" + "abcd", "🙂" * 10]
    opened = (await person.create()).id
    await person.turn(opened, said[0], said[1])
    await person.turn(opened, said[2], said[3])
    begun = await person.begin(opened, history_max_tokens=tokens)
    assert texts(begun) == said[4 - kept :]


async def test_history_has_no_gaps(person: Person) -> None:
    """A message that does not fit hides those before it, small as they may be."""
    opened = (await person.create()).id
    await person.turn(opened, "small", "x" * 400)
    await person.turn(opened, "3", "4")
    assert texts(await person.begin(opened, history_max_tokens=50)) == ["3", "4"]


# --- resending


@pytest.mark.parametrize("named", [True, False], ids=["named", "new"])
async def test_a_resend_returns_the_same_run_and_stores_nothing(person: Person, named: bool) -> None:
    opened = (await person.create()).id if named else ""
    first = await person.begin(opened, "hello", client_message_id="m-1")
    again = await person.begin(opened, "hello", client_message_id="m-1", model="power", owner="chat-2")
    assert (first.existing, again.existing, again.conversation_created) == (False, True, False)
    assert (again.run, again.user_message) == (first.run, first.user_message)
    assert len(await person.messages(first.run.conversation_id)) == 2
    finished = await person.finish(first.run, text("hi"))
    late = await person.begin(opened, "hello", client_message_id="m-1")
    assert (late.existing, late.run) == (True, finished)


async def test_a_resend_has_the_history_its_message_had(person: Person) -> None:
    opened = (await person.create()).id
    await person.turn(opened, "1", "2")
    first = await person.begin(opened, "3", client_message_id="m-1")
    await person.finish(first.run, text("4"))
    await person.turn(opened, "5", "6")
    again = await person.begin(opened, "3", client_message_id="m-1")
    assert texts(again) == texts(first) == ["1", "2"]


@pytest.mark.parametrize("named", [True, False], ids=["named", "new"])
async def test_an_id_with_other_content_is_refused(person: Person, named: bool) -> None:
    opened = (await person.create()).id if named else ""
    first = await person.begin(opened, "hello", client_message_id="m-1")
    refusal = await person.refusal(begin_request(opened, "hello!", client_message_id="m-1"))
    assert isinstance(refusal, AlreadyExists)
    assert refusal.code == "CLIENT_MESSAGE_ID_REUSED"
    assert len(await person.messages(first.run.conversation_id)) == 2


async def test_a_message_id_belongs_to_its_conversation_and_user(service: Service, person: Person) -> None:
    one, two = (await person.create()).id, (await person.create()).id
    begun = [
        await person.begin(one, "hello", client_message_id="m-1"),
        await person.begin(two, "hi", client_message_id="m-1"),
        await person.begin("", "hey", client_message_id="m-1"),
        await service.person().begin("", "ho", client_message_id="m-1"),
        await service.person(user_id=person.user_id).begin("", "hum", client_message_id="m-1"),
    ]
    assert [each.existing for each in begun] == [False] * 5
    assert len({each.run.conversation_id for each in begun}) == 5


async def test_without_an_id_the_same_words_are_a_new_message(person: Person) -> None:
    opened = (await person.create()).id
    assert (await person.begin(opened)).run.id != (await person.begin(opened)).run.id


@pytest.mark.parametrize("named", [True, False], ids=["named", "new"])
async def test_twenty_resends_at_once_are_one_run(person: Person, named: bool) -> None:
    opened = (await person.create()).id if named else ""
    begun = await asyncio.gather(*(person.begin(opened, "hello", client_message_id="m-1") for _ in range(20)))
    assert len({each.run.id for each in begun}) == 1
    assert sorted(each.existing for each in begun) == [False] + [True] * 19
    assert sum(each.conversation_created for each in begun) == (0 if named else 1)
    assert len(await person.messages(begun[0].run.conversation_id)) == 2


async def test_twenty_messages_at_once_follow_one_another(person: Person) -> None:
    opened = (await person.create()).id
    begun = await asyncio.gather(*(person.begin(opened, str(number)) for number in range(20)))
    stored = await person.messages(opened)
    assert len(stored) == 40
    assert {each.run.id for each in begun} == {message.run_id for message in stored}
    assert [message.parent_id for message in stored] == ["", *(message.id for message in stored[:-1])]
    for asked, answer in zip(stored[::2], stored[1::2], strict=True):
        assert (asked.role, answer.role, asked.run_id) == (pb.ROLE_USER, pb.ROLE_ASSISTANT, answer.run_id)


# --- what is refused


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("content", ""),
        ("content", " \n\t\u3000"),
        ("content", "x" * 10_001),
        ("content", "nul\x00"),
        ("client_message_id", "x" * 129),
        ("client_message_id", "nul\x00"),
        ("model", "x" * 201),
        ("model", "nul\x00"),
        ("owner", ""),
        ("owner", "x" * 201),
        ("owner", "nul\x00"),
        ("lease", None),
        ("lease", Duration()),
        ("lease", Duration(seconds=-1)),
        ("lease", Duration(seconds=3601)),
        ("lease", Duration(seconds=2**63 - 1)),
        ("lease", Duration(seconds=1, nanos=2_000_000_000)),
        ("history_max_messages", -1),
        ("history_max_messages", 201),
        ("history_max_tokens", -1),
    ],
    ids=lambda value: repr(value)[:24].strip(),
)
async def test_a_field_that_breaks_its_rule_is_named(person: Person, field: str, value: Any) -> None:
    refusal = await person.refusal(begin_request(**{field: value}))
    assert isinstance(refusal, InvalidArgument)
    assert refusal.metadata["field"] == field
    assert not (await person.call(pb.ListConversationsRequest())).conversations


@pytest.mark.parametrize("content", ["x", "x" * 10_000, "🙂" * 10_000, "  a ", "\\u0000", "'; DROP SCHEMA chat; --"])
async def test_a_message_is_kept_to_the_letter(person: Person, content: str) -> None:
    begun = await person.begin(content=content)
    assert (await person.stored(begun.run.id)).user_message.parts == [text(content)]


async def test_the_longest_message_is_configured(stored: Any) -> None:
    async with serving(stored.url, message_max_chars=3) as small:
        person = small.person()
        assert (await person.begin(content="abc")).run.id
        refusal = await person.refusal(begin_request(content="abcd"))
    assert refusal.metadata["field"] == "content"


async def test_ids_that_a_caller_makes_may_be_long_and_odd(person: Person) -> None:
    odd = "é'\"; --\n" * 16
    assert (await person.begin(client_message_id=odd)).run.client_message_id == odd
    assert (await person.begin(client_message_id=odd)).existing
