"""Deployments that litellm reads: every provider whose wire we do not speak."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import functools
import json
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import structlog

from runtime import telemetry
from services.gateway.domain import Counts, Ended, FinishReason, Logprobs, ModelLimits, Timeouts, ToolCallPiece
from services.gateway.failures import AttemptFailed
from services.gateway.providers import faults
from services.gateway.providers.bridge import Bridge, Unspellable, status_of
from services.gateway.providers.provider import Provider
from services.gateway.wires.parser import MAX_TOOL_CALLS, counted, say, think

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Sequence

    from services.gateway.domain import Call, ProviderDelta, Request, Take

log = structlog.stdlib.get_logger()

# Chunks that may wait for a slow reader; then the provider waits.
_QUEUE_CHUNKS = 256
_TIMEOUT_S = 3600.0
_CLOSING_TIMEOUT_S = 1.0
_leftover: set[asyncio.Task[None]] = set()
_REASONS = {reason.value: reason for reason in FinishReason}


@dataclass(frozen=True)
class TailDeployment:
    """A model at a provider that litellm speaks to; see `domain.Deployment`."""

    source: Provider
    model: str
    listed: bool
    limits: ModelLimits
    timeouts: Timeouts
    bridge: Bridge

    @functools.cached_property
    def key(self) -> str:
        """See `domain.Deployment`."""
        return f"{self.source.name}/{self.model}#{self.source.account}"

    @functools.cached_property
    def provider(self) -> str:
        """The provider's name in OpenTelemetry."""
        return self.source.system

    def waiting(self, timeouts: Timeouts) -> TailDeployment:
        """See `domain.Deployment.waiting`."""
        return dataclasses.replace(self, timeouts=timeouts)

    def price(self, counts: Counts) -> float | None:
        """See `domain.Deployment.price`."""
        return self.bridge.price(self.source, self.model, counts)

    def prepare(self, call: Call, *, max_output_tokens: int) -> Request:
        """See `domain.Deployment.prepare`; litellm spells and sends in one go."""
        return partial(self._stream, call, max_output_tokens)

    async def _stream(
        self, call: Call, max_output_tokens: int, _take: Take | None = None
    ) -> AsyncGenerator[Sequence[ProviderDelta], None]:
        """See `domain.Request`.

        The stream runs in a task of its own: cancelling the task that reads it is the one way to make litellm close a connection at once.
        """
        queue: asyncio.Queue[Sequence[ProviderDelta] | AttemptFailed | None] = asyncio.Queue(_QUEUE_CHUNKS)
        task = asyncio.create_task(self._pump(call, max_output_tokens, queue))
        try:
            while True:
                batch: list[ProviderDelta] = []
                item = await queue.get()
                while True:
                    if item is None or isinstance(item, AttemptFailed):
                        break
                    batch += item
                    if queue.empty():
                        break
                    item = queue.get_nowait()
                if batch:
                    yield batch
                if isinstance(item, AttemptFailed):
                    raise item
                if item is None:
                    return
        finally:
            task.cancel()
            _, left = await asyncio.wait({task}, timeout=_CLOSING_TIMEOUT_S)
            if left:
                # A stream that swallows its cancellation keeps nobody waiting; it is held until it ends by itself.
                _leftover.add(task)
                task.add_done_callback(_leftover.discard)
                log.warning("upstream_not_closed", provider=self.source.system, model=self.model)

    async def _pump(
        self,
        call: Call,
        max_output_tokens: int,
        queue: asyncio.Queue[Sequence[ProviderDelta] | AttemptFailed | None],
    ) -> None:
        reader = _ChunkReader()
        try:
            chunks = self.bridge.open(
                self.source,
                self.model,
                call,
                max_output_tokens=max_output_tokens,
                timeout_s=_TIMEOUT_S,
                headers=telemetry.outgoing_headers(),
            )
            async with contextlib.aclosing(chunks):
                async for chunk in chunks:
                    if deltas := reader.read(chunk):
                        await queue.put(deltas)
        except Unspellable as error:
            await queue.put(faults.rejected(self.source, self.model, error.cause))
            return
        except Exception as error:  # noqa: BLE001 - litellm raises its own, OpenAI's and plain exceptions
            await queue.put(self._failure(error))
            return
        if reader.reason is None:
            await queue.put(faults.cut_off(self.source, self.model))
            return
        await queue.put([Ended(reader.reason, reader.counts)])
        await queue.put(None)

    def _failure(self, error: Exception) -> AttemptFailed:
        status, text, headers = status_of(error)
        if not status:
            return faults.unreachable(self.source, self.model, type(error).__name__)
        wait_s = faults.retry_after_s(headers)
        return faults.refused(self.source, self.model, status=status, text=text, retry_after_s=wait_s)


class _ChunkReader:
    """Turns litellm's chunks into deltas.

    Attributes:
        reason: Why the model stopped, once it has said so.
        counts: What it used, once it has said so.
    """

    def __init__(self) -> None:
        self.reason: FinishReason | None = None
        self.counts: Counts | None = None
        self._begun: set[int] = set()

    def read(self, chunk: Any) -> Sequence[ProviderDelta]:
        """Returns what a chunk holds, perhaps nothing."""
        out: list[ProviderDelta] = []
        if (usage := getattr(chunk, "usage", None)) is not None:
            self.counts = _counts(usage)
        for choice in chunk.choices:
            if thought := getattr(choice.delta, "reasoning_content", None):
                think(thought, out)
            if choice.delta.content:
                say(choice.delta.content, out)
            if probabilities := getattr(choice, "logprobs", None):
                out.append(Logprobs(_json(probabilities)))
            out += [self._piece(call) for call in choice.delta.tool_calls or () if 0 <= call.index < MAX_TOOL_CALLS]
            if choice.finish_reason:
                self.reason = _REASONS.get(choice.finish_reason, FinishReason.STOP)
        return out

    def _piece(self, call: Any) -> ToolCallPiece:
        arguments = call.function.arguments or ""
        if call.index in self._begun:
            return ToolCallPiece(call.index, arguments=arguments)
        self._begun.add(call.index)
        return ToolCallPiece(call.index, call.id or "", call.function.name or "", arguments)


def _json(value: Any) -> str:
    plain = value.model_dump(mode="json", exclude_none=True) if hasattr(value, "model_dump") else value
    return json.dumps(plain)


def _counts(usage: Any) -> Counts | None:
    read = getattr(usage, "prompt_tokens_details", None)
    written = getattr(usage, "completion_tokens_details", None)
    return counted(
        Counts(
            input_tokens=usage.prompt_tokens or 0,
            output_tokens=usage.completion_tokens or 0,
            cached_tokens=getattr(read, "cached_tokens", None) or 0,
            cache_write_tokens=getattr(usage, "cache_creation_input_tokens", None) or 0,
            reasoning_tokens=getattr(written, "reasoning_tokens", None) or 0,
        )
    )
