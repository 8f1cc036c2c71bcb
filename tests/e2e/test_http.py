"""The API over HTTP: conversations, runs, and every way to ask wrongly."""

import asyncio
import json
import secrets
import uuid
from collections.abc import Awaitable, Callable
from typing import Any

import grpc
import httpx
import pytest
from google.protobuf import empty_pb2
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from parley.auth.v1 import auth_pb2, auth_pb2_grpc
from parley.chat.v1 import chat_pb2, chat_pb2_grpc
from tests.e2e.person import PASSWORD, Person
from tests.e2e.system import ALLOWED_ORIGIN, System
from tests.fakes.llm_provider import Answer

UNKNOWN = "0193f000-0000-7000-8000-000000000000"
NewPerson = Callable[[], Awaitable[Person]]


def problem(answer: httpx.Response) -> dict[str, Any]:
    assert answer.headers["content-type"] == "application/problem+json", answer.text
    body: dict[str, Any] = answer.json()
    assert body["status"] == answer.status_code
    assert body["request_id"] == answer.headers["x-request-id"]
    assert {"type", "title", "detail", "code"} <= body.keys()
    return body


def refusal(answer: httpx.Response) -> tuple[int, str, str | None]:
    body = problem(answer)
    return answer.status_code, body["code"], body.get("field")


# Conversations


async def test_a_conversation_can_be_made_read_renamed_and_deleted(person: Person) -> None:
    made = (await person.http.post("/v1/conversations", json={"title": "Hôtel 🏨"})).json()
    assert made.keys() == {"id", "title", "created_at", "updated_at"}
    path = f"/v1/conversations/{made['id']}"
    assert (await person.http.get(path)).json() == made
    renamed = await person.http.patch(path, json={"title": "Sea"})
    assert renamed.json()["title"] == "Sea"
    deleted = await person.http.delete(path)
    assert (deleted.status_code, deleted.content) == (204, b"")
    assert refusal(await person.http.get(path)) == (404, "conversation_not_found", None)


@pytest.mark.parametrize("body", [b"", b"{}", b'{"title": null}', b'{"title": ""}'])
async def test_a_conversation_needs_no_title(person: Person, body: bytes) -> None:
    answer = await person.http.post("/v1/conversations", content=body, headers={"content-type": "application/json"})
    assert (answer.status_code, answer.json()["title"]) == (201, "")


async def test_conversations_are_listed_by_pages_with_the_latest_first(person: Person) -> None:
    made = [await person.conversation(title=str(number)) for number in range(5)]
    seen: list[str] = []
    token = ""
    for size in (2, 2, 1):
        page = (await person.http.get("/v1/conversations", params={"page_size": 2, "page_token": token})).json()
        assert len(page["conversations"]) == size
        seen += [one["id"] for one in page["conversations"]]
        token = page["next_page_token"]
    assert token == ""
    assert seen == made[::-1]


async def test_nobody_sees_anothers_conversations(newcomer: NewPerson) -> None:
    owner, other = await newcomer(), await newcomer()
    await owner.conversation()
    assert (await other.http.get("/v1/conversations")).json() == {"conversations": [], "next_page_token": ""}


async def test_messages_are_paged_backwards_and_read_forwards(person: Person) -> None:
    conversation = await person.conversation()
    for number in range(3):
        await person.say(f"message {number}", conversation_id=conversation)
    path = f"/v1/conversations/{conversation}/messages"
    newest = (await person.http.get(path, params={"page_size": 4})).json()
    older = (await person.http.get(path, params={"page_size": 4, "page_token": newest["next_page_token"]})).json()
    assert older["next_page_token"] == ""
    asked = [one["content"] for one in older["messages"] + newest["messages"] if one["role"] == "user"]
    assert asked == ["message 0", "message 1", "message 2"]


