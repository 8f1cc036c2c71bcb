"""What operators see of a provider call."""

from __future__ import annotations

import pytest
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode
from prometheus_client import REGISTRY

from runtime import errors
from tests.contract.gateway.conftest import Gateway, MakeGateway
from tests.fakes.llm_provider import Answer, Fault, ScriptedProvider, Stall, UsageReport


def provider_calls(spans: InMemorySpanExporter) -> list[ReadableSpan]:
    return [span for span in spans.get_finished_spans() if span.name.startswith("chat ")]


def metric(name: str, **labels: str) -> float:
    return REGISTRY.get_sample_value(name, labels) or 0.0


async def test_a_provider_call_is_one_client_span_under_the_rpc(gateway: Gateway, spans: InMemorySpanExporter) -> None:
    gateway.provider.script(Answer(usage=UsageReport(30, 12, cached_tokens=20, reasoning_tokens=5)))

    await gateway.chat(conversation_id="c-1", temperature=0.5, max_output_tokens=50)

    [span] = provider_calls(spans)
    assert (span.name, span.kind) == ("chat gpt-4o-mini", SpanKind.CLIENT)
    attributes = dict(span.attributes or {})
    assert isinstance(attributes.pop("gen_ai.response.time_to_first_chunk"), float)
    assert attributes == {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": "openai",
        "gen_ai.conversation.id": "c-1",
        "gen_ai.request.model": "gpt-4o-mini",
        "gen_ai.request.stream": True,
        "gen_ai.request.max_tokens": 50,
        "gen_ai.request.temperature": 0.5,
        "gen_ai.response.model": "gpt-4o-mini",
        "gen_ai.response.finish_reasons": ("stop",),
        "gen_ai.usage.input_tokens": 30,
        "gen_ai.usage.output_tokens": 12,
        "gen_ai.usage.cache_read.input_tokens": 20,
        "gen_ai.usage.reasoning.output_tokens": 5,
        "parley.gateway.attempt": 0,
        "parley.gateway.usage_estimated": False,
    }
    [rpc] = [s for s in spans.get_finished_spans() if s.kind is SpanKind.SERVER]
    assert span.parent is not None
    assert rpc.context is not None
    assert span.parent.span_id == rpc.context.span_id


@pytest.mark.parametrize("model", ["openai/gpt-4o-mini", "bedrock/amazon.nova-lite-v1:0"])
async def test_the_provider_is_told_the_trace(
    make_gateway: MakeGateway, provider: ScriptedProvider, spans: InMemorySpanExporter, model: str
) -> None:
    environ = {
        "OPENAI_API_KEY": "k",
        "OPENAI_BASE_URL": f"{provider.base_url}/v1",
        "AWS_ACCESS_KEY_ID": "a",
        "AWS_SECRET_ACCESS_KEY": "s",
        "AWS_REGION": "us-east-1",
        "AWS_BEDROCK_RUNTIME_ENDPOINT": provider.base_url,
    }
    gateway = await make_gateway(environ)

    await gateway.chat(model=model)

    [span] = provider_calls(spans)
    assert span.context is not None
    parent = f"00-{span.context.trace_id:032x}-{span.context.span_id:016x}-"
    assert provider.requests[0].headers["traceparent"].startswith(parent)


async def test_every_attempt_has_a_span_and_a_failed_one_says_why(
    gateway: Gateway, spans: InMemorySpanExporter
) -> None:
    gateway.provider.script(Fault(status=503), Answer())

    await gateway.chat()

    first, second = provider_calls(spans)
    assert first.status.status_code is StatusCode.ERROR
    assert (first.attributes or {})["error.type"] == "PROVIDER_UNAVAILABLE"
    assert (first.attributes or {})["parley.gateway.failure_cause"] == "status_503"
    assert "error.type" not in (second.attributes or {})
    assert (second.attributes or {})["parley.gateway.attempt"] == 1


async def test_a_call_that_is_left_counts_what_it_has_used(gateway: Gateway, spans: InMemorySpanExporter) -> None:
    gateway.provider.script(Stall(after=3))
    before = metric(
        "gen_ai_client_tokens_total", provider="openai", model="gpt-4o-mini", token_type="output", estimated="true"
    )

    async with gateway.responses() as responses:
        text = ""
        while len(text) < len("Hello from the"):
            text += "".join(delta.text for delta in (await anext(responses)).deltas)
    await gateway.provider.until(lambda: gateway.provider.closed_early and provider_calls(spans))

    [span] = provider_calls(spans)
    assert (span.attributes or {})["error.type"] == "cancelled"
    assert (span.attributes or {})["parley.gateway.usage_estimated"] is True
    after = metric(
        "gen_ai_client_tokens_total", provider="openai", model="gpt-4o-mini", token_type="output", estimated="true"
    )
    assert after - before == 4


async def test_metrics_count_errors_by_reason_and_open_streams(gateway: Gateway) -> None:
    labels = {"provider": "openai", "reason": "PROVIDER_AUTH_FAILED"}
    before = metric("parley_gateway_provider_errors_total", **labels)
    gateway.provider.script(Fault(status=401), Stall(after=1))

    with pytest.raises(errors.Internal):
        await gateway.chat()
    assert metric("parley_gateway_provider_errors_total", **labels) == before + 1
    async with gateway.responses() as responses:
        await anext(responses)
        assert metric("parley_gateway_upstream_streams", provider="openai") == 1
    await gateway.provider.until(lambda: gateway.provider.closed_early)

    assert metric("parley_gateway_upstream_streams", provider="openai") == 0


async def test_a_model_that_is_not_listed_is_no_label(gateway: Gateway) -> None:
    """Callers choose the name: as a label it would grow without bound."""
    before = metric("gen_ai_client_operation_time_to_first_chunk_seconds_count", provider="openai", model="other")

    await gateway.chat(model="openai/made-up")

    after = metric("gen_ai_client_operation_time_to_first_chunk_seconds_count", provider="openai", model="other")
    assert after == before + 1
