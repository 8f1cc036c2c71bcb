"""What the paths of the API ask of the services, and how they tell what those answer."""

from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest

from parley.chat.v1 import chat_pb2, chat_pb2_grpc
from parley.data.v1 import data_pb2, data_pb2_grpc
from runtime.errors import Conflict, ParleyError, PermissionDenied, ResourceExhausted, Unavailable
from runtime.server import Servicer
from runtime.testing import Issuer, loopback
from services.edge.app import build
from services.edge.clients import connect
from services.edge.config import EdgeConfig
from services.edge.operation.readiness import Readiness
from services.edge.streams import Streams

RUN = "0193f000-0000-7000-8000-000000000001"
CONVERSATION = "0193f000-0000-7000-8000-000000000002"
MESSAGE = "0193f000-0000-7000-8000-000000000003"


class Behind:
    """Chat and data, played: `asked` are the requests that came; each answer is the next of `answers`, an error among them is raised."""

    def __init__(self) -> None:
        self.asked: list[Any] = []
        self.answers: list[Any] = []

    async def _unary(self, request: Any, _: Any) -> Any:
        self.asked.append(request)
        answer = self.answers.pop(0)
        if isinstance(answer, ParleyError):
            raise answer
        return answer

    async def _stream(self, request: Any, _: Any) -> AsyncIterator[Any]:
        self.asked.append(request)
        answers = self.answers.pop(0)
        for answer in answers if isinstance(answers, list) else [answers]:
            if isinstance(answer, ParleyError):
                raise answer
            yield answer


class Chat(chat_pb2_grpc.ChatServiceServicer):
    def __init__(self, behind: Behind) -> None:
        self.StartRun = self.WatchRun = self.WatchConversation = behind._stream  # type: ignore[method-assign,assignment]
        self.SubmitRun = self.GetRun = self.CancelRun = behind._unary  # type: ignore[method-assign,assignment]
        self.ListDeadLetters = self.RetryDeadLetter = self.DropDeadLetter = behind._unary  # type: ignore[method-assign,assignment]


class Data(data_pb2_grpc.ConversationServiceServicer):
    def __init__(self, behind: Behind) -> None:
        self.ListConversations = self.SearchConversations = behind._unary  # type: ignore[method-assign,assignment]
        self.SelectBranch = self.UpdateConversation = self.ListMessages = behind._unary  # type: ignore[method-assign,assignment]


@pytest.fixture
def behind() -> Behind:
    return Behind()


@pytest.fixture
async def http(behind: Behind) -> AsyncIterator[httpx.AsyncClient]:
    """A signed-in caller of the edge."""
    issuer = Issuer()
    chat = Servicer(chat_pb2_grpc.add_ChatServiceServicer_to_server, Chat(behind), "parley.chat.v1.ChatService")
    data = Servicer(
        data_pb2_grpc.add_ConversationServiceServicer_to_server, Data(behind), "parley.data.v1.ConversationService"
    )
    async with (
        loopback("chat", chat, verifier=issuer.verifier("chat")) as chat_address,
        loopback("data", data, verifier=issuer.verifier("data")) as data_address,
    ):
        config = EdgeConfig(
            listen="127.0.0.1:1", auth_address="127.0.0.1:1", data_address=data_address, chat_address=chat_address
        )
        async with connect(config) as services:
            streams = Streams(limit=10, heartbeat_s=15, stalled_reader_s=60)
            app = build(config, services, issuer.verifier("edge"), streams, Readiness({}))
            headers = {"authorization": f"Bearer {issuer.token()}"}
            transport = httpx.ASGITransport(app)
            async with httpx.AsyncClient(transport=transport, base_url="http://edge", headers=headers) as client:
                yield client


def run(status: chat_pb2.RunStatus.ValueType = chat_pb2.RUN_STATUS_QUEUED, **more: Any) -> chat_pb2.Run:
    return chat_pb2.Run(id=RUN, conversation_id=CONVERSATION, message_id=MESSAGE, status=status, **more)


