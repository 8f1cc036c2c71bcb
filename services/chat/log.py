"""The events of one run in memory: numbered by its owner, replayed from anywhere, followed live by any number of watchers."""

from __future__ import annotations

import asyncio
import contextvars
from bisect import bisect_right
from typing import TYPE_CHECKING

from services.chat.answer import Answer
from services.chat.domain import (
    Done,
    Event,
    Failed,
    PartKind,
    Progress,
    Reasoning,
    Reset,
    RunMoved,
    Text,
    ToolResult,
    ToolUse,
)
from services.chat.stretch import Stretch

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from services.chat.domain import Kind, Part

_NO_CONTEXT = contextvars.Context()  # a copy of what happens to be the current one would cost more than the call
BATCH_MAX_EVENTS = 5_000
BATCH_MAX_CHARS = 500_000
"""A batch must fit into a message that any gRPC client takes (4 MiB)."""


class Tap:
    """Takes a watcher's events at the moment they are announced, past everything that waits for them: nobody has to be woken up.

    Args:
        take: Says whether it has taken the events; where it has not, the watcher gets them, and everything until it waits again.
        write: The same of texts that follow on each other: the number of the first event, where it begins in the answer, and the deltas.
            None: they come as events.

    Attributes:
        seq: Number of the last event it has taken.
    """

    __slots__ = ("_take", "_waiter", "_write", "seq")

    def __init__(
        self, take: Callable[[list[Event]], bool], write: Callable[[int, int, list[str]], bool] | None = None
    ) -> None:
        self.seq = 0
        self._take = take
        self._write = write
        self._waiter: asyncio.Future[None] | None = None

    def drain(self, log: RunLog, seq: int) -> asyncio.Future[None]:
        """Takes what the log shows after a position, until it does not take something, or there is more to know than events.

        Returns: what ends then; whoever awaits it calls `rest` afterwards. It is no coroutine: each live run waits so, for long.
        """
        self.seq = seq
        self._waiter = asyncio.get_running_loop().create_future()
        log.taps.append(self)
        return self._waiter

    def rest(self, log: RunLog) -> None:
        """Takes nothing more."""
        self._waiter = None
        log.taps.remove(self)

    def flow(self, log: RunLog) -> None:
        """Takes what is new. The end is left to the watcher: it means more than an event."""
        waiter = self._waiter
        if waiter is None or waiter.done():
            return
        try:
            taken, write = not (log.ended or log.moved), self._write
            while taken and self.seq < log.last_seq:
                if write is not None and not log.held and (written := log.texts(self.seq)) is not None:
                    offset, texts = written  # nearly always
                    if taken := write(self.seq + 1, offset, texts):
                        self.seq += len(texts)
                elif events := log.after(self.seq):
                    if taken := self._take(events):
                        self.seq = events[-1].seq
                else:
                    break
            if not taken:
                waiter.set_result(None)
        except Exception as error:  # noqa: BLE001 - raised where the watcher waits
            waiter.set_exception(error)


