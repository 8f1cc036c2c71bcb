"""Whatever a provider does, whoever asked gets a clear reason in their own dialect, and never the provider's words, address or key."""

from __future__ import annotations

import json
import secrets
from collections.abc import AsyncIterator
from typing import Any, NamedTuple

import openai
import pytest

from tests.e2e.person import Person
from tests.e2e.refusals import refusal
from tests.e2e.system import PROVIDER_KEY, System
from tests.fakes import llm_wires
from tests.fakes.llm_provider import Answer, Cut, Fault, Garbage, ScriptedProvider, Stall, StreamError, ToolUse

WORDS = "PROVIDER-SECRET-WORDS"
HTML = f"<html><body>{WORDS}</body></html>".encode()
LONG = "x" * 10_000_000


def within_a_character() -> Cut:
    """Cuts an answer between the two bytes of its last character."""
    answer = Answer(chunks=["né", "ü"])
    frames = llm_wires.frames("openai", answer, {}, "gpt-4o-mini")
    before = b"".join([*frames.head, *frames.pieces])
    return Cut(after_bytes=before.rindex("ü".encode()) + 1, answer=answer)


class Bad(NamedTuple):
    """What a provider does; the reason that is told; what of the answer was seen by then."""

    does: Any
    code: str
    seen: str


BAD = {
    "html": Bad(Garbage(HTML, content_type="text/html"), "provider_protocol_error", ""),
    "html not found": Bad(Fault(status=404, body=HTML.decode(), content_type="text/html"), "model_not_found", ""),
    "too many requests": Bad(Fault(status=429), "provider_rate_limited", ""),
    "too many, with a wait": Bad(Fault(status=429, retry_after="17"), "provider_rate_limited", ""),
    "ten megabytes": Bad(Garbage(b"data: " + LONG.encode() + b"\n\n"), "provider_protocol_error", ""),
    "ten megabytes within": Bad(Answer(chunks=["small", LONG]), "provider_protocol_error", "small"),
    "cut within a character": Bad(within_a_character(), "provider_unavailable", "né"),
    "broken in the middle": Bad(StreamError(after=2), "provider_unavailable", "Hello from"),
    "silent": Bad(Stall(), "first_token_timeout", ""),
    "silent in the middle": Bad(Stall(after=2), "stream_stalled", "Hello from"),
}
IN_OPENAIS_WORDS = {"provider_rate_limited": "rate_limit_exceeded"}
cases = pytest.mark.parametrize("bad", BAD.values(), ids=BAD.keys())


def hold_back(stack: System, told: str) -> None:
    """Holds what is told to hold nothing of the provider."""
    for secret in (WORDS, PROVIDER_KEY, stack.provider.base_url):
        assert secret not in told


@pytest.fixture
def words(stack: System) -> str:
    """A message that nobody else sends."""
    return f"Hello {secrets.token_hex(6)}"


@pytest.fixture
async def client(stack: System, person: Person) -> AsyncIterator[openai.AsyncOpenAI]:
    """OpenAI's client, which tries nothing twice."""
    base_url = f"{stack.edge_url}/openai/v1"
    async with openai.AsyncOpenAI(base_url=base_url, api_key=person.access_token, max_retries=0) as client:
        yield client


@cases
async def test_a_turn_ends_with_the_reason(stack: System, person: Person, words: str, bad: Bad) -> None:
    stack.provider.script(bad.does, match=words, times=3)
    stream = await person.turn(await person.titled(), message=words)
    assert (stream.last.event, stream.last.data["code"], stream.text) == ("error", bad.code, bad.seen)
    assert ("retry_after" in stream.last.data) == (bad.code in {"provider_rate_limited", "provider_unavailable"})
    hold_back(stack, stream.raw.decode())
    assert (await person.run(stream.run_id))["error_code"] == bad.code


async def gather(client: openai.AsyncOpenAI, asked: Any, pieces: list[str]) -> None:
    stream: Any = await client.chat.completions.create(**asked, stream=True)
    async for chunk in stream:
        pieces += [chunk.choices[0].delta.content or ""]


@cases
async def test_a_completion_fails_with_it(stack: System, client: openai.AsyncOpenAI, words: str, bad: Bad) -> None:
    stack.provider.script(bad.does, match=words, times=6)
    asked: Any = {"model": "fast", "messages": [{"role": "user", "content": words}]}
    with pytest.raises(openai.APIStatusError) as whole:
        await client.chat.completions.create(**asked)
    pieces: list[str] = []
    with pytest.raises(openai.APIError) as broken:
        await gather(client, asked, pieces)
    assert whole.value.code == broken.value.code == IN_OPENAIS_WORDS.get(bad.code, bad.code)
    assert "".join(pieces) == bad.seen
    assert isinstance(broken.value, openai.APIStatusError) == (not bad.seen)
    if bad.code == "provider_rate_limited":
        assert isinstance(whole.value, openai.RateLimitError)
        assert int(whole.value.response.headers["retry-after"]) > 0
    hold_back(stack, f"{whole.value.response.text} {whole.value.response.headers} {broken.value.body}")


