"""Who may call, what a call may hold, and what comes with the answer."""

from __future__ import annotations

import asyncio
from typing import Any

import grpc
import pytest
from google.protobuf.duration_pb2 import Duration

from parley.gateway.v1 import gateway_pb2 as pb
from runtime import errors
from runtime.testing import Issuer
from tests.contract.gateway.conftest import Gateway, MakeGateway
from tests.fakes.llm_provider import Answer, Fault, ScriptedProvider, Stall, UsageReport


@pytest.mark.parametrize("metadata", [(), (("authorization", "Bearer forged"),)])
async def test_a_call_without_a_valid_access_token_is_refused(
    gateway: Gateway, metadata: tuple[tuple[str, str], ...]
) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as raised:
        await anext(aiter(gateway.stub.Chat(gateway.request(), metadata=metadata)))
    with pytest.raises(grpc.aio.AioRpcError) as listing:
        await gateway.stub.ListModels(pb.ListModelsRequest(), metadata=metadata)

    assert raised.value.code() is listing.value.code() is grpc.StatusCode.UNAUTHENTICATED
    assert not gateway.provider.requests


async def test_a_token_of_another_issuer_is_refused(gateway: Gateway) -> None:
    gateway.issuer = Issuer()

    with pytest.raises(errors.Unauthenticated):
        await gateway.chat()


@pytest.mark.parametrize(
    ("field", "fields"),
    [
        ("model", {"model": "no spaces"}),
        ("messages", {"messages": []}),
        ("messages[0].role", {"messages": [pb.PromptMessage(text="who says so?")]}),
        ("messages[0].role", {"messages": [pb.PromptMessage(role=99, text="who says so?")]}),  # type: ignore[arg-type]
        ("messages[0].text", {"messages": [pb.PromptMessage(role=pb.ROLE_USER)]}),
        ("tools[0].parameters_json", {"tools": [pb.Tool(name="f", parameters_json="[]")]}),
        ("temperature", {"temperature": 2.5}),
        ("max_output_tokens", {"max_output_tokens": -1}),
        ("stop", {"stop": list("abcde")}),
        ("timeouts.gap", {"timeouts": pb.Timeouts(gap=Duration(seconds=-1))}),
        ("timeouts.first_token", {"timeouts": pb.Timeouts(first_token=Duration(seconds=1, nanos=2_000_000_000))}),
        ("timeouts.gap", {"timeouts": pb.Timeouts(gap=Duration(seconds=1, nanos=-1))}),
        ("timeouts.total", {"timeouts": pb.Timeouts(total=Duration(seconds=2**63 - 1))}),
        ("conversation_id", {"conversation_id": "x" * 300}),
    ],
)
async def test_a_bad_field_is_named(gateway: Gateway, field: str, fields: dict[str, Any]) -> None:
    with pytest.raises(errors.InvalidArgument) as raised:
        await gateway.chat(**fields)

    assert (raised.value.code, raised.value.metadata["field"]) == ("INVALID_ARGUMENT", field)
    assert not gateway.provider.requests


async def test_zero_degrees_is_a_temperature_and_none_is_the_provider_s(gateway: Gateway) -> None:
    await gateway.chat(temperature=0.0)
    await gateway.chat()

    with_it, without = gateway.provider.requests
    assert with_it.body["temperature"] == 0
    assert "temperature" not in without.body


@pytest.mark.parametrize(
    ("finish", "reason"),
    [
        ("stop", pb.FINISH_REASON_STOP),
        ("length", pb.FINISH_REASON_LENGTH),
        ("content_filter", pb.FINISH_REASON_CONTENT_FILTER),
    ],
)
async def test_why_the_model_stopped_is_told(gateway: Gateway, finish: str, reason: pb.FinishReason.ValueType) -> None:
    gateway.provider.script(Answer(finish=finish))

    reply = await gateway.chat()

    assert reply.finished is not None
    assert reply.finished.reason == reason


async def test_usage_and_its_price_are_the_provider_s(gateway: Gateway) -> None:
    gateway.provider.script(Answer(usage=UsageReport(1000, 100, cached_tokens=400, reasoning_tokens=60)))

    reply = await gateway.chat(model="openai/gpt-4o-mini")

    assert reply.finished is not None
    usage = reply.finished.usage
    assert (usage.input_tokens, usage.output_tokens) == (1000, 100)
    assert (usage.cached_tokens, usage.reasoning_tokens, usage.estimated) == (400, 60, False)
    # 600 fresh and 400 cached tokens in, 100 out, at the prices of the pinned litellm.
    assert usage.cost_usd == pytest.approx(600 * 0.15e-6 + 400 * 0.075e-6 + 100 * 0.6e-6)


async def test_usage_that_nobody_told_is_estimated_and_says_so(gateway: Gateway) -> None:
    gateway.provider.script(Answer(text="x" * 400, usage=None))
    prompt = [pb.PromptMessage(role=pb.ROLE_USER, text="y" * 4000)]

    reply = await gateway.chat(messages=prompt)

    assert reply.finished is not None
    usage = reply.finished.usage
    assert (usage.input_tokens, usage.output_tokens, usage.estimated) == (1000, 100, True)


async def test_a_price_that_is_not_known_is_absent(gateway: Gateway) -> None:
    reply = await gateway.chat(model="openai/home-made")

    assert reply.finished is not None
    assert not reply.finished.usage.HasField("cost_usd")


async def test_a_compatible_server_s_model_does_not_cost_what_its_namesake_costs(
    make_gateway: MakeGateway, provider: ScriptedProvider
) -> None:
    gateway = await make_gateway({}, compatible={"vllm": f"{provider.base_url}/v1"})

    reply = await gateway.chat(model="vllm/gpt-4o-mini")

    assert reply.finished is not None
    assert not reply.finished.usage.HasField("cost_usd")


async def test_deltas_that_arrive_together_travel_together(gateway: Gateway) -> None:
    gateway.provider.script(Answer(chunks=["word "] * 500, joined=True))

    reply = await gateway.chat()

    assert reply.text == "word " * 500
    # 100 KB of chunks come in a few reads of the socket; one response each.
    assert len(reply.responses) < 20


async def test_deltas_that_arrive_apart_are_not_held_back(gateway: Gateway) -> None:
    """The provider falls silent after its first piece: held back for company, it would never come."""
    gateway.provider.script(Stall(after=1))

    async with gateway.responses() as responses:
        first = await anext(responses)

    assert [delta.text for delta in first.deltas if delta.text] == ["Hello"]


async def test_a_connection_is_used_again(gateway: Gateway) -> None:
    for _ in range(5):
        await gateway.chat()

    # One that listed the models at the start may still be open beside it.
    assert gateway.provider.open_connections <= 2


async def test_a_failure_leaves_nothing_open(gateway: Gateway) -> None:
    gateway.provider.script(Fault(status=400), times=5)

    for _ in range(5):
        with pytest.raises(errors.InvalidArgument):
            await gateway.chat()

    assert gateway.provider.open_connections <= 2


async def test_fifty_calls_at_a_time_keep_apart(gateway: Gateway) -> None:
    names = [f"caller {n};" for n in range(50)]
    for name in names:
        gateway.provider.script(Answer(chunks=[f"{name} "] * 20, delay_s=0.001), match=name)

    prompts = [[pb.PromptMessage(role=pb.ROLE_USER, text=name)] for name in names]
    replies = await asyncio.gather(*(gateway.chat(messages=prompt) for prompt in prompts))

    assert [reply.text for reply in replies] == [f"{name} " * 20 for name in names]
