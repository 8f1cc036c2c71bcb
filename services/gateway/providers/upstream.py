"""Deployments whose wire we read ourselves: litellm spells the request, our parser moves the tokens."""

from __future__ import annotations

import asyncio
import dataclasses
import functools
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import aiohttp
import msgspec

from runtime import telemetry
from services.gateway.domain import ModelLimits, Timeouts
from services.gateway.http.pool import Pool, Post, written
from services.gateway.providers import faults
from services.gateway.providers.bridge import Bridge, Unspellable
from services.gateway.providers.connections import ALWAYS, ProxiedResponse, post_by_session, proxy_for
from services.gateway.providers.frames import Frames
from services.gateway.providers.provider import Provider, Wire
from services.gateway.wires.anthropic import AnthropicParser
from services.gateway.wires.ollama import OllamaParser
from services.gateway.wires.openai import OpenAIParser
from services.gateway.wires.parser import UNREADABLE, ErrorInStream, Parser, Unreadable

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Sequence

    from services.gateway.domain import Call, Counts, ProviderDelta, Request, Take
    from services.gateway.failures import AttemptFailed
    from services.gateway.http.connection import Tap
    from services.gateway.http.pool import Response

_STREAM_TYPES = {
    Wire.OPENAI: "text/event-stream",
    Wire.ANTHROPIC: "text/event-stream",
    Wire.OLLAMA: "application/x-ndjson",
}
# Types that some compatible servers give their streams for want of a better one.
_VAGUE_TYPES = {"", "application/octet-stream", "text/plain", "binary/octet-stream"}

_ERROR_BODY_MAX_BYTES = 64 * 1024
# A model that has said why it stopped has answered; usage and the end marker follow at once or not at all.
_TRAILER_TIMEOUT_S = 1.0
# The end of the body, read so that the connection can be used again.
_EPILOGUE_TIMEOUT_S = 0.1
_BROKEN = (aiohttp.ClientError, TimeoutError, OSError)


@dataclass(slots=True)
class _Sealed:
    """A request that is ready to be sent but for the headers of its trace; all this is done while the call is being let in.

    Attributes:
        post: The same for our own connections; None where these do not do.
    """

    url: str
    headers: Mapping[str, str]
    body: bytes
    post: Post | None


class _Headers:
    """All headers of a request but those of its trace, and how they are written: mostly the same as of the one before."""

    def __init__(self) -> None:
        self._given: Mapping[str, str] = {}
        self._all: Mapping[str, str] = ALWAYS
        self._fields = written(ALWAYS)

    def of(self, given: Mapping[str, str]) -> tuple[Mapping[str, str], str]:
        """Returns them. Raises: ValueError: one is not a line."""
        if given is not self._given:
            told = {**ALWAYS, **{name.lower(): value for name, value in given.items()}}
            self._given, self._all, self._fields = given, told, written(told)
        return self._all, self._fields


