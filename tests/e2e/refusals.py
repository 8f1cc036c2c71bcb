"""How an answer refuses: as a problem document, told by status, code and field."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import httpx


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
