"""What a provider may send in place of an answer has a clear reason, and nothing of it gets out."""

from __future__ import annotations

import json
from typing import Any

import pytest

from runtime import errors
from tests.contract.gateway.conftest import Gateway, Reply
from tests.fakes.llm_provider import Answer, Cut, Fault, Garbage

WORDS = "PROVIDER-SECRET-WORDS"


def event(text: str) -> bytes:
    chunk = {"choices": [{"index": 0, "delta": {"content": text}, "finish_reason": None}]}
    return b"data: " + json.dumps(chunk).encode() + b"\n\n"


@pytest.mark.parametrize(
    ("behaviour", "reason"),
    [
        (Garbage(f"<html>{WORDS}</html>".encode(), content_type="text/html"), "PROVIDER_PROTOCOL_ERROR"),
        (Garbage(f"<html>{WORDS}</html>".encode()), "PROVIDER_PROTOCOL_ERROR"),
        (Fault(status=404, body=f"<html>{WORDS}</html>", content_type="text/html"), "MODEL_NOT_FOUND"),
        (Garbage(event(WORDS * 500_000)), "PROVIDER_PROTOCOL_ERROR"),
        (Garbage(b"data: {broken\n\n"), "PROVIDER_PROTOCOL_ERROR"),
    ],
    ids=["html", "html-as-a-stream", "html-not-found", "ten-megabytes", "broken-json"],
)
async def test_what_cannot_be_read_has_a_reason(gateway: Gateway, behaviour: Any, reason: str) -> None:
    gateway.provider.script(behaviour)
    reply = Reply()

    with pytest.raises(errors.ParleyError) as raised:
        await gateway.chat(reply)

    assert raised.value.code == reason, raised.value
    assert WORDS not in f"{raised.value.message}{raised.value.metadata}{reply.text}"


async def test_after_bad_answers_the_next_is_good(gateway: Gateway) -> None:
    for behaviour in (Garbage(), Garbage(event("x" * 10_000_000)), Cut(after_bytes=400)):
        gateway.provider.script(behaviour)
        reply = Reply()
        try:
            await gateway.chat(reply)
        except errors.ParleyError:
            assert reply.finished is None

    assert (await gateway.chat()).text == Answer().text
