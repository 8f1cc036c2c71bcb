"""Neighbouring deltas of one kind, kept as one text and the places where they end."""

from __future__ import annotations

from array import array
from typing import TYPE_CHECKING

from services.chat.domain import Event, PartKind, Reasoning, Text

if TYPE_CHECKING:
    from collections.abc import Iterator

_LOOSE_PIECES = 8
"""Before they are joined: a piece by itself takes a dozen times the memory of its letters."""
_JOINED_PER_PIECE = 1024
"""Of a long text more are left loose, so that joining costs each piece the copying of a kilobyte at the most."""


class Stretch:
    """Deltas with consecutive numbers; the newest ones loose, the older ones joined.

    Args:
        kind: TEXT or REASONING.
        first_seq: Number of the first delta.
        offset: Where a text begins in the answer, in code points.
    """

    __slots__ = ("_ends", "_joined", "_loose", "_offset", "first_seq", "kind")

    def __init__(self, kind: PartKind, first_seq: int, offset: int) -> None:
        self.kind = kind
        self.first_seq = first_seq
        self._offset = offset
        self._ends = array("I")
        self._joined = ""
        self._loose: list[str] = []

    def add(self, delta: str) -> None:
        """Appends a delta."""
        self._ends.append((self._ends[-1] if self._ends else 0) + len(delta))
        self._loose.append(delta)
        if len(self._loose) >= _LOOSE_PIECES and len(self._loose) * _JOINED_PER_PIECE >= len(self._joined):
            self.text()

    def text(self) -> str:
        """Returns the deltas joined."""
        if self._loose:
            self._joined += "".join(self._loose)
            self._loose.clear()
        return self._joined

    @property
    def chars(self) -> int:
        """Length of the joined text in code points."""
        return self._ends[-1] if self._ends else 0

    def newest(self) -> Event:
        """Returns the last event; there must be one."""
        ends = self._ends
        count = len(ends)
        start = ends[-2] if count > 1 else 0
        delta = self._loose[-1] if self._loose else self._joined[start:]
        kind = Text(delta, self._offset + start) if self.kind is PartKind.TEXT else Reasoning(delta)
        return Event(self.first_seq + count - 1, kind)

    def deltas(self, seq: int) -> tuple[int, list[str]]:
        """Returns the deltas after a position, and where the first of them begins in the answer."""
        ends, loose = self._ends, self._loose
        index = seq + 1 - self.first_seq
        if loose and index == len(ends) - 1:  # for watchers nearly always
            return self._offset + ends[-1] - len(loose[-1]), loose[-1:]
        joined = len(ends) - len(loose)
        begin = start = ends[index - 1] if index else 0
        if index >= joined:
            return self._offset + begin, loose[index - joined :]
        deltas: list[str] = []
        for end in ends[index:joined]:
            deltas.append(self._joined[start:end])
            start = end
        return self._offset + begin, deltas + loose

    def events(self, seq: int) -> Iterator[Event]:
        """Yields the events after a position."""
        joined = len(self._ends) - len(self._loose)
        for index in range(max(seq + 1 - self.first_seq, 0), len(self._ends)):
            start = self._ends[index - 1] if index else 0
            delta = self._joined[start : self._ends[index]] if index < joined else self._loose[index - joined]
            kind = Text(delta, self._offset + start) if self.kind is PartKind.TEXT else Reasoning(delta)
            yield Event(self.first_seq + index, kind)
