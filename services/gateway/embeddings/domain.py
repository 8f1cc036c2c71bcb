"""Turns texts into vectors: which model, in how many calls, what is known already."""

from __future__ import annotations

import asyncio
import random
from array import array
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from runtime.validation import invalid, number
from services.gateway import rules, tally
from services.gateway.domain import Counts, Usage
from services.gateway.failures import AttemptFailed, ModelNotFound, ProviderUnavailable
from services.gateway.routing.router import may_succeed_elsewhere

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    from services.gateway.routing.cooldowns import Cooldowns

MAX_TEXTS = 2048
MAX_TEXT_CHARS = 32_768
MAX_DIMENSIONS = 8192
_AT_ONCE = 4
"""Provider calls of one request that are under way together."""


@dataclass(frozen=True, slots=True)
class Made:
    """What one provider call has made: a vector for each text, in order, and the tokens it took, None where the provider did not say."""

    vectors: Sequence[array[float]]
    input_tokens: int | None


class Embedder(Protocol):
    """A model that makes vectors.

    Attributes:
        key: `<provider>/<model>`, by our name of the provider.
        provider: As OpenTelemetry names it.
        model: The provider's name of it.
        batch_texts: Most texts of one call.
        batch_tokens: Most tokens of one call, by our estimate.
    """

    @property
    def key(self) -> str: ...
    @property
    def provider(self) -> str: ...
    @property
    def model(self) -> str: ...
    @property
    def batch_texts(self) -> int: ...
    @property
    def batch_tokens(self) -> int: ...

    async def make(self, texts: Sequence[str], dimensions: int) -> Made:
        """Makes vectors; 0 dimensions: as many as the model has by itself. Raises: AttemptFailed; InvalidArgument."""
        ...

    def price(self, counts: Counts) -> float | None:
        """Returns the price in US dollars, or None when it is not known."""
        ...


class KnownVectors(Protocol):
    """Vectors that were made before; what cannot be looked up or kept is not there, and no failure."""

    async def find(self, model: str, dimensions: int, texts: Sequence[str]) -> dict[str, array[float]]:
        """Returns the vectors that are known, by text."""
        ...

    async def add(self, model: str, dimensions: int, vectors: Mapping[str, array[float]]) -> None:
        """Keeps new vectors."""
        ...


class EmbeddingModels(Protocol):
    """Knows which models make vectors."""

    def embedders(self, name: str) -> Sequence[Sequence[Embedder]]:
        """Returns whom to ask for a name, rank by rank; nothing where nobody has it. Raises: Unavailable: still starting."""
        ...


@dataclass(frozen=True, slots=True)
class Embedded:
    """Vectors, one for each text in order, and what they took; what came from the cache took nothing."""

    vectors: Sequence[array[float]]
    provider: str
    model: str
    usage: Usage


@dataclass(frozen=True)
class Patience:
    """How often and how long.

    Attributes:
        retries: Further attempts.
        backoff_s: Before the first of them; it doubles.
        retry_after_max_s: A provider that asks for a longer wait is not waited for.
        total_s: For all of a request that one model is asked for.
    """

    retries: int = 2
    backoff_s: float = 0.5
    retry_after_max_s: float = 5.0
    total_s: float = 60.0


