"""Every way to ask wrongly: fields, bodies, paths and methods."""

import asyncio
import json
from typing import Any

import pytest

from tests.e2e.person import Person
from tests.e2e.refusals import problem, refusal
from tests.e2e.system import System

UNKNOWN = "0193f000-0000-7000-8000-000000000000"


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
