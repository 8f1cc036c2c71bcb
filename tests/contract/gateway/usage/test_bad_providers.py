"""Whatever a provider does in place of answering: the caller gets a reason and nothing of the provider's, the ledger the truth."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

import pytest

from parley.gateway.v1 import gateway_pb2 as pb
from runtime import errors
from tests.contract.gateway.conftest import Reply
from tests.contract.gateway.usage.conftest import Books, MakeBooks, Person
from tests.fakes import llm_wires
from tests.fakes.llm_provider import Answer, Cut, Fault, Garbage, ScriptedProvider, ToolUse

WORDS = "PROVIDER-SECRET-WORDS"
KEY = "sk-test"
LONG = "x" * 10_000_000
NOW = pb.Tool(name="now")


@pytest.fixture
def counted_by() -> str:
    """Where counters are makes no difference to what is written."""
    return "postgres"


def event(text: str) -> bytes:
    chunk = {"choices": [{"index": 0, "delta": {"content": text}, "finish_reason": None}]}
    return b"data: " + json.dumps(chunk).encode() + b"\n\n"


async def listen(person: Person, reply: Reply) -> None:
    async for response in person.responses():
        reply.add(response)


def within_a_character() -> Cut:
    """Cuts an answer between the two bytes of its last character."""
    answer = Answer(chunks=["né", "ü"])
    frames = llm_wires.frames("openai", answer, {}, "gpt-4o-mini")
    before = b"".join([*frames.head, *frames.pieces])
    return Cut(after_bytes=before.rindex("ü".encode()) + 1, answer=answer)


@dataclass
class Bad:
    """What a provider does, and what becomes of it.

    Attributes:
        does: To each request.
        reason: What the caller is told.
        calls: How often the provider is asked.
        text: What the caller had got by then. Where that is nothing, nothing was used: such a provider is not known to have read the prompt.
        retry_after_s: The wait it asked for; None: none, and the caller is told of one of ours.
    """

    does: Any
    reason: str
    calls: int = 1
    text: str = ""
    retry_after_s: float | None = None


HTML = f"<html><body>{WORDS}</body></html>"
BAD = {
    "html": Bad(Garbage(HTML.encode(), content_type="text/html"), "PROVIDER_PROTOCOL_ERROR"),
    "html said to be a stream": Bad(Garbage(HTML.encode()), "PROVIDER_PROTOCOL_ERROR"),
    "html not found": Bad(Fault(status=404, body=HTML, content_type="text/html"), "MODEL_NOT_FOUND"),
    "html gone wrong": Bad(Fault(status=502, body=HTML, content_type="text/html"), "PROVIDER_UNAVAILABLE", calls=3),
    "too many requests": Bad(Fault(status=429), "PROVIDER_RATE_LIMITED", calls=3),
    "too many, with a wait": Bad(Fault(status=429, retry_after="17"), "PROVIDER_RATE_LIMITED", retry_after_s=17),
    "too many, with a nonsense wait": Bad(Fault(status=429, retry_after="soon"), "PROVIDER_RATE_LIMITED", calls=3),
    "cut within a character": Bad(within_a_character(), "PROVIDER_UNAVAILABLE", text="né"),
    "ten megabytes at once": Bad(Garbage(event(LONG)), "PROVIDER_PROTOCOL_ERROR"),
    "ten megabytes without a line": Bad(Garbage(b"data: " + LONG.encode()), "PROVIDER_PROTOCOL_ERROR"),
    "ten megabytes within an answer": Bad(Answer(chunks=["small", LONG]), "PROVIDER_PROTOCOL_ERROR", text="small"),
    "ten megabytes of refusal": Bad(Fault(status=400, body=LONG), "REQUEST_REJECTED"),
}


@pytest.mark.parametrize("bad", BAD.values(), ids=BAD.keys())
async def test_what_a_provider_sends_in_place_of_an_answer(
    books: Books, bad: Bad, capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("DEBUG")
    provider, person, reply = books.gateway.provider, books.person(), Reply()
    provider.script(bad.does, times=9)

    with pytest.raises(errors.ParleyError) as raised:
        await listen(person, reply)

    told = raised.value
    assert (told.code, reply.text, reply.finished) == (bad.reason, bad.text, None)
    if bad.reason in {"PROVIDER_RATE_LIMITED", "PROVIDER_UNAVAILABLE"}:
        assert told.retry_after_s
    assert bad.retry_after_s in {None, told.retry_after_s}
    assert len(provider.requests) == bad.calls
    rows = await books.rows(bad.calls, person)
    assert [(row["outcome"], row["provider"]) for row in rows] == [(bad.reason.lower(), "openai")] * bad.calls
    assert {row[count] > 0 for row in rows for count in ("input_tokens", "output_tokens")} == {bool(bad.text)}
    await books.settled(person, sum(row["input_tokens"] + row["output_tokens"] for row in rows))
    said = f"{told.message} {told.metadata} {caplog.text} {''.join(capfd.readouterr())}"
    for secret in (WORDS, KEY, provider.base_url):
        assert secret not in said


async def test_a_key_that_the_provider_does_not_know(make_books: MakeBooks) -> None:
    """The provider quotes it in its refusal, as some do."""
    async with ScriptedProvider(api_key="another") as strict:
        books = await make_books({"OPENAI_API_KEY": KEY, "OPENAI_BASE_URL": f"{strict.base_url}/v1"})
        person = books.person()
        told = await person.refusal()
    assert (type(told), told.code) == (errors.Internal, "PROVIDER_AUTH_FAILED")
    assert KEY not in f"{told.message} {told.metadata}"
    (row,) = await books.rows(1, person)
    assert (row["outcome"], row["input_tokens"], row["cost_usd"]) == ("provider_auth_failed", 0, 0)


@pytest.mark.parametrize("model", ["nobody/knows", "no-such-alias", "one"])
async def test_a_name_that_stands_for_nothing_is_no_call(make_books: MakeBooks, model: str) -> None:
    """One that leads back to itself stands for nothing, too."""
    environ = {"OPENAI_API_KEY": KEY, "OPENAI_BASE_URL": "http://127.0.0.1:9/v1"}
    books = await make_books(environ, aliases={"one": "two", "two": "one"})
    person = books.person()
    told = await person.refusal(model=model)
    assert told.code == "MODEL_NOT_FOUND"
    assert not await books.rows(0)
    await books.settled(person, 0)


@pytest.mark.parametrize("arguments", ['{"zone": ', "noon", "[1]", "\ud800".encode("utf-8", "replace").decode()])
async def test_a_tool_call_whose_json_is_broken_is_an_answer(books: Books, arguments: str) -> None:
    """What to make of it is the caller's; what it took is known."""
    books.gateway.provider.script(Answer(text="", tools=[ToolUse("now", arguments)]))
    person = books.person()
    reply = await person.chat(tools=[NOW])
    assert reply.calls[0][1:] == ("now", arguments)
    (row,) = await books.rows(1, person)
    assert (row["outcome"], row["estimated"], row["input_tokens"]) == ("completed", False, 11)


