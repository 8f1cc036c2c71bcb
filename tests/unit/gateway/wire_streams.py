"""Streams to parse, spelt by the fake providers' own code, and what becomes of them."""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from services.gateway.domain import Ended, Reasoning, Text, ToolCallPiece
from services.gateway.wires.anthropic import AnthropicParser
from services.gateway.wires.ollama import OllamaParser
from services.gateway.wires.openai import OpenAIParser
from services.gateway.wires.parser import CutOff, ErrorInStream, Parser, Unreadable
from tests.fakes import llm_wires

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from services.gateway.domain import ProviderDelta
    from tests.fakes.script import Answer, Kind

PARSERS: dict[Kind, type[OpenAIParser | AnthropicParser | OllamaParser]] = {
    "openai": OpenAIParser,
    "anthropic": AnthropicParser,
    "ollama": OllamaParser,
}
KINDS: list[Kind] = list(PARSERS)
WANTS_USAGE = {"stream_options": {"include_usage": True}}


@dataclass
class Heard:
    """What a parser has made of a stream: texts joined, calls by their place, and how it ended."""

    text: str = ""
    reasoning: str = ""
    calls: dict[int, tuple[str, str, str]] = field(default_factory=dict)
    ended: Ended | None = None
    failure: str = ""


def spell(kind: Kind, answer: Answer) -> bytes:
    """Returns a whole stream as bytes."""
    frames = llm_wires.frames(kind, answer, WANTS_USAGE, "some-model")
    return b"".join([*frames.head, *frames.pieces, *frames.tail])


def portions(data: bytes, cuts: Iterable[int]) -> list[bytes]:
    """Cuts bytes at the given places, wherever these lie."""
    places = sorted({0, len(data), *(cut % (len(data) + 1) for cut in cuts)})
    return [data[start:end] for start, end in itertools.pairwise(places)]


def drive(parser: Parser, parts: Iterable[bytes]) -> Sequence[ProviderDelta]:
    """Feeds a parser the way the reader does, and returns every delta.

    Raises: what the parser raises.
    """
    deltas: list[ProviderDelta] = []
    for part in parts:
        deltas += parser.feed(part)
        if parser.done:
            return deltas
    while not parser.done:
        deltas += parser.end()
    return deltas


def hear(kind: Kind, parts: Iterable[bytes]) -> Heard:
    """Parses a stream; failures other than a parser's own pass through."""
    heard = Heard()
    parser = PARSERS[kind]()
    try:
        for delta in drive(_Recorded(parser, heard), parts):
            assert delta is not None
    except (CutOff, ErrorInStream, Unreadable) as failure:
        heard.failure = type(failure).__name__
    return heard


class _Recorded(Parser):
    """Writes down every delta at once, so that what came before a failure is not lost."""

    def __init__(self, parser: Parser, heard: Heard) -> None:
        self._parser = parser
        self._heard = heard
        self.finished = self.done = False

    def feed(self, data: bytes) -> Sequence[ProviderDelta]:
        return self._note(self._parser.feed(data))

    def end(self) -> Sequence[ProviderDelta]:
        return self._note(self._parser.end())

    def _note(self, deltas: Sequence[ProviderDelta]) -> Sequence[ProviderDelta]:
        self.done = self._parser.done
        heard = self._heard
        for delta in deltas:
            assert heard.ended is None, "a delta after the end"
            if isinstance(delta, Text):
                heard.text += delta.text
            elif isinstance(delta, Reasoning):
                heard.reasoning += delta.text
            elif isinstance(delta, ToolCallPiece):
                id_, name, arguments = heard.calls.get(delta.index, ("", "", ""))
                heard.calls[delta.index] = (id_ + delta.id, name + delta.name, arguments + delta.arguments)
            elif isinstance(delta, Ended):
                heard.ended = delta
        return deltas