def whole_run() -> list[chat_pb2.StartRunResponse]:
    events = [
        chat_pb2.RunEvent(seq=1, run=chat_pb2.RunStarted(conversation_id=CONVERSATION)),
        chat_pb2.RunEvent(seq=2, done=chat_pb2.Done(status=chat_pb2.RUN_STATUS_COMPLETED)),
    ]
    return [chat_pb2.StartRunResponse(run_id=RUN, events=events)]


# Starting


@pytest.mark.parametrize(
    ("word", "value"),
    [
        ("reject", chat_pb2.ON_CONFLICT_REJECT),
        ("enqueue", chat_pb2.ON_CONFLICT_ENQUEUE),
        ("interrupt", chat_pb2.ON_CONFLICT_INTERRUPT),
        (None, chat_pb2.ON_CONFLICT_UNSPECIFIED),
    ],
)
@pytest.mark.parametrize("path", ["/v1/chat", f"/v1/conversations/{CONVERSATION}/runs"])
async def test_what_happens_on_a_conflict_is_passed_on(
    http: httpx.AsyncClient, behind: Behind, path: str, word: str | None, value: int
) -> None:
    behind.answers = [whole_run()]
    assert (await http.post(path, json={"message": "Hi", "on_conflict": word})).status_code == 200
    assert behind.asked[0].on_conflict == value


@pytest.mark.parametrize(
    ("body", "branch"),
    [
        ({"message": "Hi"}, None),
        ({"message": "Hi", "edit_message_id": MESSAGE}, "edit_message_id"),
        ({"regenerate_message_id": MESSAGE}, "regenerate_message_id"),
        ({"continue_message_id": MESSAGE, "message": None}, "continue_message_id"),
    ],
)
async def test_a_branch_is_passed_on(
    http: httpx.AsyncClient, behind: Behind, body: dict[str, str], branch: str | None
) -> None:
    behind.answers = [whole_run()]
    assert (await http.post(f"/v1/conversations/{CONVERSATION}/runs", json=body)).status_code == 200
    [asked] = behind.asked
    assert (asked.WhichOneof("branch"), asked.message) == (branch, body.get("message") or "")
    assert branch is None or getattr(asked, branch) == MESSAGE


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({}, "message"),
        ({"edit_message_id": MESSAGE}, "message"),
        ({"message": "Hi", "regenerate_message_id": MESSAGE}, "regenerate_message_id"),
        ({"message": "Hi", "continue_message_id": MESSAGE}, "continue_message_id"),
        ({"regenerate_message_id": MESSAGE, "continue_message_id": MESSAGE}, "continue_message_id"),
        ({"regenerate_message_id": MESSAGE, "edit_message_id": MESSAGE}, "edit_message_id"),
        ({"message": "Hi", "edit_message_id": "x"}, "edit_message_id"),
        ({"regenerate_message_id": ""}, "regenerate_message_id"),
        ({"message": "Hi", "on_conflict": "wait"}, "on_conflict"),
    ],
)
async def test_a_run_that_is_not_one_thing_is_refused_by_field(
    http: httpx.AsyncClient, behind: Behind, body: dict[str, str], field: str
) -> None:
    answer = await http.post(f"/v1/conversations/{CONVERSATION}/runs", json=body)
    assert (answer.status_code, answer.json()["field"]) == (400, field)
    assert behind.asked == []


async def test_a_message_without_a_conversation_cannot_branch(http: httpx.AsyncClient) -> None:
    answer = await http.post("/v1/chat", json={"message": "Hi", "edit_message_id": MESSAGE})
    assert (answer.status_code, answer.json()["field"]) == (400, "edit_message_id")


