"""Over a shared connection the middle of an answer goes from the reader that has read it straight out; nobody can tell."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest

from parley.gateway.v1 import gateway_pb2 as pb
from runtime import errors
from services.gateway.domain import ProviderDelta, Timeouts
from services.gateway.passing import Passage
from services.gateway.providers.aliases import Alias, AliasTarget
from services.gateway.providers.registry import Stored
from services.gateway.tally import MAX_ANSWER_BYTES
from tests.contract.gateway.conftest import Gateway, MakeGateway, Reply
from tests.fakes.llm_provider import Answer, Cut, ScriptedProvider, Stall, StreamError, ToolUse

PIECES = [f"piece {n}, " for n in range(200)]
WHOLE = "".join(PIECES)
APART_S = 0.002
NOW = pb.Tool(name="now", description="Tells the time.", parameters_json='{"type": "object", "properties": {}}')


@pytest.fixture
async def gateway(make_gateway: MakeGateway) -> Gateway:
    """One that is called as chat calls it."""
    return await make_gateway(mux=True)


class Ways(list[bool]):
    """Whether each of what was offered to go the short way has gone it.

    Attributes:
        closed: Something was passed on, and then something was not.
    """

    def __init__(self) -> None:
        super().__init__()
        self.closed = asyncio.Event()


@pytest.fixture(autouse=True)
def passed(monkeypatch: pytest.MonkeyPatch) -> Ways:
    ways = Ways()
    take = Passage.take

    def watched(self: Passage, deltas: Sequence[ProviderDelta]) -> bool:
        taken = take(self, deltas)
        if not taken and True in ways:
            ways.closed.set()
        ways.append(taken)
        return taken

    monkeypatch.setattr(Passage, "take", watched)
    return ways


async def test_nothing_is_lost_repeated_or_out_of_order(gateway: Gateway, passed: Ways) -> None:
    gateway.provider.script(
        Answer(chunks=PIECES, reasoning="let me think about it", tools=[ToolUse("now")], delay_s=APART_S)
    )

    reply = await gateway.chat(tools=[NOW])

    assert (reply.reasoning, reply.text) == ("let me think about it", WHOLE)
    assert [name for _, name, _ in reply.calls.values()] == ["now"]
    assert reply.finished is not None
    assert reply.finished.reason == pb.FINISH_REASON_TOOL_CALLS
    assert passed.count(True) > len(PIECES) / 2


async def test_many_calls_at_a_time_keep_apart(gateway: Gateway, passed: Ways) -> None:
    names = [f"caller {n};" for n in range(30)]
    for name in names:
        gateway.provider.script(Answer(chunks=[f"{name}{n} " for n in range(30)], delay_s=APART_S), match=name)

    prompts = [[pb.PromptMessage(role=pb.ROLE_USER, text=name)] for name in names]
    replies = await asyncio.gather(*(gateway.chat(messages=prompt) for prompt in prompts))

    assert [reply.text for reply in replies] == ["".join(f"{name}{n} " for n in range(30)) for name in names]
    assert any(passed)


async def test_what_was_passed_on_is_counted(gateway: Gateway, passed: Ways) -> None:
    gateway.provider.script(Answer(chunks=["word"] * 100, delay_s=APART_S, usage=None))

    reply = await gateway.chat()

    assert reply.finished is not None
    assert (reply.finished.usage.output_tokens, reply.finished.usage.estimated) == (100, True)
    assert any(passed)


async def test_an_answer_that_is_too_long_is_ended(gateway: Gateway, passed: Ways) -> None:
    piece = "é" * 10_000
    gateway.provider.script(Answer(chunks=[piece] * (MAX_ANSWER_BYTES // len(piece.encode()) + 1), delay_s=APART_S))
    reply = Reply()

    with pytest.raises(errors.Internal):
        await gateway.chat(reply)

    assert MAX_ANSWER_BYTES - 2 * len(piece.encode()) < len(reply.text.encode()) <= MAX_ANSWER_BYTES
    assert any(passed)


async def test_silence_is_counted_from_the_last_that_was_passed_on(make_gateway: MakeGateway, passed: Ways) -> None:
    """The answer goes on for several times the longest silence, and is ended by the first."""
    gateway = await make_gateway(mux=True, gap_timeout_s=0.3)
    gateway.provider.script(Stall(after=100, answer=Answer(chunks=PIECES, delay_s=0.01)))
    reply = Reply()

    with pytest.raises(errors.DeadlineExceeded) as raised:
        async with asyncio.timeout(10):
            await gateway.chat(reply)

    assert (raised.value.code, reply.text) == ("STREAM_STALLED", "".join(PIECES[:100]))
    assert any(passed)


async def test_an_answer_that_never_pauses_ends_with_its_time(make_gateway: MakeGateway, passed: Ways) -> None:
    gateway = await make_gateway(mux=True, total_timeout_s=0.3)
    gateway.provider.script(Answer(chunks=["on "] * 10_000, delay_s=0.005))

    with pytest.raises(errors.DeadlineExceeded) as raised:
        async with asyncio.timeout(10):
            await gateway.chat()

    assert raised.value.code == "RUN_TIMEOUT"
    assert any(passed)
    await gateway.provider.until(lambda: gateway.provider.closed_early)


@pytest.mark.parametrize("breaking", [StreamError, Cut])
async def test_what_came_before_a_failure_was_passed_on(
    gateway: Gateway, passed: Ways, breaking: type[StreamError | Cut]
) -> None:
    gateway.provider.script(breaking(after=50, answer=Answer(chunks=PIECES, delay_s=APART_S)))
    reply = Reply()

    with pytest.raises(errors.Unavailable):
        await gateway.chat(reply)

    assert reply.text == "".join(PIECES[:50])
    assert any(passed)


async def test_another_target_begins_anew_after_some_was_passed_on(
    make_gateway: MakeGateway, provider: ScriptedProvider, passed: Ways
) -> None:
    url = f"{provider.base_url}/v1"
    gateway = await make_gateway({}, mux=True, compatible={"first": url, "other": url})
    targets = (AliasTarget("first/m"), AliasTarget("other/m", rank=1))
    await gateway.registry.change(Stored(aliases=[Alias("both", targets, Timeouts(), stored=True)]))
    provider.script(Cut(after=50, answer=Answer(chunks=PIECES, delay_s=APART_S)))
    provider.script(Answer(chunks=PIECES, delay_s=APART_S))

    reply = await gateway.chat(model="both", allow_reset=True)

    assert (reply.begun_anew, reply.text) == (["".join(PIECES[:50])], WHOLE)
    assert any(passed)


async def test_who_leaves_in_the_middle_ends_the_call(gateway: Gateway, passed: Ways) -> None:
    gateway.provider.script(Answer(chunks=["on "] * 10_000, delay_s=APART_S))

    async with gateway.responses() as responses:
        async for _ in responses:
            if any(passed):
                break

    await gateway.provider.until(lambda: gateway.provider.closed_early)


async def test_a_slow_reader_slows_the_provider_down_and_gets_everything(gateway: Gateway, passed: Ways) -> None:
    """What may be sent to it is soon used up; from then on the way is the long one, until it reads again."""
    pieces = [f"{n}:".ljust(16 * 1024, ".") for n in range(100)]
    gateway.provider.script(Answer(chunks=pieces, delay_s=APART_S))
    reply = Reply()

    async with gateway.responses() as responses:
        reply.add(await anext(responses))
        async with asyncio.timeout(10):
            await passed.closed.wait()
        async for response in responses:
            reply.add(response)

    assert reply.text == "".join(pieces)
    assert True in passed[passed.index(False, passed.index(True)) :]


async def test_on_a_connection_of_its_own_nothing_takes_the_short_way(make_gateway: MakeGateway, passed: Ways) -> None:
    gateway = await make_gateway()
    gateway.provider.script(Answer(chunks=PIECES, delay_s=APART_S))

    assert (await gateway.chat()).text == WHOLE
    assert not passed