@dataclass(frozen=True)
class UpstreamDeployment:
    """A model at a provider that speaks a wire of ours; see `domain.Deployment`."""

    source: Provider
    model: str
    listed: bool
    limits: ModelLimits
    timeouts: Timeouts
    bridge: Bridge
    session: aiohttp.ClientSession
    pool: Pool

    @functools.cached_property
    def _frames(self) -> Frames:
        return Frames()

    @functools.cached_property
    def _headers(self) -> _Headers:
        return _Headers()

    @functools.cached_property
    def key(self) -> str:
        """See `domain.Deployment`."""
        return f"{self.source.name}/{self.model}#{self.source.account}"

    @functools.cached_property
    def provider(self) -> str:
        """The provider's name in OpenTelemetry."""
        return self.source.system

    def waiting(self, timeouts: Timeouts) -> UpstreamDeployment:
        """See `domain.Deployment.waiting`."""
        return dataclasses.replace(self, timeouts=timeouts)

    def price(self, counts: Counts) -> float | None:
        """See `domain.Deployment.price`."""
        return self.bridge.price(self.source, self.model, counts)

    def prepare(self, call: Call, *, max_output_tokens: int) -> Request:
        """See `domain.Deployment.prepare`."""
        try:
            request = self.bridge.request(
                self.source, self.model, call, max_output_tokens=max_output_tokens, frames=self._frames
            )
            body = msgspec.json.encode(request.body)
        except Unspellable as error:
            return partial(_fail, faults.rejected(self.source, self.model, error.cause))
        try:
            headers, fields = self._headers.of(request.headers)
            ours = proxy_for(self.source.base_url) is None and "@" not in request.url
            post = Post(request.url, fields, body) if ours else None
        except ValueError as error:
            return partial(_fail, faults.unreachable(self.source, self.model, type(error).__name__))
        return partial(self._answer, _Sealed(request.url, headers, body, post), request.text_tool)

    def _answer(
        self, sealed: _Sealed, text_tool: str, take: Take | None = None
    ) -> AsyncGenerator[Sequence[ProviderDelta], None]:
        """See `domain.Request`; what reads the answer is made before it is asked for."""
        parser = _parser(self.source.wire, text_tool)
        refused: list[Sequence[ProviderDelta]] = []
        tap = self._tap(parser, take, refused) if take is not None else None
        return self._stream(sealed, parser, tap, refused)

    async def _stream(
        self, sealed: _Sealed, parser: Parser, tap: Tap | None, refused: list[Sequence[ProviderDelta]]
    ) -> AsyncGenerator[Sequence[ProviderDelta], None]:
        """Asks, and yields what arrives.

        What arrives while the caller is busy waits in the connection's buffer and comes as one batch; a full buffer slows the provider down.
        """
        response = await self._open(sealed)
        del sealed  # the prompt need not be kept for as long as the answer lasts
        try:
            if response.status != 200:  # noqa: PLR2004
                raise await self._refusal(response)
            self._check_type(response)
            while not parser.done:
                try:
                    data = await (_read_trailer(response) if parser.finished else response.read(tap))
                except _BROKEN:
                    # The parser knows whether what is missing matters.
                    data = b""
                if deltas := refused.pop() if refused else self._parse(parser, data):
                    yield deltas
            await _read_epilogue(response)
        finally:
            # Closes the connection unless the body was read to its end.
            response.close()

    async def _open(self, sealed: _Sealed) -> Response | ProxiedResponse:
        trace = telemetry.outgoing_headers()
        try:
            if (post := sealed.post) is None:
                proxy = proxy_for(self.source.base_url)
                return await post_by_session(self.session, sealed.url, {**sealed.headers, **trace}, sealed.body, proxy)
            if not trace.keys().isdisjoint(sealed.headers):
                fields = written({name: told for name, told in sealed.headers.items() if name not in trace})
                post = Post(sealed.url, fields, sealed.body)
            return await self.pool.post(post, trace)
        except (*_BROKEN, ValueError) as error:
            raise faults.unreachable(self.source, self.model, type(error).__name__) from None

    def _tap(self, parser: Parser, take: Take, refused: list[Sequence[ProviderDelta]]) -> Tap:
        """Returns what parses bytes as they arrive and has the deltas taken; those that are not taken are added to the refused ones."""

        def tap(data: bytes) -> bool:
            try:
                deltas = parser.feed(data)
            except UNREADABLE as error:
                raise self._failed(error) from None
            # Once the model has said why it stopped, the rest has a deadline of its own.
            if not parser.finished and (not deltas or take(deltas)):
                return True
            refused.append(deltas)
            return False

        return tap

    def _parse(self, parser: Parser, data: bytes) -> Sequence[ProviderDelta]:
        try:
            return parser.feed(data) if data else parser.end()
        except UNREADABLE as error:
            raise self._failed(error) from None

    def _failed(self, error: Exception) -> AttemptFailed:
        """Returns what a parser's failure means."""
        match error:
            case Unreadable(cause=cause):
                return faults.unreadable(self.source, self.model, cause)
            case ErrorInStream(status=status, code=code, text=text):
                return faults.refused(self.source, self.model, status=status, code=code, text=text)
            case _:
                return faults.cut_off(self.source, self.model)

    def _check_type(self, response: Response | ProxiedResponse) -> None:
        kind = response.headers.get("content-type", "").partition(";")[0].strip().lower()
        if response.headers.get("content-encoding", "identity").lower() != "identity":
            raise faults.unreadable(self.source, self.model, "content_encoding")
        expected = _STREAM_TYPES[self.source.wire]
        if kind != expected and kind not in _VAGUE_TYPES:
            raise faults.unreadable(self.source, self.model, "wrong_content_type")

    async def _refusal(self, response: Response | ProxiedResponse) -> AttemptFailed:
        raw = b""
        try:
            while len(raw) < _ERROR_BODY_MAX_BYTES and (more := await response.read()):
                raw += more
        except _BROKEN:
            pass
        code, text = error_words(raw)
        wait_s = faults.retry_after_s(response.headers)
        return faults.refused(
            self.source, self.model, status=response.status, code=code, text=text, retry_after_s=wait_s
        )


async def _fail(failure: AttemptFailed, _take: Take | None = None) -> AsyncGenerator[Sequence[ProviderDelta], None]:
    nothing: tuple[Sequence[ProviderDelta], ...] = ()
    for deltas in nothing:
        yield deltas
    raise failure


def _parser(wire: Wire, text_tool: str) -> Parser:
    if wire is Wire.ANTHROPIC:
        return AnthropicParser(text_tool=text_tool)
    return OllamaParser() if wire is Wire.OLLAMA else OpenAIParser()


async def _read_trailer(response: Response | ProxiedResponse) -> bytes:
    async with asyncio.timeout(_TRAILER_TIMEOUT_S):
        return await response.read()


async def _read_epilogue(response: Response | ProxiedResponse) -> None:
    if response.over:
        return
    try:
        async with asyncio.timeout(_EPILOGUE_TIMEOUT_S):
            while await response.read():
                pass
    except _BROKEN:
        pass


def error_words(raw: bytes) -> tuple[str, str]:
    """Reads code and text out of an error body, for classification only."""
    text = raw[:_ERROR_BODY_MAX_BYTES].decode(errors="replace")
    try:
        body = msgspec.json.decode(raw)
    except (msgspec.DecodeError, RecursionError, UnicodeError):
        return "", text
    error = body.get("error") if isinstance(body, dict) else None
    code = (error.get("code") or error.get("type")) if isinstance(error, dict) else None
    return (code if isinstance(code, str) else ""), text