@pytest.mark.parametrize("path", ["/v1/chat", f"/v1/conversations/{CONVERSATION}/runs"])
async def test_who_does_not_want_to_wait_is_answered_at_once(
    http: httpx.AsyncClient, behind: Behind, path: str
) -> None:
    behind.answers = [chat_pb2.SubmitRunResponse(run=run())]
    headers = {"prefer": "respond-async", "accept": "application/json"}
    answer = await http.post(path, json={"message": "Hi"}, headers=headers)
    assert answer.status_code == 202
    assert answer.json() == {
        "conversation_id": CONVERSATION,
        "message_id": MESSAGE,
        "run_id": RUN,
        "status": "processing",
    }
    assert answer.headers["preference-applied"] == "respond-async"
    assert answer.headers["location"] == f"/v1/runs/{RUN}"
    assert isinstance(behind.asked[0], chat_pb2.SubmitRunRequest)


async def test_several_lines_of_a_header_are_one_list(http: httpx.AsyncClient, behind: Behind) -> None:
    behind.answers = [chat_pb2.SubmitRunResponse(run=run()), whole_run()]
    lines = [("prefer", "wait=1"), ("prefer", "respond-async")]
    assert (await http.post("/v1/chat", json={"message": "Hi"}, headers=lines)).status_code == 202
    lines = [("accept", "application/json"), ("accept", "text/event-stream")]
    assert (await http.post("/v1/chat", json={"message": "Hi"}, headers=lines)).status_code == 200


async def test_a_limit_that_is_reached_is_told_with_its_numbers(http: httpx.AsyncClient, behind: Behind) -> None:
    """Whether the caller wants to wait or not."""
    resets_at = "2026-11-21T12:00:00.000Z"
    limit = {"limit_type": "requests_minute", "current": "10", "limit": "10", "resets_at": resets_at}
    reached = ResourceExhausted.of("RATE_LIMIT_EXCEEDED", "Wait.", retry_after_s=6.5, **limit)
    behind.answers = [reached, reached]
    for headers in ({}, {"prefer": "respond-async"}):
        answer = await http.post("/v1/chat", json={"message": "Hi"}, headers=headers)
        told = answer.json()
        assert (answer.status_code, told["code"], answer.headers["retry-after"]) == (429, "rate_limit_exceeded", "7")
        assert {name: told[name] for name in ("limit_type", "current", "limit", "resets_at", "retry_after")} == {
            "limit_type": "requests_minute",
            "current": 10,
            "limit": 10,
            "resets_at": resets_at,
            "retry_after": 6.5,
        }


async def test_a_resend_in_the_background_says_that_the_run_has_ended(http: httpx.AsyncClient, behind: Behind) -> None:
    behind.answers = [chat_pb2.SubmitRunResponse(run=run(chat_pb2.RUN_STATUS_COMPLETED))]
    answer = await http.post("/v1/chat", json={"message": "Hi"}, headers={"prefer": "respond-async"})
    assert (answer.status_code, answer.json()["status"]) == (202, "completed")


@pytest.mark.parametrize("headers", [{}, {"prefer": "respond-async"}])
async def test_one_run_at_a_time_is_told_so_that_sdks_do_not_repeat_it(
    http: httpx.AsyncClient, behind: Behind, headers: dict[str, str]
) -> None:
    behind.answers = [Conflict.of("CONCURRENT_REQUEST", "One at a time.", run_id=RUN)]
    answer = await http.post("/v1/chat", json={"message": "Hi"}, headers=headers)
    assert (answer.status_code, answer.json()["code"], answer.json()["run_id"]) == (409, "concurrent_request", RUN)
    assert answer.headers["x-should-retry"] == "false"


@pytest.mark.parametrize("headers", [{}, {"prefer": "respond-async"}])
async def test_what_is_away_is_told_with_when_to_come_back(
    http: httpx.AsyncClient, behind: Behind, headers: dict[str, str]
) -> None:
    behind.answers = [Unavailable("The database is away.")]
    answer = await http.post("/v1/chat", json={"message": "Hi"}, headers=headers)
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "1")
    assert len(behind.asked) == 1


async def test_an_instance_that_is_about_to_stop_is_passed_over(http: httpx.AsyncClient, behind: Behind) -> None:
    behind.answers = [
        Unavailable.of("DRAINING", "Elsewhere."),
        whole_run(),
        Unavailable.of("DRAINING", "Elsewhere."),
        chat_pb2.SubmitRunResponse(run=run()),
    ]
    assert b"event: done" in (await http.post("/v1/chat", json={"message": "Hi"})).content
    answer = await http.post("/v1/chat", json={"message": "Hi"}, headers={"prefer": "respond-async"})
    assert answer.status_code == 202


