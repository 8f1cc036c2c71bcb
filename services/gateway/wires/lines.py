"""Cuts bytes into lines."""

from __future__ import annotations

from services.gateway.wires.parser import MAX_LINE_BYTES, Unreadable


class Lines:
    r"""Collects bytes until a line is whole; LF and CRLF end a line.

    A long line is kept in pieces and joined once, so that feeding it byte by byte does not cost the square of its length.

    Attributes:
        empty: No line has begun.
    """

    def __init__(self) -> None:
        self._pieces: list[bytes] = []
        self._size = 0
        self.readable = True
        self.empty = True

    def feed(self, data: bytes) -> list[bytes]:
        """Returns the lines that the bytes complete, without their ends.

        Raises: Unreadable: a line is longer than a provider may send.
        """
        lines = data.split(b"\n")
        rest = lines.pop()
        if lines and self._pieces:
            self._pieces.append(lines[0])
            lines[0] = b"".join(self._pieces)
            self._pieces.clear()
            self._size = 0
            if len(lines[0]) > MAX_LINE_BYTES:
                raise Unreadable("line_too_long")
        if rest:
            self._pieces.append(rest)
            self._size += len(rest)
            if self._size > MAX_LINE_BYTES:
                raise Unreadable("line_too_long")
        self.empty = not self._pieces
        return [line[:-1] if line.endswith(b"\r") else line for line in lines]

    def end(self) -> list[bytes]:
        """Returns the last line, where the stream ended without ending it."""
        rest = b"".join(self._pieces).removesuffix(b"\r")
        self._pieces.clear()
        self.empty = True
        return [rest] if rest else []
