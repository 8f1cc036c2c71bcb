"""The API's description says what is so."""

import html
import re
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
from fastapi import FastAPI

from parley.chat.v1 import chat_pb2
from runtime.testing import Issuer
from services.edge.app import build
from services.edge.clients import connect
from services.edge.config import EdgeConfig
from services.edge.description import describe
from services.edge.operation import docs
from services.edge.operation.readiness import Readiness
from services.edge.streams import Streams


@pytest.fixture(scope="module")
async def document() -> AsyncIterator[dict[str, Any]]:
    nowhere = "127.0.0.1:1"
    config = EdgeConfig(listen=nowhere, auth_address=nowhere, data_address=nowhere, chat_address=nowhere)
    async with connect(config) as services:
        streams = Streams(limit=1, heartbeat_s=15, stalled_reader_s=60)
        front = build(config, services, Issuer().verifier("edge"), streams, Readiness({}))
        app: Any = front._app
        while not isinstance(app, FastAPI):
            app = app._app  # what answers past the framework stands before it
        yield describe(app)


def operations(document: dict[str, Any]) -> Iterator[tuple[str, str, dict[str, Any]]]:
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            yield path, method.upper(), operation


def test_it_holds_the_paths_of_the_api(document: dict[str, Any]) -> None:
    assert {(method, path) for path, method, _ in operations(document)} == {
        ("POST", "/auth/v1/signup"),
        ("POST", "/auth/v1/token"),
        ("POST", "/auth/v1/logout"),
        ("GET", "/auth/v1/user"),
        ("GET", "/.well-known/jwks.json"),
        ("POST", "/v1/conversations"),
        ("GET", "/v1/conversations"),
        ("GET", "/v1/conversations/{conversation_id}"),
        ("PATCH", "/v1/conversations/{conversation_id}"),
        ("DELETE", "/v1/conversations/{conversation_id}"),
        ("GET", "/v1/conversations/{conversation_id}/messages"),
        ("POST", "/v1/conversations/{conversation_id}/runs"),
        ("POST", "/v1/chat"),
        ("GET", "/v1/runs/{run_id}"),
        ("POST", "/v1/runs/{run_id}/cancel"),
        ("GET", "/v1/runs/{run_id}/events"),
        ("GET", "/v1/conversations/{conversation_id}/events"),
        ("POST", "/v1/api-keys"),
        ("GET", "/v1/api-keys"),
        ("DELETE", "/v1/api-keys/{api_key_id}"),
        ("GET", "/v1/admin/dead-letters"),
        ("POST", "/v1/admin/dead-letters/{run_id}/retry"),
        ("DELETE", "/v1/admin/dead-letters/{run_id}"),
    }


def test_every_error_is_a_problem_and_none_is_fastapis_own(document: dict[str, Any]) -> None:
    for _, _, operation in operations(document):
        assert "422" not in operation["responses"]
        for status, answer in operation["responses"].items():
            if int(status) >= 400:
                assert list(answer["content"]) == ["application/problem+json"]
    assert "HTTPValidationError" not in document["components"]["schemas"]


def test_what_needs_an_access_token_says_so(document: dict[str, Any]) -> None:
    open_to_anyone = {"/auth/v1/signup", "/auth/v1/token", "/.well-known/jwks.json"}
    for path, _, operation in operations(document):
        assert ("security" in operation) == (path not in open_to_anyone), path
        assert ("401" in operation["responses"]) == (path not in open_to_anyone), path


def test_what_takes_a_body_says_what_may_be_wrong_with_it(document: dict[str, Any]) -> None:
    for path, _, operation in operations(document):
        assert ("requestBody" in operation) == ({"413", "415"} <= operation["responses"].keys()), path


def test_streams_are_described_as_streams(document: dict[str, Any]) -> None:
    for path in ("/v1/chat", "/v1/conversations/{conversation_id}/runs"):
        answers = document["paths"][path]["post"]["responses"]
        assert list(answers["200"]["content"]) == ["text/event-stream"]
        assert list(answers["202"]["content"]) == ["application/json"]
        assert "406" in answers


def test_every_event_that_is_sent_is_named(document: dict[str, Any]) -> None:
    for path in ("/v1/runs/{run_id}/events", "/v1/conversations/{conversation_id}/events"):
        item = document["paths"][path]["get"]["responses"]["200"]["content"]["text/event-stream"]["itemSchema"]
        kinds = chat_pb2.RunEvent.DESCRIPTOR.oneofs_by_name["kind"].fields
        assert set(item["properties"]["event"]["enum"]) == {kind.name for kind in kinds}


def test_every_reference_leads_somewhere(document: dict[str, Any]) -> None:
    schemas = document["components"]["schemas"]
    references = set(re.findall(r"#/components/schemas/(\w+)", str(document)))
    assert references <= schemas.keys()


def test_the_page_of_it_needs_no_script_and_no_outside_host(document: dict[str, Any]) -> None:
    page = docs.render(document)
    assert "<script" not in page
    assert " src=" not in page
    assert all(target.startswith(("/", "#")) for target in re.findall(r'href="([^"]*)"', page))
    for path, _, operation in operations(document):
        assert path in page
        assert html.escape(operation["summary"]) in page


def test_the_page_of_it_escapes_what_it_is_given() -> None:
    document = {
        "info": {"title": "<b>", "version": "1"},
        "paths": {"/<i>": {"get": {"summary": "<u>", "responses": {}}}},
        "components": {"schemas": {}},
    }
    page = docs.render(document)
    assert "<b>" not in page.replace("<b>GET</b>", "")
    assert "<i>" not in page
    assert "<u>" not in page