# Somebody else's is like unknown


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("GET", "/v1/conversations/{conversation}", None),
        ("PATCH", "/v1/conversations/{conversation}", {"title": "Mine now"}),
        ("DELETE", "/v1/conversations/{conversation}", None),
        ("GET", "/v1/conversations/{conversation}/messages", None),
        ("POST", "/v1/conversations/{conversation}/runs", {"message": "Let me in"}),
        ("POST", "/v1/chat", {"message": "Let me in", "conversation_id": "{conversation}"}),
        ("GET", "/v1/runs/{run}", None),
        ("POST", "/v1/runs/{run}/cancel", None),
        ("GET", "/v1/runs/{run}/events", None),
        ("GET", "/v1/runs/{run}/events?after=1", None),
    ],
)
async def test_somebody_elses_is_answered_as_unknown(
    newcomer: NewPerson, method: str, path: str, body: dict[str, str] | None
) -> None:
    owner, other = await newcomer(), await newcomer()
    stream = await owner.say("A secret")
    theirs = {"conversation": stream.frames[0].data["conversation_id"], "run": stream.run_id}
    nobodys = {"conversation": UNKNOWN, "run": UNKNOWN}
    answers = []
    for ids in (theirs, nobodys):
        filled = {key: value.format(**ids) for key, value in body.items()} if body else None
        answer = await other.http.request(method, path.format(**ids), json=filled)
        assert answer.status_code == 404
        answers.append({**problem(answer), "request_id": ""})
    assert answers[0] == answers[1]


async def test_a_refused_intruder_has_changed_nothing(newcomer: NewPerson) -> None:
    owner, other = await newcomer(), await newcomer()
    conversation = await owner.conversation(title="Mine")
    path = f"/v1/conversations/{conversation}"
    await other.http.patch(path, json={"title": "Yours"})
    await other.http.delete(path)
    await other.http.post(f"{path}/runs", json={"message": "Hello"})
    assert (await owner.http.get(path)).json()["title"] == "Mine"
    assert await owner.messages(conversation) == []


# Fields


MALFORMED_ID = [
    "x",
    "123",
    "0193f000-0000-7000-8000-00000000000g",
    "%00",
    "..%2f",
    "0193f000-0000-7000-8000-0000000000000",
]


@pytest.mark.parametrize("malformed", MALFORMED_ID)
@pytest.mark.parametrize(
    ("method", "path", "field"),
    [
        ("GET", "/v1/conversations/{}", "conversation_id"),
        ("DELETE", "/v1/conversations/{}", "conversation_id"),
        ("GET", "/v1/conversations/{}/messages", "conversation_id"),
        ("GET", "/v1/runs/{}", "run_id"),
        ("POST", "/v1/runs/{}/cancel", "run_id"),
        ("GET", "/v1/runs/{}/events", "run_id"),
    ],
)
async def test_an_id_that_is_none_is_named(person: Person, method: str, path: str, field: str, malformed: str) -> None:
    answer = await person.http.request(method, path.format(malformed))
    # A path with an encoded slash is another path.
    expected = {(400, "invalid_argument", field)} | ({(404, "not_found", None)} if "%2f" in malformed else set())
    assert refusal(answer) in expected


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({}, "message"),
        ({"message": ""}, "message"),
        ({"message": " \n\t\u3000"}, "message"),
        ({"message": "x" * 10_001}, "message"),
        ({"message": "🙂" * 10_001}, "message"),
        ({"message": "nul \x00"}, "message"),
        ({"message": None}, "message"),
        ({"message": 7}, "message"),
        ({"message": ["Hi"]}, "message"),
        ({"message": "Hi", "conversation_id": ""}, "conversation_id"),
        ({"message": "Hi", "conversation_id": "x"}, "conversation_id"),
        ({"message": "Hi", "conversation_id": 7}, "conversation_id"),
        ({"message": "Hi", "client_message_id": ""}, "client_message_id"),
        ({"message": "Hi", "client_message_id": "x" * 129}, "client_message_id"),
        ({"message": "Hi", "client_message_id": 7}, "client_message_id"),
        ({"message": "Hi", "client_message_id": "nul \x00"}, "client_message_id"),
        ({"message": "Hi", "model": "x" * 201}, "model"),
        ({"message": "Hi", "model": 7}, "model"),
        ({"message": "Hi", "stream": True}, "stream"),
        ({"message": "Hi", "": 1}, "body"),
        ([], "body"),
        (None, "body"),
        ("Hi", "body"),
    ],
)
async def test_a_message_that_breaks_a_rule_is_refused_by_field(person: Person, body: object, field: str) -> None:
    answer = await person.http.post("/v1/chat", content=json.dumps(body), headers={"content-type": "application/json"})
    assert refusal(answer) == (400, "invalid_argument", field)


