"""A well-formed message goes past the framework; everything else goes through it, and both answer alike."""

import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
from starlette.responses import Response

from runtime.testing import Issuer
from services.edge.app import build
from services.edge.clients import connect
from services.edge.config import EdgeConfig
from services.edge.operation.readiness import Readiness
from services.edge.runs import start
from services.edge.runs.shortcut import Shortcut
from services.edge.streams import Streams

CONVERSATION = "0193e3b4-0000-7000-8000-000000000001"
ISSUER = Issuer()
WAYS = ["shortcut", "framework"]


@pytest.fixture
async def front(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Any]:
    """The edge's application, whose runs answer with what they were asked."""

    async def echo(self: Any, scope: Any, fields: dict[str, Any]) -> Response:
        return Response(json.dumps(fields), media_type="application/json")

    monkeypatch.setattr(start.StartRoutes, "answer", echo)
    nowhere = "127.0.0.1:1"
    config = EdgeConfig(listen=nowhere, auth_address=nowhere, data_address=nowhere, chat_address=nowhere)
    async with connect(config) as services:
        streams = Streams(limit=1, heartbeat_s=15, stalled_reader_s=60)
        yield build(config, services, ISSUER.verifier("edge"), streams, Readiness({}))


async def ask(front: Any, way: str, path: str, body: bytes, **headers: str) -> tuple[int, Any, str]:
    """Returns status, body (without what differs from request to request) and the route that was noted."""
    stack = front._app
    assert isinstance(stack, Shortcut)
    passed: list[int] = []

    async def framework(*args: Any) -> None:
        passed.append(1)
        await stack._app(*args)

    front._app = framework if way == "framework" else Shortcut(framework, stack._start, stack._callers)
    given = {"content_type": "application/json", "authorization": f"Bearer {ISSUER.token('u-1')}", **headers}
    raw = [(name.replace("_", "-").encode(), value.encode()) for name, value in given.items()]
    scope = {
        "type": "http",
        "method": "POST",
        "scheme": "http",
        "path": path,
        "query_string": b"",
        "headers": [*raw, (b"content-length", str(len(body)).encode())],
    }
    sent: list[Any] = []

    async def receive() -> Any:
        return {"type": "http.request", "body": body, "more_body": False}

    async def send(message: Any) -> None:
        sent.append(message)

    try:
        await front(scope, receive, send)
    finally:
        front._app = stack
    content = json.loads(b"".join(message.get("body", b"") for message in sent[1:]))
    content.pop("request_id", None)
    front.passed = bool(passed)
    return sent[0]["status"], content, scope["route"].path  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/v1/chat", {"message": "hello"}),
        ("/v1/chat", {"message": "hello", "conversation_id": CONVERSATION, "model": "m", "on_conflict": "enqueue"}),
        (f"/v1/conversations/{CONVERSATION}/runs", {"message": "hello", "client_message_id": "c"}),
        (f"/v1/conversations/{CONVERSATION}/runs", {"regenerate_message_id": CONVERSATION}),
    ],
)
async def test_a_well_formed_message_goes_past_the_framework_with_the_same_outcome(
    front: Any, path: str, body: dict[str, Any]
) -> None:
    direct = await ask(front, "shortcut", path, json.dumps(body).encode())
    assert not front.passed
    assert direct == await ask(front, "framework", path, json.dumps(body).encode())
    assert direct[0] == 200


@pytest.mark.parametrize(
    ("path", "body", "headers"),
    [
        ("/v1/chat", b"{", {}),
        ("/v1/chat", b"[]", {}),
        ("/v1/chat", b'{"message":""}', {}),
        ("/v1/chat", b'{"message":" "}', {}),
        ("/v1/chat", b'{"message":"x","other":1}', {}),
        ("/v1/chat", b'{"message":"x","conversation_id":"no"}', {}),
        ("/v1/chat", b'{"message":"x"}', {"content_type": "text/plain"}),
        (f"/v1/conversations/{CONVERSATION}/runs", b"{}", {}),
        (f"/v1/conversations/{CONVERSATION}/runs", b'{"message":"x","regenerate_message_id":"y"}', {}),
        ("/v1/conversations/no/runs", b'{"message":"x"}', {}),
    ],
)
async def test_what_is_wrong_is_told_by_the_framework(
    front: Any, path: str, body: bytes, headers: dict[str, str]
) -> None:
    told = await ask(front, "shortcut", path, body, **headers)
    assert front.passed
    assert told == await ask(front, "framework", path, body, **headers)
    assert told[0] in {400, 415}


@pytest.mark.parametrize("authorization", ["", "Bearer a.b.c", "Basic eA=="])
async def test_who_is_not_signed_in_is_told_the_same_either_way(front: Any, authorization: str) -> None:
    body = b'{"message":"hello"}'
    told = [await ask(front, way, "/v1/chat", body, authorization=authorization) for way in WAYS]
    assert told[0] == told[1]
    assert told[0][0] == 401


async def test_other_words_for_json_are_understood_too(front: Any) -> None:
    status, _, _ = await ask(
        front, "shortcut", "/v1/chat", b'{"message":"x"}', content_type="application/json; charset=utf-8"
    )
    assert (status, front.passed) == (200, True)
