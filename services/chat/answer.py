"""What of a run's events counts as its answer: the parts in order, the step that is under way, and what a reset takes back.

An answer's parts in order are all there is to know of how far its run has come. A step is one model call: its reasoning and text, the tools
it called, their results. It is finished once every call has its result; whatever comes after the last finished step belongs to the step
under way. Text that an answer was begun with, since it goes on with an earlier one, counts as a step of its own: two texts (or two
reasonings) in a row mark the place.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from services.chat.domain import Part, PartKind, Progress, Reasoning, Reset, Text, ToolResult, ToolUse

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from services.chat.domain import Kind
    from services.chat.stretch import Stretch

GOING_ON = "Going on with the answer"
"""Said where a step begins after text that was kept."""


class _Piece:
    """A part that may still grow; of a text only the first `chars` count, where that is set."""

    __slots__ = ("chars", "opens_step", "source")

    def __init__(self, source: Stretch | Part, *, opens_step: bool) -> None:
        self.source = source
        self.opens_step = opens_step
        self.chars: int | None = None

    def part(self) -> Part:
        if isinstance(self.source, Part):
            return self.source
        return Part(self.source.kind, self.source.text()[: self.chars])

    def length(self) -> int:
        """Returns how many code points of visible text it holds."""
        if isinstance(self.source, Part) or self.source.kind is not PartKind.TEXT:
            return 0
        return self.source.chars if self.chars is None else self.chars


class Answer:
    """The parts of an answer that is being written, told of each event that is not merely another delta.

    Attributes:
        step: Number of the step under way, from 1.
        step_offset: Length of the visible text where that step began.
    """

    __slots__ = ("_begins", "_open", "_pieces", "step", "step_offset")

    def __init__(self) -> None:
        self.step = 1
        self.step_offset = 0
        self._pieces: list[_Piece] = []
        self._begins = 0
        self._open: dict[str, Part] = {}

    def begin(self, stretch: Stretch) -> None:
        """Takes a text or reasoning that begins and will grow."""
        self._add(stretch)

    def use(self, use: ToolUse) -> None:
        """Takes a tool's call."""
        part = Part(PartKind.TOOL_USE, use.input_json, use.tool_call_id, use.name)
        self._open[use.tool_call_id] = part
        self._add(part)

    def result(self, result: ToolResult, text_chars: int) -> None:
        """Takes a tool's result; the step is finished with the last one."""
        self._add(
            Part(PartKind.TOOL_RESULT, result.content, result.tool_call_id, result.name, is_error=result.is_error)
        )
        if self._open.pop(result.tool_call_id, None) is not None and not self._open:
            self._next(self.step + 1, text_chars)

    def progress(self, progress: Progress, text_chars: int) -> None:
        """Takes a word about a step; the first one of a later step closes those before it."""
        if progress.step > self.step:
            self._next(progress.step, text_chars)

    def reset(self, reset: Reset) -> None:
        """Takes back what a step has written, and whatever visible text lies behind its offset; a step yet to come has written nothing."""
        if reset.step <= self.step:
            del self._pieces[self._begins :]
            self._open.clear()
        self.cut(reset.offset)

    def cut(self, offset: int) -> None:
        """Takes back the visible text from a place on."""
        start = sum(piece.length() for piece in self._pieces)
        for index in range(len(self._pieces) - 1, -1, -1):
            piece = self._pieces[index]
            length = piece.length()
            if start <= offset or not length:
                continue
            start -= length
            if start >= offset:
                del self._pieces[index]
                self._begins -= index < self._begins
            else:
                piece.chars = offset - start
        self.step_offset = min(self.step_offset, offset)

    def parts(self) -> tuple[Part, ...]:
        """Returns the answer so far."""
        return self._parts(self._pieces)

    def finished_parts(self) -> tuple[Part, ...]:
        """Returns what the finished steps have written."""
        return self._parts(self._pieces[: self._begins])

    def step_parts(self) -> tuple[Part, ...]:
        """Returns what the step under way has written."""
        return self._parts(self._pieces[self._begins :])

    @staticmethod
    def _parts(pieces: Iterable[_Piece]) -> tuple[Part, ...]:
        parts: list[Part] = []
        for piece in pieces:
            part = piece.part()
            if not part.text and part.kind in _WRITTEN:
                continue
            if parts and parts[-1].kind is part.kind and part.kind in _WRITTEN and not piece.opens_step:
                parts[-1] = Part(part.kind, parts[-1].text + part.text)
            else:
                parts.append(part)
        return tuple(parts)

    def open_calls(self) -> tuple[Part, ...]:
        """Returns the tools' calls that have no result yet."""
        return tuple(self._open.values())

    def _next(self, step: int, text_chars: int) -> None:
        self.step = step
        self.step_offset = text_chars
        self._begins = len(self._pieces)
        self._open.clear()

    def _add(self, source: Stretch | Part) -> None:
        self._pieces.append(_Piece(source, opens_step=len(self._pieces) == self._begins))


_WRITTEN = (PartKind.TEXT, PartKind.REASONING)


def merged(parts: Iterable[Part]) -> tuple[Part, ...]:
    """Returns parts with neighbouring texts as one, as an answer is that nobody goes on with."""
    joined: list[Part] = []
    for part in parts:
        if joined and joined[-1].kind is part.kind and part.kind in _WRITTEN:
            joined[-1] = Part(part.kind, joined[-1].text + part.text)
        else:
            joined.append(part)
    return tuple(joined)


def retold(parts: Sequence[Part]) -> list[Kind]:
    """Returns the events that make an empty log hold these parts, with the steps where they were."""
    kinds: list[Kind] = []
    text_chars = 0
    answer = Answer()
    before: Part | None = None
    for part in parts:
        if before is not None and before.kind is part.kind and part.kind in _WRITTEN:
            progress = Progress(answer.step + 1, GOING_ON)
            answer.progress(progress, text_chars)
            kinds.append(progress)
        if part.kind is PartKind.TEXT:
            kinds.append(Text(part.text, text_chars))
            text_chars += len(part.text)
        elif part.kind is PartKind.REASONING:
            kinds.append(Reasoning(part.text))
        elif part.kind is PartKind.TOOL_USE:
            use = ToolUse(part.tool_call_id, part.name, part.text, answer.step)
            answer.use(use)
            kinds.append(use)
        else:
            result = ToolResult(part.tool_call_id, part.name, part.text, part.is_error)
            answer.result(result, text_chars)
            kinds.append(result)
        before = part
    return kinds