class RunLog:
    """An append-only log of one run.

    The owner writes any number of events and then announces them, and each watcher takes all that it has not seen as one batch: one
    that is slow finds more at its next turn and costs nobody else anything. Neighbouring deltas are kept as one text and the places
    where they end, so that memory grows with the answer and not with the number of events, and still every event is given back as it was.

    While the log is held, watchers are shown only what the tail has confirmed: an owner that may have lost its run must not show what
    the next one cannot know of. Once it has moved, they are sent to where it goes on.

    Attributes:
        last_seq: Number of the newest event; 0: there is none.
        ended: The newest event is the run's last.
        held: Watchers are shown only what the tail has confirmed.
        moved: It goes on elsewhere.
        answer: What of the events counts.
        taps: Watchers who are told as soon as there is something.
    """

    __slots__ = (
        "_blocks",
        "_confirmed",
        "_firsts",
        "_soon",
        "_stretch",
        "_text_chars",
        "_waiting",
        "answer",
        "ended",
        "held",
        "last_seq",
        "moved",
        "taps",
    )

    def __init__(self) -> None:
        self.last_seq = 0
        self.ended = False
        self.answer = Answer()
        self._blocks: list[Stretch | Event] = []
        self._firsts: list[int] = []
        self._stretch: Stretch | None = None
        self._text_chars = 0
        self._waiting: list[asyncio.Future[None]] = []
        self.taps: list[Tap] = []
        self._confirmed = 0
        self.held = False
        self.moved = False
        self._soon = False

    def append(self, kind: Kind) -> None:
        """Appends an event. A text whose offset is not where the text ends takes the place of what stood from there on."""
        if isinstance(kind, Text):
            if kind.offset != self._text_chars:
                self.answer.cut(kind.offset)
                self._text_chars = kind.offset
                self._stretch = None
            self.write(kind.delta)
        elif isinstance(kind, Reasoning):
            self.think(kind.delta)
        else:
            self.last_seq += 1
            self._stretch = None
            self._firsts.append(self.last_seq)
            self._blocks.append(Event(self.last_seq, kind))
            self.ended = isinstance(kind, Done | Failed)
            self._note(kind)

    def write(self, delta: str) -> None:
        """Appends a text event; its offset is where the text ends."""
        stretch = self._stretch
        if stretch is None or stretch.kind is not PartKind.TEXT:
            stretch = self._begin(PartKind.TEXT)
        self.last_seq += 1
        stretch.add(delta)
        self._text_chars += len(delta)

    def think(self, delta: str) -> None:
        """Appends a reasoning event."""
        stretch = self._stretch
        if stretch is None or stretch.kind is not PartKind.REASONING:
            stretch = self._begin(PartKind.REASONING)
        self.last_seq += 1
        stretch.add(delta)

    def load(self, events: Iterable[Event]) -> None:
        """Appends events with the numbers they have; between them, and only here, there may be gaps.

        Raises: ValueError: the numbers do not grow.
        """
        for seq, kind in events:
            if seq <= self.last_seq:
                raise ValueError(f"event {seq} after event {self.last_seq}")
            if seq != self.last_seq + 1:
                self.last_seq = seq - 1
                self._stretch = None
            self.append(kind)

    def announce(self) -> None:
        """Wakes the watchers."""
        for tap in self.taps:
            tap.flow(self)
        if self._waiting:
            waiting, self._waiting = self._waiting, []
            for future in waiting:
                if not future.done():
                    future.set_result(None)

    def announce_soon(self) -> None:
        """Wakes the watchers when what has arrived together has been written: then they are told of it as one."""
        if not self._soon:
            self._soon = True
            asyncio.get_running_loop().call_soon(self._announce_late, context=_NO_CONTEXT)

    def hold(self) -> None:
        """From now on shows only what has been confirmed."""
        self.held = True

    def confirm(self, seq: int) -> None:
        """Takes note that the tail holds everything up to a position."""
        if seq > self._confirmed:
            self._confirmed = seq
            if self.held:
                self.announce()

    def release(self) -> None:
        """Shows everything again, unless the log has moved: what is not shown by then never is."""
        if self.held and not self.moved:
            self.held = False
            self.announce()

    def move(self) -> None:
        """Sends the watchers elsewhere once they have seen what is shown here."""
        self.moved = True
        self.announce()

    def after(self, seq: int) -> list[Event]:
        """Returns the events after a position that may be shown, in order; fewer than all where they are more than one batch may hold."""
        events = self.unsent(seq)
        return [event for event in events if event.seq <= self._confirmed] if self.held else events

    def unsent(self, seq: int) -> list[Event]:
        """Returns the events after a position, whether they may be shown or not: for the tail. Otherwise as `after`."""
        if seq >= self.last_seq:
            return []
        if seq == self.last_seq - 1 and self._stretch is not None:
            return [self._stretch.newest()]  # nearly always
        events: list[Event] = []
        chars = 0
        first = max(bisect_right(self._firsts, seq + 1) - 1, 0)
        for block in self._blocks[first:]:
            for event in block.events(seq) if isinstance(block, Stretch) else (block,) if block.seq > seq else ():
                events.append(event)
                chars += len(event.kind.delta) if isinstance(event.kind, Text | Reasoning) else 0
                if len(events) >= BATCH_MAX_EVENTS or chars >= BATCH_MAX_CHARS:
                    return events
        return events

    def texts(self, seq: int) -> tuple[int, list[str]] | None:
        """Returns the texts of the events after a position, and where the first begins in the answer; None: there is more to them than that.

        For the tail, and for taps while nothing is held: it tells the same as `unsent`, and is cheaper.
        """
        stretch = self._stretch
        if stretch is None or stretch.kind is not PartKind.TEXT or not stretch.first_seq - 1 <= seq < self.last_seq:
            return None
        if self.last_seq - seq > BATCH_MAX_EVENTS:
            return None
        offset, deltas = stretch.deltas(seq)
        return (offset, deltas) if self._text_chars - offset <= BATCH_MAX_CHARS else None

    async def changed(self) -> None:
        """Returns at the next announcement."""
        future = asyncio.get_running_loop().create_future()
        self._waiting.append(future)
        try:
            await future
        finally:
            if future.cancelled() and future in self._waiting:
                self._waiting.remove(future)

    def follow(self, seq: int, tap: Tap | None = None) -> Following:
        """Replays the events after a position, then follows the log to its end.

        Yields: at least one event, in order; what a tap takes is not among them.
        Raises: RunMoved: another instance goes on with it.
        """
        return Following(self, seq, tap)

    def parts(self) -> tuple[Part, ...]:
        """Returns what has been written so far and still counts, in order."""
        return self.answer.parts()

    @property
    def text_chars(self) -> int:
        """Length of the visible text in code points."""
        return self._text_chars

    def _announce_late(self) -> None:
        self._soon = False
        self.announce()

    def _begin(self, kind: PartKind) -> Stretch:
        first_seq = self.last_seq + 1
        stretch = Stretch(kind, first_seq, self._text_chars)
        self._firsts.append(first_seq)
        self._blocks.append(stretch)
        self._stretch = stretch
        self.answer.begin(stretch)
        return stretch

    def _note(self, kind: Kind) -> None:
        """Tells the answer of an event that changes it otherwise than by a delta."""
        if isinstance(kind, ToolUse):
            self.answer.use(kind)
        elif isinstance(kind, ToolResult):
            self.answer.result(kind, self._text_chars)
        elif isinstance(kind, Progress):
            self.answer.progress(kind, self._text_chars)
        elif isinstance(kind, Reset):
            self.answer.reset(kind)
            self._text_chars = min(self._text_chars, kind.offset)


class Following:
    """A watcher's way through a log: an iterator, since each live run has one for long, and a generator takes three times as much memory."""

    __slots__ = ("_log", "_seq", "_tap")

    def __init__(self, log: RunLog, seq: int, tap: Tap | None) -> None:
        self._log = log
        self._seq = seq
        self._tap = tap

    def __aiter__(self) -> Following:
        return self

    async def __anext__(self) -> list[Event]:
        log, tap = self._log, self._tap
        while True:
            events = log.after(self._seq)
            if events:
                self._seq = events[-1].seq
                return events
            if log.ended and self._seq >= log.last_seq:
                raise StopAsyncIteration
            if log.moved:
                raise RunMoved
            if tap is not None:
                try:
                    await tap.drain(log, self._seq)
                finally:
                    tap.rest(log)
                self._seq = tap.seq
            else:
                await log.changed()

    async def aclose(self) -> None:
        """Does nothing: it holds nothing but its place."""
