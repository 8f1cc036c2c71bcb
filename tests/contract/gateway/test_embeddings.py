"""Texts become vectors: by whom, in how many calls, and never twice."""

from __future__ import annotations

import math
from typing import Any

import pytest

from parley.gateway.v1 import gateway_pb2 as pb
from runtime import errors, redis
from runtime.channel import unary
from runtime.config import Secret
from services.gateway.domain import Timeouts
from services.gateway.providers.aliases import Alias, AliasTarget
from services.gateway.providers.names import Defaults
from services.gateway.providers.provider import Provider, Wire
from services.gateway.providers.registry import Stored
from tests.contract.gateway.conftest import Gateway, MakeGateway
from tests.fakes.llm_provider import Fault, Garbage, Hangup, ScriptedProvider

MODEL = "openai/text-embedding-3-small"
ORGANIZATION = "01900000-0000-7000-8000-000000000001"


async def embed(gateway: Gateway, *texts: str, org: str = ORGANIZATION, **fields: Any) -> pb.EmbedResponse:
    request = pb.EmbedRequest(**{"model": MODEL, "texts": list(texts), **fields})
    token = gateway.issuer.token(org=org)
    response: pb.EmbedResponse = await unary(gateway.stub.Embed, request, timeout_s=20, token=token)
    return response


def lengths(response: pb.EmbedResponse) -> list[float]:
    """What the scripted provider's vectors tell: the length of each text."""
    return [one.values[0] for one in response.embeddings]


async def test_each_text_gets_its_vector_in_order(gateway: Gateway, provider: ScriptedProvider) -> None:
    response = await embed(gateway, "a", "bb", "a", "ccc")

    assert lengths(response) == [1, 2, 1, 3]
    assert (response.provider, response.model) == ("openai", "text-embedding-3-small")
    assert (response.usage.input_tokens, response.usage.estimated) == (3, False)
    assert [request.body["input"] for request in provider.requests] == [["a", "bb", "ccc"]]


async def test_a_text_is_embedded_once_per_model_and_dimensions(gateway: Gateway, provider: ScriptedProvider) -> None:
    await embed(gateway, "a", "bb")
    again = await embed(gateway, "bb", "new")
    other = await embed(gateway, "bb", dimensions=8)

    assert [request.body["input"] for request in provider.requests] == [["a", "bb"], ["new"], ["bb"]]
    assert lengths(again) == [2, 3]
    assert again.usage.input_tokens == 1
    assert len(other.embeddings[0].values) == 8


async def test_what_another_organization_knows_is_no_news(gateway: Gateway, provider: ScriptedProvider) -> None:
    """That a text costs nothing would tell that somebody else had it."""
    await embed(gateway, "a secret of theirs")
    response = await embed(gateway, "a secret of theirs", org="01900000-0000-7000-8000-000000000002")

    assert response.usage.input_tokens == 1
    assert len(provider.requests) == 2


async def test_what_is_known_costs_nothing(gateway: Gateway, provider: ScriptedProvider) -> None:
    await embed(gateway, "a")
    response = await embed(gateway, "a")

    assert response.usage == pb.Usage(cost_usd=0)
    assert len(provider.requests) == 1


async def test_many_texts_travel_in_batches(gateway: Gateway, provider: ScriptedProvider) -> None:
    texts = [str(number) for number in range(2048)]

    response = await embed(gateway, *texts)

    assert lengths(response) == [len(text) for text in texts]
    assert [len(request.body["input"]) for request in provider.requests] == [512] * 4
    assert response.usage.input_tokens == 2048


async def test_long_texts_fill_a_batch_sooner(gateway: Gateway, provider: ScriptedProvider) -> None:
    texts = [f"{number:04}" * 8192 for number in range(30)]

    assert lengths(await embed(gateway, *texts)) == [32768.0] * 30
    assert sorted(len(request.body["input"]) for request in provider.requests) == [6, 12, 12]


async def test_instances_share_vectors_by_redis(
    make_gateway: MakeGateway, provider: ScriptedProvider, redis_server: str
) -> None:
    async with redis.connect(redis_server, max_connections=1) as client:
        await client.flushdb()
    one, other = [await make_gateway(redis_url=Secret(redis_server)) for _ in range(2)]

    first, second = await embed(one, "shared"), await embed(other, "shared")

    assert first.embeddings == second.embeddings
    assert len(provider.requests) == 1


async def test_without_redis_vectors_are_made_all_the_same(make_gateway: MakeGateway) -> None:
    gateway = await make_gateway(redis_url=Secret("redis://127.0.0.1:9/0"))

    assert lengths(await embed(gateway, "a")) == [1]


@pytest.mark.parametrize("fault", [Fault(status=503), Fault(status=429, retry_after="0"), Hangup()], ids=str)
async def test_what_may_pass_is_tried_again(gateway: Gateway, provider: ScriptedProvider, fault: Any) -> None:
    provider.script(fault)

    assert lengths(await embed(gateway, "a")) == [1]
    assert len(provider.requests) == 2