async def test_a_message_of_ten_thousand_characters_is_answered(person: Person) -> None:
    """Characters are code points, not bytes."""
    stream = await person.say("🙂" * 10_000)
    assert stream.last.event == "done"


@pytest.mark.parametrize(
    ("method", "body", "field"),
    [
        ("POST", {"title": "x" * 201}, "title"),
        ("POST", {"title": 7}, "title"),
        ("POST", {"title": "nul \x00"}, "title"),
        ("POST", {"name": "x"}, "name"),
        ("PATCH", {}, "title"),
        ("PATCH", {"title": ""}, "title"),
        ("PATCH", {"title": "x" * 201}, "title"),
        ("PATCH", {"title": None}, "title"),
        ("PATCH", {"title": "x", "owner": "me"}, "owner"),
    ],
)
async def test_a_title_that_breaks_a_rule_is_refused_by_field(
    person: Person, method: str, body: object, field: str
) -> None:
    path = "/v1/conversations" + (f"/{await person.conversation()}" if method == "PATCH" else "")
    answer = await person.http.request(method, path, json=body)
    assert refusal(answer) == (400, "invalid_argument", field)


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ("page_size=-1", "page_size"),
        ("page_size=101", "page_size"),
        ("page_size=ten", "page_size"),
        ("page_size=1e9", "page_size"),
        ("page_size=99999999999999999999", "page_size"),
        ("page_token=garbage", "page_token"),
        ("page_token=%00", "page_token"),
        ("page_token=" + "A" * 600, "page_token"),
        ("page_token=AAAA", "page_token"),
        ("page_token=%ff%fe", "page_token"),
    ],
)
async def test_a_page_that_is_none_is_refused_by_field(person: Person, query: str, field: str) -> None:
    for path in ("/v1/conversations", f"/v1/conversations/{await person.conversation()}/messages"):
        assert refusal(await person.http.get(f"{path}?{query}")) == (400, "invalid_argument", field)


async def test_a_page_token_of_another_list_opens_nothing(person: Person) -> None:
    for _ in range(2):
        await person.conversation()
    page = (await person.http.get("/v1/conversations?page_size=1")).json()
    path = f"/v1/conversations/{await person.conversation()}/messages"
    answer = await person.http.get(path, params={"page_token": page["next_page_token"]})
    assert refusal(answer) == (400, "invalid_argument", "page_token")


async def test_an_unknown_model_is_told_by_its_reason(person: Person) -> None:
    answer = await person.http.post("/v1/chat", json={"message": "Hi", "model": "no-such-model"})
    # Before the run with a status, or as the run's last event: both are within the contract.
    if answer.status_code == 200:
        assert b"event: error" in answer.content
        assert b"model_not_found" in answer.content
    else:
        assert problem(answer)["code"] == "model_not_found"


async def test_all_faults_of_a_request_are_told(person: Person) -> None:
    body = problem(await person.http.post("/v1/chat", json={"message": "", "model": 7, "extra": 1}))
    assert {fault["field"] for fault in body["errors"]} == {"message", "model", "extra"}


# Bodies


@pytest.mark.parametrize(
    "content",
    [
        b"{",
        b"{'message': 'Hi'}",
        b'{"message": NaN}',
        b'{"message": "\xff\xfe"}',
        b'{"message": "\xed\xa0\x80"}',
        b'{"message": "\\ud800"}',
        b"\xff\xfe{\x00}\x00",
        b'\xef\xbb\xbf{"message": "Hi"}',
        b'{"message": "Hi"} {}',
        b"[" * 100_000,
        b'{"message":' * 50_000,
        b'{"message": ' + b"1" * 5000 + b"}",
        b"\x00",
    ],
    ids=[
        "cut",
        "quotes",
        "nan",
        "bytes",
        "surrogate bytes",
        "lone surrogate",
        "utf-16",
        "bom",
        "two",
        "deep list",
        "deep object",
        "huge number",
        "nul",
    ],
)
async def test_a_body_that_is_no_json_is_refused(person: Person, content: bytes) -> None:
    answer = await person.http.post("/v1/chat", content=content, headers={"content-type": "application/json"})
    assert refusal(answer) == (400, "invalid_argument", "body")