class Embeddings:
    """Makes vectors.

    Args:
        models: Names to models.
        cooldowns: Who is to be left alone.
        cache: What was made before.
        patience: How long.
        make: Makes the vectors of one call by a model; None: the model itself.
        jitter: Random number in 0-1.
    """

    def __init__(
        self,
        models: EmbeddingModels,
        cooldowns: Cooldowns,
        cache: KnownVectors,
        patience: Patience,
        *,
        make: Callable[[Embedder, Sequence[str], int], Awaitable[Made]] | None = None,
        jitter: Callable[[], float] = random.random,
    ) -> None:
        self._make_once = make or _make_once
        self._models = models
        self._cooldowns = cooldowns
        self._cache = cache
        self._patience = patience
        self._jitter = jitter

    async def embed(self, model: str, texts: Sequence[str], dimensions: int) -> Embedded:
        """Makes a vector for each text, all by one model.

        Raises: InvalidArgument, ModelNotFound, and what `Embedder.make` fails with once nobody else is left to ask.
        """
        _check(model, texts, dimensions)
        ranks = self._models.embedders(model)
        candidates = sorted((one for rank in ranks for one in rank), key=lambda one: self._cooldowns.of(one.key)[0] > 0)
        failure: AttemptFailed | None = None
        for embedder in candidates:
            try:
                async with asyncio.timeout(self._patience.total_s):
                    made = await self._by(embedder, texts, dimensions)
            except AttemptFailed as failed:
                failure = failed
                self._cooldowns.failed(embedder.key, failed)
                if not may_succeed_elsewhere(failed):
                    break
            except TimeoutError:
                late = ProviderUnavailable("The model provider took too long to make vectors; try again.")
                failure = AttemptFailed(late, retryable=False, cause="late")
                self._cooldowns.failed(embedder.key, failure)
            else:
                self._cooldowns.succeeded(embedder.key)
                return made
        if failure is not None:
            raise failure.error
        raise ModelNotFound("There is no model of this name that makes vectors.", model=model)

    async def _by(self, embedder: Embedder, texts: Sequence[str], dimensions: int) -> Embedded:
        distinct = list(dict.fromkeys(texts))
        known = await self._cache.find(embedder.key, dimensions, distinct)
        new = [text for text in distinct if text not in known]
        spent = 0
        estimated = False
        gate = asyncio.Semaphore(_AT_ONCE)

        async def one(batch: Sequence[str]) -> tuple[Sequence[str], Made]:
            async with gate:
                return batch, await self._make(embedder, batch, dimensions)

        tasks = [asyncio.ensure_future(one(batch)) for batch in _batches(new, embedder)]
        try:
            for batch, made in await asyncio.gather(*tasks):
                fresh = dict(zip(batch, made.vectors, strict=True))
                known |= fresh
                await self._cache.add(embedder.key, dimensions, fresh)
                estimated = estimated or made.input_tokens is None
                spent += sum(map(_tokens, batch)) if made.input_tokens is None else made.input_tokens
        finally:
            for task in tasks:
                task.cancel()
        counts = Counts(spent, 0)
        usage = Usage(counts, embedder.price(counts) if spent else 0.0, estimated)
        return Embedded([known[text] for text in texts], embedder.provider, embedder.model, usage)

    async def _make(self, embedder: Embedder, texts: Sequence[str], dimensions: int) -> Made:
        attempt = 0
        while True:
            try:
                return await self._make_once(embedder, texts, dimensions)
            except AttemptFailed as failed:
                asked_s = failed.retry_after_s or 0.0
                if (
                    not failed.retryable
                    or attempt >= self._patience.retries
                    or asked_s > self._patience.retry_after_max_s
                ):
                    raise
                await asyncio.sleep(max(self._patience.backoff_s * 2**attempt * (1 - self._jitter() / 2), asked_s))
                attempt += 1


async def _make_once(embedder: Embedder, texts: Sequence[str], dimensions: int) -> Made:
    return await embedder.make(texts, dimensions)


def _batches(texts: Sequence[str], embedder: Embedder) -> Sequence[Sequence[str]]:
    batches: list[list[str]] = []
    room = 0
    for text in texts:
        size = _tokens(text)
        if not batches or size > room or len(batches[-1]) >= embedder.batch_texts:
            batches.append([])
            room = embedder.batch_tokens
        batches[-1].append(text)
        room -= size
    return batches


def _tokens(text: str) -> int:
    return tally.tokens(len(text.encode()))


def _check(model: str, texts: Sequence[str], dimensions: int) -> None:
    rules.check_model(model)
    if not 1 <= len(texts) <= MAX_TEXTS:
        raise invalid("texts", f"must hold 1-{MAX_TEXTS} texts, this call has {len(texts)}.")
    for place, text in enumerate(texts):
        if not 1 <= len(text) <= MAX_TEXT_CHARS:
            raise invalid(f"texts[{place}]", f"must have 1-{MAX_TEXT_CHARS} characters, this one has {len(text)}.")
    number("dimensions", dimensions, minimum=0, maximum=MAX_DIMENSIONS)
