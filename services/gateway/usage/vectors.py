"""Calls that make vectors, let in by budget and noted like all others."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from services.gateway import tally
from services.gateway.domain import Counts
from services.gateway.failures import AttemptFailed
from services.gateway.providers.hashing import HASH_PROVIDER
from services.gateway.usage.domain import CALL_TOKENS_MAX, CANCELLED, COMPLETED, INTERNAL, Used, cost, provider_name

if TYPE_CHECKING:
    from collections.abc import Sequence

    from services.gateway.embeddings.domain import Embedder, Made
    from services.gateway.usage.meter import Meter


class MeteredMaking:
    """Makes vectors by one call of a provider.

    Args:
        meter: Begins and ends calls.
    """

    def __init__(self, meter: Meter) -> None:
        self._meter = meter

    async def __call__(self, embedder: Embedder, texts: Sequence[str], dimensions: int) -> Made:
        """See `Embedder.make`.

        Raises: also TokenBudgetExceeded; Unavailable, DeadlineExceeded, Conflict: no store of budgets can be asked.
        """
        if embedder.provider == HASH_PROVIDER:
            return await embedder.make(texts, dimensions)  # it is no provider's work
        sent = sum(tally.tokens(len(text.encode())) for text in texts)
        async with self._meter.call(model=embedder.model, prompt_tokens=sent, output_tokens=0) as opened:
            opened.provider, opened.provider_name = embedder.provider, provider_name(embedder.key)
            told: int | None = None
            outcome, used = COMPLETED, sent
            try:
                made = await embedder.make(texts, dimensions)
                told = made.input_tokens if (made.input_tokens or 0) < CALL_TOKENS_MAX else None
                used = sent if told is None else told
            except AttemptFailed as failed:
                outcome, used, told = failed.error.code.lower(), 0, 0
                raise
            except BaseException as error:
                outcome = CANCELLED if isinstance(error, asyncio.CancelledError) else INTERNAL
                raise
            finally:
                opened.used.append(
                    Used(
                        id=opened.id,
                        provider=embedder.provider,
                        model=embedder.model,
                        input_tokens=used,
                        output_tokens=0,
                        cached_tokens=0,
                        reasoning_tokens=0,
                        cost_usd=cost(embedder.price(Counts(used, 0))) if used else 0.0,
                        estimated=told is None,
                        outcome=outcome,
                        started_at=opened.started_at,
                        ended_at=self._meter.now(),
                        provider_name=opened.provider_name,
                    )
                )
            return made
