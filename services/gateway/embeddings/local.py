"""The model that needs no provider."""

from __future__ import annotations

import asyncio
from array import array
from typing import TYPE_CHECKING

from runtime.validation import invalid
from services.gateway.embeddings.domain import Made
from services.gateway.providers import hashing

if TYPE_CHECKING:
    from collections.abc import Sequence

    from services.gateway.domain import Counts


class HashEmbedder:
    """Feature hashing; see `domain.Embedder`."""

    key = hashing.HASH_MODEL
    provider = hashing.HASH_PROVIDER
    model = hashing.HASH_NAME
    batch_texts = 64
    batch_tokens = 20_000

    async def make(self, texts: Sequence[str], dimensions: int) -> Made:
        """See `domain.Embedder.make`."""
        if dimensions not in {0, hashing.DIMENSIONS}:
            raise invalid("dimensions", f"must be {hashing.DIMENSIONS} for this model, or 0.")
        # Off the loop: a long text takes tens of milliseconds.
        return Made(await asyncio.to_thread(_all, texts), 0)

    def price(self, counts: Counts) -> float | None:  # noqa: ARG002 - it costs nothing, however much it is
        """See `domain.Embedder.price`."""
        return 0.0


def _all(texts: Sequence[str]) -> list[array[float]]:
    return [array("f", hashing.embed(text)) for text in texts]
