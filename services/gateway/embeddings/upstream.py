"""Models of providers that make vectors: OpenAI's and Ollama's ways by ourselves, all others by litellm."""

from __future__ import annotations

import asyncio
import math
from array import array
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlencode

import aiohttp
import msgspec
from opentelemetry.trace import SpanKind

from runtime import telemetry
from services.gateway import gen_ai
from services.gateway.embeddings.domain import Made
from services.gateway.providers import faults
from services.gateway.providers.bridge import Bridge, status_of
from services.gateway.providers.connections import proxy_for
from services.gateway.providers.provider import Provider, Wire
from services.gateway.providers.upstream import error_words

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from services.gateway.domain import Counts
    from services.gateway.failures import AttemptFailed

_MAX_BYTES = 64 * 1024 * 1024
_TIMEOUT_S = 30.0
_OK = 200
# Whoever tells of more does not tell the truth.
_MAX_COUNT = 2**40
# Texts of one call, where less than a hundred are taken or more are good.
_BATCH_TEXTS = {"openai": 512, "azure": 512, "openrouter": 512, "gemini": 100, "ollama_chat": 64, "bedrock": 32}
_BATCH_TOKENS = 100_000


@dataclass(frozen=True)
class ProviderEmbedder:
    """A model of a provider; see `domain.Embedder`."""

    source: Provider
    model: str
    bridge: Bridge
    session: aiohttp.ClientSession

    @property
    def key(self) -> str:
        """See `domain.Embedder`."""
        return f"{self.source.name}/{self.model}"

    @property
    def provider(self) -> str:
        """The provider's name in OpenTelemetry."""
        return self.source.system

    @property
    def batch_texts(self) -> int:
        """Most texts of one call."""
        return _BATCH_TEXTS.get(self.source.dialect, 96)

    @property
    def batch_tokens(self) -> int:
        """Most tokens of one call."""
        return _BATCH_TOKENS

    def price(self, counts: Counts) -> float | None:
        """See `domain.Embedder.price`."""
        return self.bridge.price(self.source, self.model, counts)

    async def make(self, texts: Sequence[str], dimensions: int) -> Made:
        """See `domain.Embedder.make`."""
        attributes: dict[str, str | bool | int | float] = {
            gen_ai.OPERATION_NAME: gen_ai.OPERATION_EMBEDDINGS,
            gen_ai.PROVIDER_NAME: self.provider,
            gen_ai.REQUEST_MODEL: self.model,
        }
        name = f"{gen_ai.OPERATION_EMBEDDINGS} {self.model}"
        with telemetry.span(name, kind=SpanKind.CLIENT, attributes=attributes):
            try:
                async with asyncio.timeout(_TIMEOUT_S):
                    if self.source.wire is Wire.OPENAI:
                        return self._read(await self._post(*self._as_openai(texts, dimensions)), texts)
                    if self.source.wire is Wire.OLLAMA:
                        return self._read_ollama(await self._post(*self._as_ollama(texts)), texts)
                    return await self._by_litellm(texts, dimensions)
            except TimeoutError:
                raise faults.unreachable(self.source, self.model, "TimeoutError") from None

    def _as_openai(self, texts: Sequence[str], dimensions: int) -> tuple[str, dict[str, str], dict[str, Any]]:
        source, key = self.source, self.source.api_key.reveal()
        body: dict[str, Any] = {"model": self.model, "input": list(texts), "encoding_format": "float"}
        if dimensions:
            body["dimensions"] = dimensions
        if source.dialect == "azure":
            version = urlencode({"api-version": source.options["api_version"]})
            path = f"{source.base_url}/openai/deployments/{quote(self.model, safe='')}/embeddings?{version}"
            return path, {"api-key": key}, body
        headers = {**source.headers, **({"authorization": f"Bearer {key}"} if key else {})}
        return f"{source.base_url}/embeddings", headers, body

    def _as_ollama(self, texts: Sequence[str]) -> tuple[str, dict[str, str], dict[str, Any]]:
        key = self.source.api_key.reveal()
        headers = {"authorization": f"Bearer {key}"} if key else {}
        return f"{self.source.base_url}/api/embed", headers, {"model": self.model, "input": list(texts)}

    async def _post(self, url: str, headers: Mapping[str, str], body: object) -> dict[str, Any]:
        try:
            async with self.session.post(
                url,
                data=msgspec.json.encode(body),
                headers={"content-type": "application/json", **headers, **telemetry.outgoing_headers()},
                proxy=proxy_for(self.source.base_url),
                allow_redirects=False,
            ) as response:
                raw = bytearray()
                while more := await response.content.readany():
                    raw += more
                    if len(raw) > _MAX_BYTES:
                        raise self._unreadable("too_long")
                if response.status != _OK:
                    code, text = error_words(bytes(raw))
                    wait_s = faults.retry_after_s(response.headers)
                    raise faults.refused(
                        self.source, self.model, status=response.status, code=code, text=text, retry_after_s=wait_s
                    )
        except (aiohttp.ClientError, OSError) as error:
            raise faults.unreachable(self.source, self.model, type(error).__name__) from None
        try:
            return msgspec.json.decode(bytes(raw), type=dict[str, Any])
        except (msgspec.DecodeError, msgspec.ValidationError, RecursionError, UnicodeError):
            raise self._unreadable("not_json") from None

    async def _by_litellm(self, texts: Sequence[str], dimensions: int) -> Made:
        try:
            answer = await self.bridge.embed(self.source, self.model, texts, dimensions, timeout_s=_TIMEOUT_S)
        except Exception as error:  # noqa: BLE001 - litellm raises its own, OpenAI's and plain exceptions
            status, text, headers = status_of(error)
            if not status:
                raise faults.unreachable(self.source, self.model, type(error).__name__) from None
            wait_s = faults.retry_after_s(headers)
            raise faults.refused(self.source, self.model, status=status, text=text, retry_after_s=wait_s) from None
        return self._read(answer, texts)

    def _read(self, answer: dict[str, Any], texts: Sequence[str]) -> Made:
        data, usage = answer.get("data"), answer.get("usage")
        if not isinstance(data, list) or not all(isinstance(one, dict) for one in data):
            raise self._unreadable("no_data")
        if all(isinstance(one.get("index"), int) for one in data):
            data = sorted(data, key=lambda one: one["index"])
        counted = usage.get("prompt_tokens") if isinstance(usage, dict) else None
        return self._made([one.get("embedding") for one in data], counted, texts)

    def _read_ollama(self, answer: dict[str, Any], texts: Sequence[str]) -> Made:
        return self._made(answer.get("embeddings"), answer.get("prompt_eval_count"), texts)

    def _made(self, vectors: Any, counted: Any, texts: Sequence[str]) -> Made:
        if not isinstance(vectors, list) or len(vectors) != len(texts):
            raise self._unreadable("other_count")
        try:
            made = [array("f", vector) for vector in vectors]
        except (TypeError, ValueError, OverflowError):
            raise self._unreadable("no_vector") from None
        if len({len(vector) for vector in made}) != 1 or not len(made[0]) or not all(map(_is_finite, made)):
            raise self._unreadable("no_vector")
        told = (
            counted
            if isinstance(counted, int) and not isinstance(counted, bool) and 0 <= counted < _MAX_COUNT
            else None
        )
        return Made(made, told)

    def _unreadable(self, cause: str) -> AttemptFailed:
        return faults.unreadable(self.source, self.model, cause)


def _is_finite(vector: array[float]) -> bool:
    return all(map(math.isfinite, vector))