# Watching


async def test_a_stream_goes_on_with_another_instance(http: httpx.AsyncClient, behind: Behind) -> None:
    [batch] = whole_run()
    first = chat_pb2.StartRunResponse(run_id=RUN, events=batch.events[:1])
    rest = chat_pb2.WatchRunResponse(run_id=RUN, events=batch.events[1:])
    behind.answers = [[first, Unavailable.of("RUN_MOVED", "Elsewhere.", retry_after_s=0.01)], [rest]]
    answer = await http.post("/v1/chat", json={"message": "Hi"})
    assert [line for line in answer.text.split("\n") if line.startswith("id:")] == [f"id: {RUN}:1", f"id: {RUN}:2"]
    assert "retry:" not in answer.text
    assert behind.asked[1] == chat_pb2.WatchRunRequest(run_id=RUN, after_seq=1)


async def test_a_watch_asks_for_what_comes_after_its_cursor(http: httpx.AsyncClient, behind: Behind) -> None:
    for query in ("after=4", f"after={RUN}:4"):
        behind.answers = [[]]
        assert (await http.get(f"/v1/runs/{RUN}/events?{query}")).status_code == 204
        assert behind.asked.pop() == chat_pb2.WatchRunRequest(run_id=RUN, after_seq=4)


async def test_a_watch_that_has_lasted_too_long_for_its_token_comes_back(
    http: httpx.AsyncClient, behind: Behind
) -> None:
    [batch] = whole_run()
    told = chat_pb2.WatchConversationResponse(run_id=RUN, events=batch.events)
    behind.answers = [[told, Unavailable.of("WATCH_EXPIRED", "Come back.", retry_after_s=0.1)]]
    answer = await http.get(f"/v1/conversations/{CONVERSATION}/events", headers={"last-event-id": f"{RUN}:0"})
    assert answer.text.endswith("retry: 1000\n\n")
    assert behind.asked == [chat_pb2.WatchConversationRequest(conversation_id=CONVERSATION, after_run_id=RUN)]


# Conversations


async def test_words_search_and_no_words_list(http: httpx.AsyncClient, behind: Behind) -> None:
    conversation = data_pb2.Conversation(id=CONVERSATION, title="Sea", head_message_id=MESSAGE)
    found = data_pb2.SearchResult(conversation=conversation, message_id=MESSAGE, snippet="at sea")
    behind.answers = [
        data_pb2.SearchConversationsResponse(results=[found], next_page_token="more"),
        data_pb2.ListConversationsResponse(conversations=[conversation]),
    ]
    searched = (await http.get("/v1/conversations?q=sea&page_size=1&page_token=x")).json()
    listed = (await http.get("/v1/conversations")).json()
    assert behind.asked[0] == data_pb2.SearchConversationsRequest(query="sea", page_size=1, page_token="x")
    assert searched["next_page_token"] == "more"
    assert searched["conversations"][0]["match"] == {"message_id": MESSAGE, "snippet": "at sea"}
    assert listed["conversations"][0]["match"] is None
    assert listed["conversations"][0]["head_message_id"] == MESSAGE


@pytest.mark.parametrize("words", ["", "x" * 201, "%00"])
async def test_words_that_are_none_are_refused_by_name(http: httpx.AsyncClient, words: str) -> None:
    answer = await http.get(f"/v1/conversations?q={words}")
    assert (answer.status_code, answer.json()["field"]) == (400, "q")