@pytest.mark.parametrize("marker", [True, False])
async def test_usage_that_never_comes_is_estimated(books: Books, marker: bool) -> None:
    """Whether the stream says that it has ended or merely ends after its reason."""
    books.gateway.provider.script(Answer(text="x" * 400, usage=None, done_marker=marker))
    person = books.person()
    reply = await person.chat()
    assert reply.finished is not None
    assert reply.finished.usage.estimated
    (row,) = await books.rows(1, person)
    assert (row["outcome"], row["estimated"], row["output_tokens"]) == ("completed", True, 100)
    await books.settled(person, row["input_tokens"] + 100)


async def test_a_provider_that_does_not_hear_goodbye_is_written_down_and_left(books: Books) -> None:
    """It goes on writing; its caller's tokens are settled all the same."""
    provider, person = books.gateway.provider, books.person()
    provider.script(Answer(chunks=["on "] * 10_000, delay_s=0.01, deaf=True))
    call = person.responses()
    await anext(call)
    await call.aclose()
    (row,) = await books.rows(1, person)
    assert (row["outcome"], row["estimated"]) == ("cancelled", True)
    assert row["input_tokens"] > 0
    await books.settled(person, row["input_tokens"] + row["output_tokens"])
    await provider.until(lambda: provider.closed_early)