@pytest.mark.parametrize(
    "kind", [None, "", "text/plain", "application/x-www-form-urlencoded", "application/jsonx", "x"]
)
async def test_a_body_that_is_not_said_to_be_json_is_refused(person: Person, kind: str | None) -> None:
    headers = {} if kind is None else {"content-type": kind}
    answer = await person.http.post("/v1/chat", content=b'{"message": "Hi"}', headers=headers)
    assert refusal(answer)[:2] == (415, "unsupported_media_type")


async def test_a_body_may_say_its_charset(person: Person) -> None:
    headers = {"content-type": "Application/JSON; charset=utf-8"}
    answer = await person.http.post("/v1/conversations", content=b'{"title": "x"}', headers=headers)
    assert answer.status_code == 201


async def test_an_oversized_body_is_refused(person: Person) -> None:
    content = json.dumps({"message": "x" * (1024 * 1024)}).encode()
    headers = {"content-type": "application/json"}
    answer = await person.http.post("/v1/chat", content=content, headers=headers)
    assert refusal(answer)[:2] == (413, "body_too_large")

    async def pieces() -> Any:
        for at in range(0, len(content), 65_536):
            yield content[at : at + 65_536]

    answer = await person.http.post("/v1/chat", content=pieces(), headers=headers)
    assert refusal(answer)[:2] == (413, "body_too_large")


# Paths and methods


@pytest.mark.parametrize(
    "path", ["/v1", "/v1/nothing", "/v1/conversations/", "/auth/v1/otp", "/openapi.yaml", "/assets/../x"]
)
async def test_an_unknown_path_is_a_problem(person: Person, path: str) -> None:
    assert refusal(await person.http.get(path))[:2] == (404, "not_found")


@pytest.mark.parametrize(
    ("method", "path", "allow"),
    [
        ("PUT", "/v1/conversations", "GET, POST"),
        ("POST", f"/v1/conversations/{UNKNOWN}", "DELETE, GET, PATCH"),
        ("GET", "/v1/chat", "POST"),
        ("DELETE", f"/v1/runs/{UNKNOWN}", "GET"),
        ("GET", "/auth/v1/signup", "POST"),
        ("POST", "/healthz", "GET, HEAD"),
    ],
)
async def test_a_method_that_is_not_there_is_told_which_are(person: Person, method: str, path: str, allow: str) -> None:
    answer = await person.http.request(method, path)
    assert refusal(answer)[:2] == (405, "method_not_allowed")
    assert answer.headers["allow"] == allow


async def test_bytes_that_are_no_http_are_answered_as_a_problem(stack: System) -> None:
    host, _, port = stack.edge_url.removeprefix("http://").rpartition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    writer.write(b"NONSENSE\r\n\r\n")
    answer = await reader.read()
    writer.close()
    assert answer.startswith(b"HTTP/1.1 400 Bad Request\r\n")
    assert b"application/problem+json" in answer


# Around it


async def test_health_and_readiness_need_no_token(stack: System) -> None:
    async with httpx.AsyncClient(base_url=stack.edge_url) as http:
        assert (await http.get("/healthz")).json() == {"status": "ok"}
        assert (await http.get("/readyz")).json() == {"status": "ready"}


async def test_the_description_is_openapi_and_its_page_needs_no_outside_host(stack: System) -> None:
    async with httpx.AsyncClient(base_url=stack.edge_url) as http:
        assert (await http.get("/openapi.json")).json()["openapi"].startswith("3.1")
        page = await http.get("/docs")
        assert page.headers["content-type"] == "text/html; charset=utf-8"
        assert (await http.get("/docs/style.css")).status_code == 200


async def test_the_page_is_served_with_a_strict_policy(stack: System) -> None:
    async with httpx.AsyncClient(base_url=stack.edge_url) as http:
        answer = await http.get("/")
    assert answer.status_code == 200
    assert "script-src 'self'" in answer.headers["content-security-policy"]
    assert "unsafe" not in answer.headers["content-security-policy"]