async def test_a_change_moves_to_a_branch_and_then_renames(http: httpx.AsyncClient, behind: Behind) -> None:
    conversation = data_pb2.Conversation(id=CONVERSATION, title="Sea")
    behind.answers = [
        data_pb2.SelectBranchResponse(conversation=conversation),
        data_pb2.UpdateConversationResponse(conversation=conversation),
    ]
    answer = await http.patch(f"/v1/conversations/{CONVERSATION}", json={"title": "Sea", "head_message_id": MESSAGE})
    assert (answer.status_code, answer.json()["head_message_id"]) == (200, None)
    assert behind.asked == [
        data_pb2.SelectBranchRequest(conversation_id=CONVERSATION, message_id=MESSAGE),
        data_pb2.UpdateConversationRequest(conversation_id=CONVERSATION, title="Sea"),
    ]


async def test_a_change_of_nothing_is_refused(http: httpx.AsyncClient) -> None:
    answer = await http.patch(f"/v1/conversations/{CONVERSATION}", json={"head_message_id": None})
    assert (answer.status_code, answer.json()["field"]) == (400, "title")


async def test_a_message_tells_its_tools_and_its_branches(http: httpx.AsyncClient, behind: Behind) -> None:
    parts = [
        data_pb2.Part(text="Let me look. "),
        data_pb2.Part(tool_use=data_pb2.ToolUse(tool_call_id="t", name="look", input_json='{"at": 1}')),
        data_pb2.Part(tool_result=data_pb2.ToolResult(tool_call_id="t", name="look", content="Sea", is_error=True)),
        data_pb2.Part(text="It is the sea."),
        data_pb2.Part(),
    ]
    message = data_pb2.Message(
        id=MESSAGE,
        role=data_pb2.ROLE_ASSISTANT,
        state=data_pb2.MESSAGE_STATE_COMPLETE,
        parts=parts,
        parent_id=RUN,
        sibling_ids=[MESSAGE, RUN],
    )
    behind.answers = [data_pb2.ListMessagesResponse(messages=[message])]
    [told] = (await http.get(f"/v1/conversations/{CONVERSATION}/messages")).json()["messages"]
    assert told["content"] == "Let me look. It is the sea."
    assert told["parts"] == [
        {"type": "text", "text": "Let me look. "},
        {"type": "tool_use", "tool_call_id": "t", "name": "look", "input": {"at": 1}},
        {"type": "tool_result", "tool_call_id": "t", "name": "look", "content": "Sea", "is_error": True},
        {"type": "text", "text": "It is the sea."},
    ]
    assert (told["parent_id"], told["sibling_ids"]) == (RUN, [MESSAGE, RUN])


# Dead letters


async def test_dead_letters_are_listed_retried_and_dropped(http: httpx.AsyncClient, behind: Behind) -> None:
    failed = run(chat_pb2.RUN_STATUS_FAILED, error_reason="PROVIDER_UNAVAILABLE")
    behind.answers = [
        chat_pb2.ListDeadLettersResponse(
            dead_letters=[chat_pb2.DeadLetter(run=failed, user_id=MESSAGE, tries=3)], next_page_token="more"
        ),
        chat_pb2.RetryDeadLetterResponse(run=run(response_model="gpt")),
        chat_pb2.DropDeadLetterResponse(),
    ]
    path = "/v1/admin/dead-letters"
    listed = (await http.get(path)).json()
    assert listed["next_page_token"] == "more"
    [letter] = listed["dead_letters"]
    assert (letter["run"]["id"], letter["run"]["error_code"], letter["tries"]) == (RUN, "provider_unavailable", 3)
    retried = (await http.post(f"{path}/{RUN}/retry")).json()
    assert (retried["id"], retried["status"], retried["response_model"]) == (RUN, "queued", "gpt")
    assert (await http.delete(f"{path}/{RUN}")).status_code == 204
    assert behind.asked[1:] == [
        chat_pb2.RetryDeadLetterRequest(run_id=RUN),
        chat_pb2.DropDeadLetterRequest(run_id=RUN),
    ]


async def test_who_may_not_see_dead_letters_is_told_which_permission_it_takes(
    http: httpx.AsyncClient, behind: Behind
) -> None:
    behind.answers = [PermissionDenied("This needs the permission run:admin.", permission="run:admin")]
    answer = await http.get("/v1/admin/dead-letters")
    assert (answer.status_code, answer.json()["permission"]) == (403, "run:admin")
