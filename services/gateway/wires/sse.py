"""Cuts bytes into the data of server-sent events."""

from __future__ import annotations

from services.gateway.wires.lines import Lines
from services.gateway.wires.parser import MAX_LINE_BYTES, Unreadable

_LF = 10
_FIELDS = (b"event:", b"data:", b"id:", b"retry:", b":", b"event", b"data", b"id", b"retry")


class Events:
    """Collects the `data` of events; their names and ids say nothing here that the data does not say.

    Source: WHATWG HTML, 9.2.6. An event that the end of the stream leaves unended is given out too: some servers forget the blank line.
    """

    def __init__(self) -> None:
        self._lines = Lines()
        self._data: list[bytes] = []
        self._size = 0
        self._seen = False
        self._strange = False

    @property
    def readable(self) -> bool:
        """An event has come, or at least no line that the format does not know."""
        return self._seen or not self._strange

    def feed(self, data: bytes) -> list[bytes]:
        """Returns the data of the events that the bytes complete.

        Raises: Unreadable: a line or an event is longer than a provider may send.
        """
        # One event, whole and by itself: nearly every read of a stream.
        size = len(data)
        if (
            data.startswith(b"data: {")
            and data.find(b"\n") == size - 2
            and data[-1] == _LF
            and size <= MAX_LINE_BYTES
            and self._lines.empty
            and not self._data
        ):
            self._seen = True
            return [data[6:-2]]
        if events := self._whole(data):
            self._seen = True
            return events
        for line in self._lines.feed(data):
            self._take(line, events)
        return events

    def _whole(self, data: bytes) -> list[bytes]:
        """Returns the data of several events that are whole, of one line each and by themselves, as short answers arrive; nothing for others."""
        if not data.endswith(b"\n\n") or b"\r" in data or len(data) > MAX_LINE_BYTES:
            return []
        if not self._lines.empty or self._data:
            return []
        events = []
        for event in data[:-2].split(b"\n\n"):
            if not event.startswith(b"data: ") or b"\n" in event:
                return []
            events.append(event[6:])
        return events

    def end(self) -> list[bytes]:
        """Returns the last event, where the stream ended without ending it."""
        events: list[bytes] = []
        for line in self._lines.end():
            # Half of `data:` is no strange line.
            if not any(field.startswith(line) for field in _FIELDS):
                self._take(line, events)
        self._take(b"", events)
        return events

    def _take(self, line: bytes, events: list[bytes]) -> None:
        if line.startswith(b"data:"):
            value = line[6:] if line.startswith(b"data: ") else line[5:]
            self._size += len(value)
            if self._size > MAX_LINE_BYTES:
                raise Unreadable("event_too_long")
            self._data.append(value)
        elif not line:
            if self._data:
                events.append(self._data[0] if len(self._data) == 1 else b"\n".join(self._data))
                self._data.clear()
                self._size = 0
                self._seen = True
        elif not line.startswith(_FIELDS):
            self._strange = True
