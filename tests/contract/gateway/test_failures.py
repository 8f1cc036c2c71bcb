"""What a caller is told when a provider fails, and when it is asked again."""

from __future__ import annotations

import asyncio
import logging
import socket

import pytest

from parley.gateway.v1 import gateway_pb2 as pb
from runtime import errors
from tests.contract.gateway.conftest import Gateway, MakeGateway, Reply
from tests.fakes import llm_wires
from tests.fakes.llm_provider import (
    Answer,
    Cut,
    Fault,
    Garbage,
    Hangup,
    ScriptedProvider,
    Stall,
    StreamError,
)

PROVIDERS_WORDS = "PROVIDER-SECRET-WORDS"


async def failure(gateway: Gateway, reply: Reply | None = None, **fields: object) -> errors.ParleyError:
    with pytest.raises(errors.ParleyError) as raised:
        await gateway.chat(reply, **fields)
    told = f"{raised.value.message} {raised.value.metadata}"
    assert PROVIDERS_WORDS not in told
    assert "sk-test" not in told
    return raised.value


@pytest.mark.parametrize("status", [408, 409, 429, 500, 502, 503, 529])
async def test_a_passing_failure_is_tried_again(gateway: Gateway, status: int) -> None:
    gateway.provider.script(Fault(status=status), Fault(status=status), Answer(text="at last"))

    reply = await gateway.chat()

    assert reply.text == "at last"
    assert len(gateway.provider.requests) == 3


async def test_retries_are_bounded(gateway: Gateway) -> None:
    gateway.provider.script(Fault(status=503), times=9)

    error = await failure(gateway)

    assert (type(error), error.code) == (errors.Unavailable, "PROVIDER_UNAVAILABLE")
    assert len(gateway.provider.requests) == 3


