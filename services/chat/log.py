"""The events of one run in memory: numbered by its owner, replayed from anywhere, followed live by any number of watchers."""

from __future__ import annotations

import asyncio
from array import array
from bisect import bisect_right
from typing import TYPE_CHECKING

from services.chat.domain import Done, Event, Failed, Part, PartKind, Reasoning, Text

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Iterator

    from services.chat.domain import Kind

BATCH_MAX_EVENTS = 5_000
BATCH_MAX_CHARS = 500_000
"""A batch must fit into a message that any gRPC client takes (4 MiB)."""
_LOOSE_PIECES = 256


class RunLog:
    """An append-only log of one run.

    The owner writes any number of events and then announces them, and each watcher takes all that it has not seen as one batch: one
    that is slow finds more at its next turn and costs nobody else anything. Neighbouring deltas are kept as one text and the places
    where they end, so that memory grows with the answer and not with the number of events, and still every event is given back as it was.

    Attributes:
        last_seq: Number of the newest event; 0: there is none.
        ended: The newest event is the run's last.
    """

    __slots__ = ("_blocks", "_firsts", "_text_chars", "_waiting", "ended", "last_seq")

    def __init__(self) -> None:
        self.last_seq = 0
        self.ended = False
        self._blocks: list[_Stretch | Event] = []
        self._firsts: list[int] = []
        self._text_chars = 0
        self._waiting: list[asyncio.Future[None]] = []

    def append(self, kind: Kind) -> None:
        """Appends an event; the offset of a text is made here."""
        if isinstance(kind, Text):
            self.write(kind.delta)
        elif isinstance(kind, Reasoning):
            self.think(kind.delta)
        else:
            self.last_seq += 1
            self._firsts.append(self.last_seq)
            self._blocks.append(Event(self.last_seq, kind))
            self.ended = isinstance(kind, Done | Failed)

    def write(self, delta: str) -> None:
        """Appends a text event."""
        self._stretch(PartKind.TEXT, self._text_chars).add(delta)
        self._text_chars += len(delta)

    def think(self, delta: str) -> None:
        """Appends a reasoning event."""
        self._stretch(PartKind.REASONING, 0).add(delta)

    def announce(self) -> None:
        """Wakes the watchers."""
        waiting, self._waiting = self._waiting, []
        for future in waiting:
            if not future.done():
                future.set_result(None)

    def after(self, seq: int) -> list[Event]:
        """Returns the events after a position, in order; fewer than all where they are more than one batch may hold."""
        if seq >= self.last_seq:
            return []
        events: list[Event] = []
        chars = 0
        first = max(bisect_right(self._firsts, seq + 1) - 1, 0)
        for block in self._blocks[first:]:
            for event in block.events(seq) if isinstance(block, _Stretch) else (block,):
                events.append(event)
                chars += len(event.kind.delta) if isinstance(event.kind, Text | Reasoning) else 0
                if len(events) >= BATCH_MAX_EVENTS or chars >= BATCH_MAX_CHARS:
                    return events
        return events

    async def changed(self) -> None:
        """Returns at the next announcement."""
        future = asyncio.get_running_loop().create_future()
        self._waiting.append(future)
        try:
            await future
        finally:
            if future.cancelled() and future in self._waiting:
                self._waiting.remove(future)

    async def follow(self, seq: int) -> AsyncGenerator[list[Event], None]:
        """Replays the events after a position, then follows the log to its end.

        Yields: at least one event, in order.
        """
        while True:
            events = self.after(seq)
            if events:
                yield events
                seq = events[-1].seq
            elif self.ended:
                return
            else:
                await self.changed()

    def parts(self) -> tuple[Part, ...]:
        """Returns what has been written so far, in order."""
        return tuple(Part(block.kind, block.text()) for block in self._blocks if isinstance(block, _Stretch))

    @property
    def text_chars(self) -> int:
        """Length of the visible text in code points."""
        return self._text_chars

    def _stretch(self, kind: PartKind, offset: int) -> _Stretch:
        self.last_seq += 1
        block = self._blocks[-1] if self._blocks else None
        if isinstance(block, _Stretch) and block.kind is kind:
            return block
        stretch = _Stretch(kind, self.last_seq, offset)
        self._firsts.append(self.last_seq)
        self._blocks.append(stretch)
        return stretch


class _Stretch:
    """Neighbouring deltas of one kind; the newest ones loose, the older ones joined."""

    __slots__ = ("_ends", "_first_seq", "_joined", "_loose", "_offset", "kind")

    def __init__(self, kind: PartKind, first_seq: int, offset: int) -> None:
        self.kind = kind
        self._first_seq = first_seq
        self._offset = offset
        self._ends = array("I")
        self._joined = ""
        self._loose: list[str] = []

    def add(self, delta: str) -> None:
        self._ends.append((self._ends[-1] if self._ends else 0) + len(delta))
        self._loose.append(delta)
        if len(self._loose) >= _LOOSE_PIECES:
            self.text()

    def text(self) -> str:
        if self._loose:
            self._joined += "".join(self._loose)
            self._loose.clear()
        return self._joined

    def events(self, seq: int) -> Iterator[Event]:
        """Yields the events after a position."""
        joined = len(self._ends) - len(self._loose)
        for index in range(max(seq + 1 - self._first_seq, 0), len(self._ends)):
            start = self._ends[index - 1] if index else 0
            delta = self._joined[start : self._ends[index]] if index < joined else self._loose[index - joined]
            kind = Text(delta, self._offset + start) if self.kind is PartKind.TEXT else Reasoning(delta)
            yield Event(self._first_seq + index, kind)