async def test_a_listed_origin_may_call_from_a_browser(stack: System, person: Person) -> None:
    asked = await person.http.options(
        "/v1/chat",
        headers={
            "origin": ALLOWED_ORIGIN,
            "access-control-request-method": "POST",
            "access-control-request-headers": "authorization,content-type",
        },
    )
    assert asked.status_code == 204
    assert asked.headers["access-control-allow-origin"] == ALLOWED_ORIGIN
    answer = await person.http.get("/v1/conversations", headers={"origin": "https://evil.example.com"})
    assert "access-control-allow-origin" not in answer.headers


async def test_each_service_publishes_metrics(stack: System) -> None:
    async with httpx.AsyncClient() as http:
        for name, described in stack.stack.describe()["services"].items():
            answer = await http.get(f"http://{described['metrics_address']}/metrics")
            assert answer.status_code == 200, name
            assert b"parley_" in answer.content, name


# The same over gRPC, as an internal service calls it


async def test_an_internal_service_signs_in_and_starts_a_run_over_grpc(stack: System, person: Person) -> None:
    stack.provider.script(Answer(text="Over the wire"), match="by gRPC")
    async with (
        grpc.aio.insecure_channel(stack.services["auth"]) as auth,
        grpc.aio.insecure_channel(stack.services["chat"]) as chat,
    ):
        signed_in = await auth_pb2_grpc.AuthServiceStub(auth).SignIn(
            auth_pb2.SignInRequest(email=person.email, password=PASSWORD)
        )
        metadata = [("authorization", f"Bearer {signed_in.session.access_token}")]
        call = chat_pb2_grpc.ChatServiceStub(chat).StartRun(
            chat_pb2.StartRunRequest(message="Say it by gRPC"), metadata=metadata
        )
        events = [event async for response in call for event in response.events]
    assert [event.seq for event in events] == list(range(1, len(events) + 1))
    assert "".join(event.text.delta for event in events) == "Over the wire"
    assert events[-1].done.status == chat_pb2.RUN_STATUS_COMPLETED
    messages = await person.messages(events[0].run.conversation_id)
    assert [one["content"] for one in messages] == ["Say it by gRPC", "Over the wire"]


@pytest.mark.parametrize(
    ("service", "name"),
    [
        ("auth", "parley.auth.v1.AuthService"),
        ("data", "parley.data.v1.ConversationService"),
        ("chat", "parley.chat.v1.ChatService"),
        ("gateway", "parley.gateway.v1.GatewayService"),
    ],
)
async def test_every_service_tells_its_health_and_its_contract(stack: System, service: str, name: str) -> None:
    async with grpc.aio.insecure_channel(stack.services[service]) as channel:
        for asked in ("", name):
            answer = await health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(service=asked))
            assert answer.status == health_pb2.HealthCheckResponse.SERVING
        reflection = reflection_pb2_grpc.ServerReflectionStub(channel)

        async def question() -> Any:
            yield reflection_pb2.ServerReflectionRequest(list_services="")

        async for listed in reflection.ServerReflectionInfo(question()):
            assert name in {one.name for one in listed.list_services_response.service}
            break


@pytest.mark.parametrize(
    ("service", "method"),
    [
        ("data", "/parley.data.v1.ConversationService/ListConversations"),
        ("data", "/parley.data.v1.RunService/BeginRun"),
        ("chat", "/parley.chat.v1.ChatService/GetRun"),
        ("gateway", "/parley.gateway.v1.GatewayService/ListModels"),
        ("auth", "/parley.auth.v1.AuthService/GetCurrentUser"),
    ],
)
async def test_no_service_trusts_its_network(stack: System, service: str, method: str) -> None:
    async with grpc.aio.insecure_channel(stack.services[service]) as channel:
        call = channel.unary_unary(
            method,
            request_serializer=empty_pb2.Empty.SerializeToString,
            response_deserializer=empty_pb2.Empty.FromString,
        )
        for metadata in ([], [("authorization", "Bearer forged")]):
            with pytest.raises(grpc.aio.AioRpcError) as refused:
                await call(empty_pb2.Empty(), metadata=metadata)
            assert refused.value.code() == grpc.StatusCode.UNAUTHENTICATED


async def test_ids_are_uuids_of_version_seven(person: Person) -> None:
    stream = await person.say(f"ids {secrets.token_hex(4)}")
    run = stream.frames[0].data
    for name in ("run_id", "conversation_id", "message_id", "user_message_id"):
        assert uuid.UUID(run[name]).version in {5, 7}, name