@pytest.mark.parametrize(
    ("fault", "cls", "reason"),
    [
        (Fault(status=401), errors.Internal, "PROVIDER_AUTH_FAILED"),
        (Fault(status=403), errors.Internal, "PROVIDER_AUTH_FAILED"),
        (Fault(status=404), errors.NotFound, "MODEL_NOT_FOUND"),
        (Fault(status=400), errors.InvalidArgument, "REQUEST_REJECTED"),
        (Fault(status=400, code="context_length_exceeded"), errors.InvalidArgument, "CONTEXT_TOO_LONG"),
        (Fault(status=429, code="insufficient_quota"), errors.ResourceExhausted, "PROVIDER_RATE_LIMITED"),
        (Fault(status=307), errors.Internal, "PROVIDER_PROTOCOL_ERROR"),
        (
            Garbage(data=f"<html>{PROVIDERS_WORDS}</html>".encode(), content_type="text/html"),
            errors.Internal,
            "PROVIDER_PROTOCOL_ERROR",
        ),
        (Garbage(data=f"{PROVIDERS_WORDS}\n".encode()), errors.Internal, "PROVIDER_PROTOCOL_ERROR"),
        (Garbage(data=b"data: {{{\n\n"), errors.Internal, "PROVIDER_PROTOCOL_ERROR"),
        (Garbage(data=b"data: " + b"x" * 10_000_000), errors.Internal, "PROVIDER_PROTOCOL_ERROR"),
        (Garbage(data=b"data: \xff\xfe\n\n", split_bytes=1), errors.Internal, "PROVIDER_PROTOCOL_ERROR"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
async def test_a_lasting_failure_is_told_at_once(
    gateway: Gateway, fault: Fault | Garbage, cls: type[errors.ParleyError], reason: str
) -> None:
    gateway.provider.script(fault)

    error = await failure(gateway)

    assert (type(error), error.code) == (cls, reason)
    assert len(gateway.provider.requests) == 1


async def test_a_key_the_provider_does_not_know_is_told_to_nobody(make_gateway: MakeGateway) -> None:
    """The provider quotes the key in its refusal, as some do."""
    async with ScriptedProvider(api_key="another") as strict:
        gateway = await make_gateway({"OPENAI_API_KEY": "sk-test", "OPENAI_BASE_URL": f"{strict.base_url}/v1"})

        error = await failure(gateway)

    assert (type(error), error.code) == (errors.Internal, "PROVIDER_AUTH_FAILED")
    assert len(strict.requests) == 1


async def test_a_short_wait_the_provider_asks_for_is_kept(gateway: Gateway) -> None:
    gateway.provider.script(Fault(status=429, retry_after="0.3"), Answer())

    await gateway.chat()

    first, second = gateway.provider.requests
    assert first.answer_began_at is not None
    assert second.answer_began_at is not None
    assert second.answer_began_at - first.answer_began_at >= 0.3


async def test_a_long_wait_is_the_caller_s(gateway: Gateway) -> None:
    gateway.provider.script(Fault(status=429, retry_after="10"))

    error = await failure(gateway)

    assert (error.code, error.retry_after_s) == ("PROVIDER_RATE_LIMITED", 10)
    assert len(gateway.provider.requests) == 1


async def test_a_rate_limit_without_a_wait_still_says_one(gateway: Gateway) -> None:
    gateway.provider.script(Fault(status=429), times=3)

    error = await failure(gateway)

    assert error.code == "PROVIDER_RATE_LIMITED"
    assert error.retry_after_s


async def test_a_refused_connection_is_an_unavailable_provider(make_gateway: MakeGateway) -> None:
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{bound.getsockname()[1]}/v1"
        gateway = await make_gateway({"OPENAI_API_KEY": "sk-test", "OPENAI_BASE_URL": url}, discovery_timeout_s=0.2)

        error = await failure(gateway)

    assert error.code == "PROVIDER_UNAVAILABLE"


@pytest.mark.parametrize(
    "broken",
    [Hangup(), Cut(after=0), Cut(after_bytes=40), Cut(after=0, clean=True), StreamError(after=0)],
    ids=lambda value: type(value).__name__,
)
async def test_what_breaks_before_the_first_delta_is_tried_again(
    gateway: Gateway, broken: Hangup | Cut | StreamError
) -> None:
    gateway.provider.script(broken, Answer(text="whole"))

    assert (await gateway.chat()).text == "whole"


@pytest.mark.parametrize(
    "broken",
    [Cut(after=2), Cut(after=2, clean=True), StreamError(after=2)],
    ids=["reset", "ended", "error"],
)
async def test_what_breaks_after_the_first_delta_is_not_tried_again(
    gateway: Gateway, broken: Cut | StreamError
) -> None:
    gateway.provider.script(broken)
    reply = Reply()

    error = await failure(gateway, reply)

    assert error.code == "PROVIDER_UNAVAILABLE"
    assert reply.text == "Hello from"
    assert len(gateway.provider.requests) == 1


async def test_a_cut_within_a_character_loses_no_character_before_it(gateway: Gateway) -> None:
    answer = Answer(chunks=["né", "ü"])
    frames = llm_wires.frames("openai", answer, {}, "gpt-4o-mini")
    before = b"".join([*frames.head, *frames.pieces])
    gateway.provider.script(Cut(after_bytes=before.rindex("ü".encode()) + 1, answer=answer))
    reply = Reply()

    await failure(gateway, reply)

    assert reply.text == "né"


async def test_the_limit_of_a_line_holds_within_an_answer(gateway: Gateway) -> None:
    gateway.provider.script(Answer(chunks=["small", "x" * 10_000_000]))
    reply = Reply()

    error = await failure(gateway, reply)

    assert (error.code, reply.text) == ("PROVIDER_PROTOCOL_ERROR", "small")


@pytest.mark.parametrize("headers", [True, False])
async def test_nothing_in_time_is_a_first_token_timeout(gateway: Gateway, headers: bool) -> None:
    gateway.provider.script(Stall(headers=headers))

    error = await failure(gateway, timeouts=_timeouts(first_token_ms=100))

    assert (type(error), error.code) == (errors.DeadlineExceeded, "FIRST_TOKEN_TIMEOUT")
    await gateway.provider.until(lambda: gateway.provider.closed_early)


async def test_retries_do_not_prolong_the_wait_for_the_first_token(gateway: Gateway) -> None:
    gateway.provider.script(Fault(status=503, delay_s=0.06), times=9)

    error = await failure(gateway, timeouts=_timeouts(first_token_ms=100))

    assert error.code in {"FIRST_TOKEN_TIMEOUT", "PROVIDER_UNAVAILABLE"}
    assert len(gateway.provider.requests) <= 2


async def test_silence_within_an_answer_is_a_stall(gateway: Gateway) -> None:
    gateway.provider.script(Stall(after=2))
    reply = Reply()

    error = await failure(gateway, reply, timeouts=_timeouts(gap_ms=100))

    assert (error.code, reply.text) == ("STREAM_STALLED", "Hello from")
    await gateway.provider.until(lambda: gateway.provider.closed_early)


async def test_an_endless_answer_is_ended(gateway: Gateway) -> None:
    gateway.provider.script(Answer(chunks=["on "] * 500, delay_s=0.02))
    reply = Reply()

    error = await failure(gateway, reply, timeouts=_timeouts(total_ms=200))

    assert error.code == "RUN_TIMEOUT"
    assert reply.text.startswith("on on ")
    await gateway.provider.until(lambda: gateway.provider.closed_early)


async def test_an_answer_that_has_said_why_it_stopped_does_not_wait_for_its_end_marker(gateway: Gateway) -> None:
    frames = llm_wires.frames("openai", Answer(chunks=["all"]), {}, "gpt-4o-mini")
    to_the_reason = len(b"".join([*frames.head, *frames.pieces, *frames.tail[:1]]))
    gateway.provider.script(Stall(after_bytes=to_the_reason, answer=Answer(chunks=["all"])))

    reply = await gateway.chat()

    assert reply.text == "all"
    assert reply.finished is not None
    assert reply.finished.usage.estimated


@pytest.mark.parametrize("status", [200, 503])
async def test_neither_prompt_nor_answer_nor_provider_s_words_are_logged(
    gateway: Gateway, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str], status: int
) -> None:
    caplog.set_level(logging.DEBUG)
    gateway.provider.script(
        Answer(text="SECRET-ANSWER") if status == 200 else Fault(status=status), times=1 if status == 200 else 3
    )
    prompt = [pb.PromptMessage(role=pb.ROLE_USER, text="SECRET-PROMPT")]

    if status == 200:
        await gateway.chat(messages=prompt)
    else:
        await failure(gateway, messages=prompt)

    written = caplog.text + "".join(capfd.readouterr())
    for secret in ("SECRET-PROMPT", "SECRET-ANSWER", PROVIDERS_WORDS, "sk-test"):
        assert secret not in written


class TestThroughLitellm:
    """The same for a provider that litellm reads."""

    @pytest.fixture
    async def bedrock(self, make_gateway: MakeGateway, provider: ScriptedProvider) -> Gateway:
        environ = {
            "AWS_ACCESS_KEY_ID": "AKIATEST",
            "AWS_SECRET_ACCESS_KEY": "sk-test",
            "AWS_REGION": "us-east-1",
            "AWS_BEDROCK_RUNTIME_ENDPOINT": provider.base_url,
        }
        return await make_gateway(environ)

    @pytest.mark.parametrize(
        ("fault", "reason"),
        [
            (Fault(status=400, code="ValidationException"), "REQUEST_REJECTED"),
            (Fault(status=400, message="Input is too long for requested model."), "CONTEXT_TOO_LONG"),
            (Fault(status=403, code="AccessDeniedException"), "PROVIDER_AUTH_FAILED"),
            (Fault(status=429, retry_after="30"), "PROVIDER_RATE_LIMITED"),
        ],
        ids=lambda value: value if isinstance(value, str) else "",
    )
    async def test_a_refusal_has_the_same_reason(self, bedrock: Gateway, fault: Fault, reason: str) -> None:
        bedrock.provider.script(fault)

        assert (await failure(bedrock)).code == reason
        assert len(bedrock.provider.requests) == 1

    async def test_a_passing_failure_is_tried_again_by_us_alone(self, bedrock: Gateway) -> None:
        bedrock.provider.script(Fault(status=503), Fault(status=503), Answer(text="at last"))

        assert (await bedrock.chat()).text == "at last"
        assert len(bedrock.provider.requests) == 3

    @pytest.mark.parametrize("broken", [Cut(after=2), StreamError(after=2)], ids=["reset", "error"])
    async def test_what_breaks_after_the_first_delta_is_told(self, bedrock: Gateway, broken: Cut | StreamError) -> None:
        bedrock.provider.script(broken)
        reply = Reply()

        assert (await failure(bedrock, reply)).code == "PROVIDER_UNAVAILABLE"
        assert reply.text == "Hello from"

    async def test_a_stall_closes_the_connection(self, bedrock: Gateway) -> None:
        bedrock.provider.script(Stall(after=2))

        assert (await failure(bedrock, timeouts=_timeouts(gap_ms=100))).code == "STREAM_STALLED"
        await bedrock.provider.until(lambda: bedrock.provider.closed_early)

    async def test_leaving_closes_the_connection(self, bedrock: Gateway) -> None:
        bedrock.provider.script(Stall(after=2))

        async with bedrock.responses() as responses:
            await anext(responses)
        await bedrock.provider.until(lambda: bedrock.provider.closed_early)


async def test_leaving_closes_the_connection(gateway: Gateway) -> None:
    gateway.provider.script(Stall(after=2))

    async with gateway.responses() as responses:
        await anext(responses)
        assert not gateway.provider.closed_early
    await gateway.provider.until(lambda: gateway.provider.closed_early)


async def test_leaving_before_the_first_token_closes_the_connection(gateway: Gateway) -> None:
    gateway.provider.script(Stall(headers=False))

    task = asyncio.create_task(gateway.chat())
    await gateway.provider.until(lambda: gateway.provider.requests)
    task.cancel()
    await asyncio.wait({task})

    await gateway.provider.until(lambda: gateway.provider.closed_early)


async def test_leaving_during_a_pause_ends_the_attempts(make_gateway: MakeGateway) -> None:
    gateway = await make_gateway(retry_backoff_s=0.2)
    gateway.provider.script(Fault(status=503), times=2)

    task = asyncio.create_task(gateway.chat())
    await gateway.provider.until(lambda: gateway.provider.requests and gateway.provider.requests[0].answered)
    task.cancel()
    await asyncio.wait({task})
    # The next attempt would begin within 0.2 s; waiting for what must not come takes a wait.
    with pytest.raises(TimeoutError):
        await gateway.provider.until(lambda: len(gateway.provider.requests) > 1, timeout_s=0.4)


async def test_a_reader_that_does_not_read_is_not_a_provider_that_stalls(gateway: Gateway) -> None:
    """Gap and first token are the provider's: a caller that pauses longer still gets the whole answer."""
    text = "x" * 200_000
    gateway.provider.script(Answer(chunks=[text] * 10))
    reply = Reply()

    async with gateway.responses(timeouts=_timeouts(gap_ms=300)) as responses:
        reply.add(await anext(responses))
        await asyncio.sleep(0.6)
        async for response in responses:
            reply.add(response)

    assert len(reply.text) == 10 * len(text)


def _timeouts(*, first_token_ms: int = 0, gap_ms: int = 0, total_ms: int = 0) -> pb.Timeouts:
    timeouts = pb.Timeouts()
    timeouts.first_token.FromMilliseconds(first_token_ms)
    timeouts.gap.FromMilliseconds(gap_ms)
    timeouts.total.FromMilliseconds(total_ms)
    return timeouts