@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        (Fault(status=401), "PROVIDER_AUTH_FAILED"),
        (Fault(status=404), "MODEL_NOT_FOUND"),
        (Fault(status=429, retry_after="1000"), "PROVIDER_RATE_LIMITED"),
        (Garbage(b"<html>", content_type="text/html"), "PROVIDER_PROTOCOL_ERROR"),
        (Garbage(b'{"data": []}'), "PROVIDER_PROTOCOL_ERROR"),
        (Garbage(b'{"data": [{"index": 0, "embedding": "no"}]}'), "PROVIDER_PROTOCOL_ERROR"),
        (Garbage(b'{"data": [{"index": 0, "embedding": []}]}'), "PROVIDER_PROTOCOL_ERROR"),
        (Garbage(b'{"data": [{"index": 0, "embedding": [1e300]}]}'), "PROVIDER_PROTOCOL_ERROR"),
    ],
    ids=str,
)
async def test_a_failure_has_a_reason_and_not_the_provider_s_words(
    gateway: Gateway, provider: ScriptedProvider, fault: Any, reason: str
) -> None:
    provider.script(fault)

    with pytest.raises(errors.ParleyError) as raised:
        await embed(gateway, "a")

    assert raised.value.code == reason
    assert "PROVIDER-SECRET-WORDS" not in raised.value.message


async def test_ollama_is_asked_in_its_words(make_gateway: MakeGateway, provider: ScriptedProvider) -> None:
    gateway = await make_gateway({"OLLAMA_API_BASE": provider.base_url})

    response = await embed(gateway, "a", "bb", model="ollama/nomic-embed-text")

    assert lengths(response) == [1, 2]
    assert provider.requests[0].path == "/api/embed"


async def test_litellm_asks_those_whose_way_is_another(gateway: Gateway, provider: ScriptedProvider) -> None:
    mistral = Provider(
        name="m",
        system="m",
        dialect="mistral",
        wire=Wire.LITELLM,
        base_url=f"{provider.base_url}/v1",
        api_key=Secret("k"),
    )
    await gateway.registry.change(Stored(providers=[mistral]))

    response = await embed(gateway, "a", "bb", model="m/mistral-embed")

    assert lengths(response) == [1, 2]
    assert provider.requests[0].headers["authorization"] == "Bearer k"


async def test_without_a_provider_texts_are_hashed(make_gateway: MakeGateway) -> None:
    gateway = await make_gateway({})

    response = await embed(
        gateway, "Reset a forgotten password", "How do I reset my password?", "Bake a cake", model=""
    )

    assert (response.provider, response.model) == ("parley", "hash-384")
    one, same, other = [list(vector.values) for vector in response.embeddings]
    assert {len(one), len(same), len(other)} == {384}
    assert math.isclose(sum(value * value for value in one), 1, rel_tol=1e-5)
    assert _near(one, same) > 2 * _near(one, other)


async def test_hashing_has_its_own_dimensions_only(gateway: Gateway) -> None:
    with pytest.raises(errors.InvalidArgument) as raised:
        await embed(gateway, "a", model="parley/hash-384", dimensions=100)

    assert raised.value.metadata["field"] == "dimensions"


async def test_the_default_is_the_chosen_provider_s_model(
    make_gateway: MakeGateway, provider: ScriptedProvider
) -> None:
    gateway = await make_gateway({"OLLAMA_API_BASE": provider.base_url})
    [found] = gateway.registry.environment
    await gateway.registry.change(Stored(defaults=Defaults(embeddings=found.name)))

    assert (await embed(gateway, "a", model="")).provider == "parley"


async def test_an_alias_may_stand_for_models_that_make_vectors(gateway: Gateway, provider: ScriptedProvider) -> None:
    alias = Alias("vectors", (AliasTarget("openai/e1"), AliasTarget("openai/e2", rank=1)), Timeouts(), stored=True)
    await gateway.registry.change(Stored(aliases=[alias]))
    provider.script(Fault(status=404))

    response = await embed(gateway, "a", model="vectors")

    assert response.model == "e2"


async def test_an_unknown_name_is_not_found(gateway: Gateway) -> None:
    with pytest.raises(errors.NotFound) as raised:
        await embed(gateway, "a", model="nobody/m")

    assert raised.value.code == "MODEL_NOT_FOUND"


@pytest.mark.parametrize(
    ("field", "fields"),
    [
        ("texts", {"texts": []}),
        ("texts", {"texts": ["a"] * 2049}),
        ("texts[1]", {"texts": ["a", ""]}),
        ("texts[0]", {"texts": ["x" * 32_769]}),
        ("dimensions", {"dimensions": -1}),
        ("model", {"model": "a b"}),
    ],
)
async def test_a_refusal_names_the_field(gateway: Gateway, field: str, fields: dict[str, Any]) -> None:
    with pytest.raises(errors.InvalidArgument) as raised:
        await embed(gateway, "a", **fields)

    assert raised.value.metadata["field"] == field


async def test_models_that_make_vectors_are_listed(gateway: Gateway) -> None:
    assert [model.name for model in await gateway.models(embeddings=True)] == ["parley/hash-384"]


def _near(one: list[float], other: list[float]) -> float:
    return sum(a * b for a, b in zip(one, other, strict=True))
