"""What every parser of a provider's stream does, and the ways it fails."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from services.gateway.domain import Counts, Reasoning, Text, ToolCallPiece

if TYPE_CHECKING:
    from collections.abc import Sequence

    from services.gateway.domain import ProviderDelta

MAX_LINE_BYTES = 1024 * 1024
"""Longest line a provider may send; a delta is a few hundred bytes."""

MAX_TOOL_CALLS = 128
"""Most tools one answer may call."""

_MAX_COUNT = 2**40


class Unreadable(Exception):
    """The stream is not what its wire should carry; `cause` says how, in a word for the log."""

    def __init__(self, cause: str) -> None:
        super().__init__(cause)
        self.cause = cause


class CutOff(Exception):
    """The stream ended before the answer did."""


class ErrorInStream(Exception):
    """The provider reported an error in the middle of its stream.

    Attributes:
        code: Its own code or type, for classification and never for callers.
        status: HTTP status it stands for, where it says so; else 0.
        text: Its words, for classification only: neither logged nor told.
    """

    def __init__(self, code: str, *, status: int = 0, text: str = "") -> None:
        super().__init__(code)
        self.code = code
        self.status = status
        self.text = text


UNREADABLE = (Unreadable, CutOff, ErrorInStream)
"""What parsers raise."""


class Cutter(Protocol):
    """Cuts bytes into the items a wire is made of: lines or events.

    Attributes:
        readable: Nothing has come that does not belong to the format, or something has come that does.
    """

    @property
    def readable(self) -> bool: ...

    def feed(self, data: bytes) -> list[bytes]:
        """Returns the items that the bytes complete. Raises: Unreadable."""
        ...

    def end(self) -> list[bytes]:
        """Returns what the end of the stream leaves unended."""
        ...


class Parser:
    """Parses one stream; a wire says how items are cut and what they mean.

    Deltas that come in one portion with a failure are given out first; the failure is raised by the next call.

    Attributes:
        finished: The model has said why it stopped; what may follow is usage.
        done: The answer is complete and Ended was given out; nothing more needs to be read.
    """

    def __init__(self, cutter: Cutter) -> None:
        self._cutter = cutter
        self._failure: Exception | None = None
        self.finished = False
        self.done = False

    def feed(self, data: bytes) -> Sequence[ProviderDelta]:
        """Returns what the bytes complete; neighbouring texts are one delta, and Ended is last when the answer is complete.

        Raises: Unreadable, ErrorInStream.
        """
        out: list[ProviderDelta] = []
        if self._failure is not None:
            raise self._failure
        try:
            for item in self._cutter.feed(data):
                if not self.done:
                    self._take(item, out, last=False)
        except (Unreadable, ErrorInStream) as failure:
            if not out:
                raise
            self._failure = failure
        return out

    def end(self) -> Sequence[ProviderDelta]:
        """Returns the rest, once the stream has ended; to be called until `done`.

        Raises: CutOff: the model had not finished; Unreadable, ErrorInStream.
        """
        out: list[ProviderDelta] = []
        if self._failure is not None:
            raise self._failure
        for item in self._cutter.end():
            if not self.done:
                self._take(item, out, last=True)
        if self.finished and not self.done:
            self._complete(out)
        elif not out and not self.done:
            raise CutOff if self._cutter.readable else Unreadable("not_the_wire")
        return out

    def _take(self, item: bytes, out: list[ProviderDelta], *, last: bool) -> None:
        """Reads one item; the `last` one may be half of one, since the stream has ended within it."""
        raise NotImplementedError

    def _complete(self, out: list[ProviderDelta]) -> None:
        """Adds Ended and sets `done`."""
        raise NotImplementedError


def say(text: str, out: list[ProviderDelta]) -> None:
    """Adds visible text, to the last delta where that is text too.

    U+0000 is left out, here and from reasoning: nobody sees it and Postgres cannot store it.
    """
    text = text.replace("\x00", "")
    if not text:
        return
    if out and type(out[-1]) is Text:
        out[-1].text += text
    else:
        out.append(Text(text))


def think(text: str, out: list[ProviderDelta]) -> None:
    """Adds reasoning, to the last delta where that is reasoning too."""
    text = text.replace("\x00", "")
    if not text:
        return
    if out and type(out[-1]) is Reasoning:
        out[-1].text += text
    else:
        out.append(Reasoning(text))


def argue(index: int, arguments: str, out: list[ProviderDelta]) -> None:
    """Adds to the arguments of a tool call that has begun, to the last delta where that is the same call."""
    if out and type(out[-1]) is ToolCallPiece and out[-1].index == index:
        out[-1].arguments += arguments
    else:
        out.append(ToolCallPiece(index, arguments=arguments))


def counted(counts: Counts) -> Counts | None:
    """Returns the counts when they can be true, else None, so that nobody is charged for a provider's nonsense."""
    numbers = (counts.input_tokens, counts.output_tokens, counts.cached_tokens, counts.reasoning_tokens)
    return counts if min(numbers) >= 0 and max(numbers) < _MAX_COUNT else None