@pytest.mark.parametrize("arguments", ['{"zone": ', "noon", "[1]"])
async def test_a_tool_call_whose_json_is_broken(
    stack: System, client: openai.AsyncOpenAI, person: Person, words: str, arguments: str
) -> None:
    """A client of OpenAI's gets it as it is; in a run the model is told of it and goes on."""
    stack.provider.script(Answer(text="", tools=[ToolUse("current_time", arguments)]), match=words, step=0, times=2)
    stack.provider.script(Answer(text="Then not."), match=words, step=1, times=2)
    answer = await client.chat.completions.create(
        model="fast",
        messages=[{"role": "user", "content": words}],
        tools=[{"type": "function", "function": {"name": "current_time"}}],
    )
    [call] = answer.choices[0].message.tool_calls or []
    assert isinstance(call.to_dict()["function"], dict)
    assert call.to_dict()["function"] == {"name": "current_time", "arguments": arguments}
    stream = await person.turn(await person.titled(), message=words)
    assert (stream.last.event, stream.text) == ("done", "Then not.")
    [result] = stream.of("tool_result")
    assert result.data["is_error"]


async def test_usage_that_never_comes_is_estimated(stack: System, person: Person, words: str) -> None:
    stack.provider.script(Answer(text="x" * 400, usage=None), match=words)
    stream = await person.turn(await person.titled(), message=words)
    [usage] = stream.of("usage")
    assert (usage.data["estimated"], usage.data["output_tokens"]) == (True, 100)
    [row] = (await person.usage(1))["rows"]
    assert (row["estimated_calls"], row["output_tokens"]) == (1, 100)


async def test_a_provider_that_ignores_goodbye_keeps_nobody(stack: System, person: Person, words: str) -> None:
    stack.provider.script(Answer(chunks=["on "] * 10_000, delay_s=0.01, deaf=True), match=words)
    conversation = await person.titled()
    async with person.stream(f"/v1/conversations/{conversation}/runs", {"message": words}) as stream:
        await stream.until("text")
        stopped = await person.http.post(f"/v1/runs/{stream.run_id}/cancel")
        assert stopped.json()["status"] == "cancelled"
        whole = await stream.whole()
    assert (whole.last.event, whole.last.data["status"]) == ("done", "cancelled")
    [row] = (await person.usage(1))["rows"]
    assert (row["calls"], row["estimated_calls"]) == (1, 1)
    assert (await person.turn(conversation, message="And now?")).last.event == "done"


async def test_a_key_that_is_wrong(stack: System, operator: Person, person: Person, words: str) -> None:
    """The provider quotes it in its refusal; whoever runs the server can find out by a test call."""
    name, key = f"p{secrets.token_hex(4)}", "sk-planted-wrong-key-77aa"
    async with ScriptedProvider(api_key="another") as strict:
        new = {
            "name": name,
            "type": "openai-compatible",
            "base_url": f"{strict.base_url}/v1",
            "api_key": key,
            "models": ["small"],
            "default_model": "small",
        }
        added = await operator.http.post("/v1/admin/providers", json=new)
        assert added.status_code == 201, added.text
        tried = await operator.http.post(f"/v1/admin/providers/{name}/test")
        assert (tried.json()["ok"], tried.json()["code"]) == (False, "provider_auth_failed")
        stream = await person.turn(await person.titled(), message=words, model=f"{name}/small")
        while stream.last.data["code"] == "model_not_found":  # until every instance knows the provider
            stream = await person.turn(await person.titled(), message=words, model=f"{name}/small")
        assert (await operator.http.delete(f"/v1/admin/providers/{name}")).status_code == 204
    assert stream.last.data["code"] == "provider_auth_failed"
    for secret in (WORDS, key, strict.base_url):
        assert secret not in stream.raw.decode()
        assert secret not in tried.text


async def test_an_alias_that_leads_back_to_itself_is_refused(operator: Person) -> None:
    one, two = (f"a{secrets.token_hex(4)}" for _ in range(2))
    for name, model in ((one, "fast"), (two, one)):
        made = await operator.http.post("/v1/admin/aliases", json={"name": name, "targets": [{"model": model}]})
        assert made.status_code == 201, made.text
    for model in (one, two):
        answer = await operator.http.put(f"/v1/admin/aliases/{one}", json={"targets": [{"model": model}]})
        assert refusal(answer)[:2] == (400, "alias_loop")
    for name in (two, one):
        assert (await operator.http.delete(f"/v1/admin/aliases/{name}")).status_code == 204


async def test_nothing_of_it_is_in_the_logs(stack: System, person: Person, words: str) -> None:
    stack.provider.script(Fault(status=400, message=f"{WORDS} about {words}"), match=words)
    stream = await person.turn(await person.titled(), message=words)
    assert stream.last.data["code"] == "request_rejected"
    written = "".join(path.read_text() for path in stack.logs_dir.iterdir() if path.is_file())
    assert stream.run_id in written
    for secret in (words, WORDS, PROVIDER_KEY):
        assert secret not in written
    assert json.dumps(words) not in written
