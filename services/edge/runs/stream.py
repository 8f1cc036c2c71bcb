"""The answer that streams events of runs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from opentelemetry import trace

from services.edge.runs.sse import COME_BACK, OPENING, frames, text_frame, text_of
from services.edge.streams import PushedStream

if TYPE_CHECKING:
    from opentelemetry.trace import Span

    from runtime.errors import ParleyError
    from services.edge.runs.reattach import Batch, Batches, Tap
    from services.edge.streams import Streams


class Feed(Protocol):
    """Where a stream's events come from."""

    def batches(self) -> Batches:
        """Yields events of one run that happened together, at least one; closed in any case."""

    def commit(self) -> None:
        """Is told that the client has been told something."""

    def is_cursor(self, run_id: str) -> bool:
        """Says whether events of this run get an id, which is what a client comes back with."""


class EventStream(PushedStream):
    """Streams batches of events as they come.

    What cuts the events off but is not the run's own end (a service that dies, a drain) ends the stream with `retry`: the client comes
    back with its last id and misses nothing.

    Args:
        streams: Where it takes its place.
        feed: The events.
        quiet_start: Whether there may be no events for a while.
        endless: Whether there is no last event. A drain does not wait for such a stream.
        tap: Through which events come that need not be waited for.
    """

    opening = OPENING

    def __init__(
        self, streams: Streams, feed: Feed, *, quiet_start: bool, endless: bool = False, tap: Tap | None = None
    ) -> None:
        super().__init__(streams, quiet_start=quiet_start, endless=endless)
        self._feed = feed
        self._tap = tap
        self._text_frame = b""
        # The request's span, until it has been told of the first text.
        self._before_text: Span | None = None

    async def relay(self) -> None:
        """Writes the events."""
        begun = False
        # Before the call is made: while it gives events its own span is the current one.
        self._before_text = trace.get_current_span()
        batches = self._feed.batches()
        try:
            async for batch in batches:
                numbered = self._feed.is_cursor(batch.run_id)
                await self.write(frames(batch.run_id, batch.events, numbered=numbered), len(batch.events))
                if not begun:
                    begun = True
                    if self._tap is not None:
                        self._tap.write = self._pour  # the first text, too: nobody has to be woken up for it
                if self._before_text is not None:
                    self._look_for_text(batch)
                del batch  # the next one to come this way may be the last
        finally:
            await batches.aclose()

    def _pour(self, batch: Batch) -> bool:
        events = batch.events
        if len(events) == 1 and (text := text_of(events[0])) is not None:  # nearly all are
            if not self._text_frame:
                self._text_frame = text_frame(batch.run_id)  # a tap gives events of one run
            pushed = self.push(self._text_frame % text, 1)
        else:
            pushed = self.push(frames(batch.run_id, events), len(events))
        if pushed and self._before_text is not None:
            self._look_for_text(batch)
        return pushed

    def _look_for_text(self, batch: Batch) -> None:
        """Notes in the request's span that the first text has been sent, where it has."""
        if self._before_text is not None and any(event.HasField("text") for event in batch.events):
            self._before_text.add_event("first_text_sent")
            self._before_text = None

    def commit(self) -> None:
        """Tells the feed."""
        self._feed.commit()

    def farewell(self, error: ParleyError | None) -> bytes:  # noqa: ARG002 - whatever it was
        """Returns the wish to come back."""
        return COME_BACK
