"""Every error of the vocabulary becomes a problem document by one table."""

import json
from typing import Any

import msgspec
import pytest
from starlette.exceptions import HTTPException

from runtime import errors, status
from runtime.context import request_id
from services.edge import problems


@pytest.mark.parametrize("cls", status.TABLE, ids=lambda cls: cls.__name__)
def test_every_class_of_the_vocabulary_has_a_status(cls: type[errors.ParleyError]) -> None:
    assert problems.status_of(cls("x")) == problems.TABLE[cls]


def test_a_subclass_has_the_status_of_its_nearest_ancestor() -> None:
    class Gone(errors.NotFound):
        reason = "GONE"

    assert problems.status_of(Gone("x")) == 404
    assert problems.status_of(problems.BodyTooLarge("x")) == 413


def test_numbers_of_a_limit_are_numbers() -> None:
    error = errors.ResourceExhausted.of(
        "RATE_LIMIT_EXCEEDED", "Wait.", retry_after_s=2.5, current="10", limit="10", limit_type="x"
    )
    document = problems.document(error, path="/v1/chat")
    assert (document["status"], document["current"], document["limit"], document["limit_type"]) == (429, 10, 10, "x")
    assert problems.respond(error, path="/v1/chat").headers["retry-after"] == "3"


def test_a_document_has_the_members_of_rfc_9457_and_ours() -> None:
    request_id.set("abc")
    error = errors.NotFound.of("CONVERSATION_NOT_FOUND", "There is no such conversation.")
    assert problems.document(error, path="/v1/conversations/x") == {
        "type": "about:blank",
        "title": "Not Found",
        "status": 404,
        "detail": "There is no such conversation.",
        "code": "conversation_not_found",
        "request_id": "abc",
    }


def test_below_auth_the_document_also_speaks_gotrue() -> None:
    error = errors.AlreadyExists.of("EMAIL_TAKEN", "There is such a user.")
    document = problems.document(error, path="/auth/v1/signup")
    assert (document["error_code"], document["msg"]) == ("email_taken", "There is such a user.")


@pytest.mark.parametrize("reason", ["INVALID_CREDENTIALS", "INVALID_REFRESH_TOKEN"])
def test_a_failed_sign_in_is_400_as_gotrue_has_it(reason: str) -> None:
    assert problems.status_of(errors.Unauthenticated.of(reason, "No.")) == 400


def test_metadata_become_members_but_cannot_replace_ours() -> None:
    error = errors.ResourceExhausted("Wait.", limit_type="daily", status="200", code="ok")
    document = problems.document(error, path="/v1/chat")
    assert (document["limit_type"], document["status"], document["code"]) == ("daily", 429, "resource_exhausted")


def test_when_to_come_back_is_told_in_whole_seconds_in_the_header_and_exactly_in_the_body() -> None:
    answer = problems.respond(errors.Unavailable("Away.", retry_after_s=1.2), path="/v1/chat")
    assert answer.headers["retry-after"] == "2"
    assert json.loads(bytes(answer.body))["retry_after"] == 1.2


def test_401_says_how_to_prove_oneself() -> None:
    assert problems.respond(errors.Unauthenticated("No."), path="/").headers["www-authenticate"] == "Bearer"
    invalid = errors.Unauthenticated.of("INVALID_TOKEN", "No.")
    assert problems.respond(invalid, path="/").headers["www-authenticate"] == 'Bearer error="invalid_token"'


def test_faults_name_their_fields_and_not_what_was_sent() -> None:
    faults: list[dict[str, Any]] = [
        {"type": "missing", "loc": ("body", "email"), "msg": "Field required", "input": {"password": "hunter2"}},
        {"type": "string_too_long", "loc": ("body", "title"), "msg": "String should have at most 200 characters"},
        {"type": "model_attributes_type", "loc": ("body",), "msg": "…", "input": "hunter2"},
        {"type": "string_too_long", "loc": ("header", "last-event-id"), "msg": "Too long"},
    ]
    document = problems.document(problems.of_validation(faults), path="/v1/chat")
    assert document["field"] == "email"
    assert document["detail"] == "email: is required."
    assert [fault["field"] for fault in document["errors"]] == ["email", "title", "body", "last_event_id"]
    assert b"hunter2" not in msgspec.json.encode(document)


def test_the_name_of_an_unknown_field_is_told_within_bounds() -> None:
    error = problems.of_validation([{"type": "extra_forbidden", "loc": ("body", "x" * 5000), "msg": "…"}])
    assert len(error.metadata["field"]) == 64


def test_a_method_that_is_not_there_tells_those_that_are() -> None:
    error = problems.of_http(HTTPException(405), path="/v1/chat", allow="POST")
    assert problems.respond(error, path="/v1/chat").headers["allow"] == "POST"


def test_what_was_found_wrong_while_reading_the_body_is_told_as_it_is() -> None:
    wrapped = HTTPException(400)
    wrapped.__cause__ = errors.InvalidArgument("body: is not valid JSON.", field="body")
    assert problems.of_http(wrapped, path="/", allow="") is wrapped.__cause__


@pytest.mark.parametrize("cls", [errors.Unavailable, errors.DeadlineExceeded])
def test_whatever_is_away_says_when_to_come_back(cls: type[errors.ParleyError]) -> None:
    answer = problems.respond(cls("Away."), path="/v1/chat")
    assert (answer.status_code, answer.headers["retry-after"]) == (problems.TABLE[cls], "1")
    assert json.loads(bytes(answer.body))["retry_after"] == 1


def test_a_conflict_that_will_be_one_again_tells_sdks_not_to_retry() -> None:
    error = errors.Conflict.of("CONCURRENT_REQUEST", "One at a time.", run_id="r")
    answer = problems.respond(error, path="/v1/chat")
    assert (answer.status_code, answer.headers["x-should-retry"]) == (409, "false")
    assert json.loads(bytes(answer.body))["run_id"] == "r"


def test_a_conflict_that_passes_does_not() -> None:
    assert "x-should-retry" not in problems.respond(errors.Conflict("Again."), path="/v1/chat").headers
