"""How long an answer may be."""

from __future__ import annotations

import pytest

from runtime import errors
from services.gateway.tally import MAX_ANSWER_BYTES
from tests.contract.gateway.conftest import Gateway, Reply
from tests.fakes.llm_provider import Answer, ToolUse

PIECE = "é" * 100_000
PIECES = MAX_ANSWER_BYTES // len(PIECE.encode()) + 1


@pytest.mark.parametrize(
    "answer",
    [
        Answer(chunks=[PIECE] * PIECES),
        Answer(reasoning=PIECE * 4, chunks=[PIECE] * (PIECES - 4)),
        Answer(tools=[ToolUse("look", '{"at": "%s"}' % (PIECE * PIECES))], joined=True),
    ],
    ids=["text", "reasoning and text", "arguments"],
)
async def test_an_answer_that_is_too_long_is_ended(gateway: Gateway, answer: Answer) -> None:
    """Nothing of it is asked for again, and what was given out stands."""
    gateway.provider.script(answer, times=2)
    reply = Reply()

    with pytest.raises(errors.Internal) as raised:
        await gateway.chat(reply)

    assert raised.value.code == "PROVIDER_PROTOCOL_ERROR"
    given = reply.text + reply.reasoning + "".join(arguments for _, _, arguments in reply.calls.values())
    assert len(given.encode()) <= MAX_ANSWER_BYTES
    assert len(gateway.provider.requests) == 1


async def test_a_long_answer_within_the_bound_is_given_whole(gateway: Gateway) -> None:
    text = "x" * (MAX_ANSWER_BYTES // 16)
    gateway.provider.script(Answer(chunks=[text] * 16))

    assert (await gateway.chat()).text == text * 16
