"""The API over HTTP: conversations, what is somebody else's, and what stands around the API."""

import secrets
import uuid
from collections.abc import Awaitable, Callable

import httpx
import pytest

from tests.e2e.person import Person
from tests.e2e.refusals import problem, refusal
from tests.e2e.system import ALLOWED_ORIGIN, System

UNKNOWN = "0193f000-0000-7000-8000-000000000000"
NewPerson = Callable[[], Awaitable[Person]]


# Conversations


async def test_a_conversation_can_be_made_read_renamed_and_deleted(person: Person) -> None:
    made = (await person.http.post("/v1/conversations", json={"title": "Hôtel 🏨"})).json()
    assert made.keys() == {"id", "title", "created_at", "updated_at", "head_message_id"}
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


async def test_ids_are_uuids_of_version_seven(person: Person) -> None:
    stream = await person.say(f"ids {secrets.token_hex(4)}")
    run = stream.frames[0].data
    for name in ("run_id", "conversation_id", "message_id", "user_message_id"):
        assert uuid.UUID(run[name]).version in {5, 7}, name
