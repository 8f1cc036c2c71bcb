"""Embeddings, models, and paths that there are not, asked for by OpenAI's own client."""

from typing import Any

import openai
import pytest

from parley.gateway.v1 import gateway_pb2 as pb
from tests.unit.edge.openai.behind import Gateway


@pytest.mark.parametrize("encoding", ["float", "base64", None])
async def test_a_text_becomes_a_vector(client: openai.AsyncOpenAI, gateway: Gateway, encoding: str | None) -> None:
    more = {"encoding_format": encoding} if encoding else {}
    answer = await client.embeddings.create(model="small", input="four", dimensions=3, **more)  # type: ignore[arg-type]
    vector: Any = answer.data[0]
    if encoding == "base64":
        assert vector.embedding == "AACAQAAAAD8AAKC/"  # 4.0, 0.5, -1.25: little-endian floats
    else:
        assert vector.embedding == [4.0, 0.5, -1.25]
    assert (answer.model, answer.usage.prompt_tokens, gateway.asked[0].dimensions) == ("small", 1, 3)


async def test_many_texts_keep_their_order_over_several_calls(client: openai.AsyncOpenAI, gateway: Gateway) -> None:
    texts = ["x" * (n % 7 + 1) for n in range(1100)]
    answer = await client.embeddings.create(model="small", input=texts)
    assert [(one.index, one.embedding[0]) for one in answer.data] == [(n, len(t)) for n, t in enumerate(texts)]
    assert len(gateway.asked) == 3
    assert answer.usage.total_tokens == 1100


@pytest.mark.parametrize("given", [[], [1, 2], [[1, 2]], ["a", 1], ["x"] * 2049])
async def test_what_is_no_text_is_refused(client: openai.AsyncOpenAI, given: object) -> None:
    with pytest.raises(openai.BadRequestError) as raised:
        await client.embeddings.create(model="small", input=given)  # type: ignore[arg-type]
    assert raised.value.param == "input"


async def test_models_are_listed_and_found_by_name(client: openai.AsyncOpenAI, gateway: Gateway) -> None:
    gateway.models = [
        pb.Model(name="fast", provider="openai", provider_model="gpt-4o-mini", alias=True),
        pb.Model(name="openai/gpt-4o", provider="openai", provider_model="gpt-4o"),
    ]
    page = await client.models.list()
    assert [(one.id, one.object, one.owned_by) for one in page.data] == [
        ("fast", "model", "openai"),
        ("openai/gpt-4o", "model", "openai"),
    ]
    for name in ("openai/gpt-4o", "gpt-4o"):
        assert (await client.models.retrieve(name)).id == name
    with pytest.raises(openai.NotFoundError) as raised:
        await client.models.retrieve("gpt-9")
    assert (raised.value.code, raised.value.param) == ("model_not_found", "model")


async def test_a_path_that_there_is_not_is_told_in_the_same_words(client: openai.AsyncOpenAI) -> None:
    with pytest.raises(openai.NotFoundError) as raised:
        await client.images.generate(prompt="a cat")
    assert raised.value.type == "invalid_request_error"
