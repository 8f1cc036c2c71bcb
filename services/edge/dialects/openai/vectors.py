"""Embeddings: texts in, vectors out, as numbers or as base64 of little-endian floats."""

from __future__ import annotations

import asyncio
import base64
from typing import TYPE_CHECKING, Any

import msgspec

from parley.gateway.v1 import gateway_pb2 as pb
from runtime.channel import unary
from runtime.validation import invalid

if TYPE_CHECKING:
    from collections.abc import Sequence

    from parley.gateway.v1.gateway_pb2_grpc import GatewayServiceAsyncStub
    from services.edge.dialects.openai.bodies import EmbeddingBody

MAX_TEXTS = 2048
# What comes back must fit one message: at 4,096 numbers a text this is half of it.
_TEXTS_A_CALL = 512
_TIMEOUT_S = 120.0


def requests_of(body: EmbeddingBody) -> list[pb.EmbedRequest]:
    """Returns the calls it takes.

    Raises: InvalidArgument: there is no text, or there are too many; or they are the numbers of another vendor's words.
    """
    texts = [body.input] if isinstance(body.input, str) else body.input
    if not 1 <= len(texts) <= MAX_TEXTS:
        raise invalid("input", f"must hold 1-{MAX_TEXTS} texts, this one has {len(texts)}.")
    if not all(isinstance(text, str) for text in texts):
        raise invalid("input", "must be text; numbers of tokens mean something to one vendor's models alone.")
    return [
        pb.EmbedRequest(model=body.model, texts=texts[at : at + _TEXTS_A_CALL], dimensions=body.dimensions or 0)
        for at in range(0, len(texts), _TEXTS_A_CALL)
    ]


async def embedded(
    gateway: GatewayServiceAsyncStub, requests: Sequence[pb.EmbedRequest], encoding: str | None
) -> bytes:
    """Returns the vectors as a JSON document.

    Raises: what the gateway raised.
    """
    asking = [asyncio.ensure_future(unary(gateway.Embed, request, timeout_s=_TIMEOUT_S)) for request in requests]
    try:
        answers: list[pb.EmbedResponse] = await asyncio.gather(*asking)
    finally:
        for call in asking:
            call.cancel()
    spell = _base64 if encoding == "base64" else _numbers
    vectors = [spell(one) for answer in answers for one in answer.embeddings]
    tokens = sum(answer.usage.input_tokens for answer in answers)
    return msgspec.json.encode(
        {
            "object": "list",
            "data": [{"object": "embedding", "index": index, "embedding": v} for index, v in enumerate(vectors)],
            "model": answers[0].model,
            "usage": {"prompt_tokens": tokens, "total_tokens": tokens},
        }
    )


def _numbers(embedding: pb.Embedding) -> Any:
    return list(embedding.values)


def _base64(embedding: pb.Embedding) -> str:
    # Packed floats are little-endian on this wire, too; what stands before them is the field's number and length.
    return base64.b64encode(embedding.SerializeToString()[-4 * len(embedding.values) :]).decode()
