"""Events that reach the client at the moment they arrive: the same bytes in the same order as those that are waited for."""

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Callable
from typing import Any

import pytest
from opentelemetry import context
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.trace import SpanKind, set_span_in_context

from parley.chat.v1 import chat_pb2
from runtime import telemetry
from runtime.errors import Unavailable
from runtime.spans import RecordedSpan, Recorder
from services.edge.runs.reattach import RunFeed, Tap
from services.edge.runs.sse import frames
from services.edge.runs.stream import EventStream
from services.edge.streams import Streams
from services.edge.wire import WIRE

RUN = "r"


def batch(*seqs: int, run_id: str = RUN) -> chat_pb2.WatchRunResponse:
    events = [chat_pb2.RunEvent(seq=seq, text=chat_pb2.Text(delta=f"<{seq}>", offset=seq)) for seq in seqs]
    return chat_pb2.WatchRunResponse(run_id=run_id, events=events)


def last(seq: int) -> chat_pb2.WatchRunResponse:
    return chat_pb2.WatchRunResponse(run_id=RUN, events=[chat_pb2.RunEvent(seq=seq, done=chat_pb2.Done())])


class Call:
    """A call that offers what arrives to the tap while its reader waits, as a shared connection does."""

    def __init__(self, tap: Tap) -> None:
        self._tap = tap
        self._queue: asyncio.Queue[Any] = asyncio.Queue()
        self.waiting = asyncio.Event()

    async def responses(self) -> AsyncGenerator[Any, None]:
        with telemetry.span("call", kind=SpanKind.CLIENT):  # as every call has one
            while True:
                self.waiting.set()
                item = await self._queue.get()
                self.waiting.clear()
                if item is None:
                    return
                if isinstance(item, Exception):
                    raise item
                yield item

    async def arrive(self, item: Any) -> bool:
        """Says whether the tap has taken it."""
        await self.waiting.wait()
        if item is None or isinstance(item, Exception) or not self._tap(item):
            self.waiting.clear()
            self._queue.put_nowait(item)
            return False
        return True


class Served:
    """An event stream at work; `sent` is what its client got, `pushed` how often past ASGI; the stream takes it for its `Wire`."""

    gone = full = was_cut = False
    unread_bytes = 0
    on_gone: Callable[[], None] | None = None

    def __init__(self, *, closed: bool = False, heartbeat_s: float = 60, stalled_reader_s: float = 60) -> None:
        self.sent = b""
        self.pushed = 0
        self.closed = closed
        self.tried = asyncio.Event()
        self.reading = asyncio.Event()
        self.reading.set()
        tap = Tap()
        self.calls = [Call(tap)]
        self.rewatched = asyncio.Event()

        def watch(run_id: str, after_seq: int) -> AsyncGenerator[Any, None]:
            self.after = (run_id, after_seq)
            self.calls.append(Call(tap))
            self.rewatched.set()
            return self.calls[-1].responses()

        feed = RunFeed(self.calls[0].responses, watch, patience_s=60, repeatable=False, tap=tap)
        streams = Streams(limit=1, heartbeat_s=heartbeat_s, stalled_reader_s=stalled_reader_s)
        stream = EventStream(streams, feed, quiet_start=False, tap=tap)
        self.task = asyncio.create_task(stream({"type": "http", WIRE: self}, self._receive, self._send))

    def forget_head(self) -> None:
        pass

    def cut(self) -> None:
        self.was_cut = True

    def push(self, data: bytes) -> bool:
        self.tried.set()
        if not self.closed:
            self.sent += data
            self.pushed += 1
        return not self.closed

    async def _receive(self) -> dict[str, Any]:
        await asyncio.Event().wait()
        return {}

    async def _send(self, message: Any) -> None:
        await self.reading.wait()
        self.sent += message.get("body", b"")


def spelt(*batches: chat_pb2.WatchRunResponse) -> bytes:
    return b": ok\n\n" + b"".join(frames(one.run_id, one.events) for one in batches)


async def test_after_the_first_text_events_are_written_as_they_arrive() -> None:
    served = Served()
    (call,) = served.calls
    assert not await call.arrive(batch(1))
    assert await call.arrive(batch(2, 3))
    assert served.sent == spelt(batch(1), batch(2, 3))
    assert not await call.arrive(last(4))
    await call.arrive(None)
    await served.task
    assert served.sent == spelt(batch(1, 2, 3), last(4))
    assert served.pushed == 2, "all but the first"


async def test_the_first_text_is_written_as_it_arrives_where_something_came_before_it() -> None:
    served = Served()
    (call,) = served.calls
    first = chat_pb2.WatchRunResponse(run_id=RUN, events=[chat_pb2.RunEvent(seq=1, thinking=chat_pb2.Thinking())])
    assert not await call.arrive(first)
    assert await call.arrive(batch(2))
    assert served.sent == spelt(first, batch(2))
    served.task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await served.task


async def test_the_requests_span_is_told_once_when_the_first_text_was_sent() -> None:
    provider = TracerProvider(shutdown_on_exit=False)
    span = Recorder(provider).start("x", None, SpanKind.SERVER, None)
    assert isinstance(span, RecordedSpan)
    token = context.attach(set_span_in_context(span))
    served = Served()
    context.detach(token)
    (call,) = served.calls
    thinking = chat_pb2.RunEvent(seq=1, thinking=chat_pb2.Thinking())
    assert not await call.arrive(chat_pb2.WatchRunResponse(run_id=RUN, events=[thinking]))
    await call.waiting.wait()
    assert not list(span.fields()["events"])
    for seq in (2, 3):
        assert await call.arrive(batch(seq))
    assert [event.name for event in span.fields()["events"]] == ["first_text_sent"]
    served.task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await served.task


async def test_where_the_client_reads_slowly_events_wait_in_line() -> None:
    served = Served()
    (call,) = served.calls
    await call.arrive(batch(1))
    assert await call.arrive(batch(2))
    served.closed = True
    assert not await call.arrive(batch(3))
    served.closed = False
    assert await call.arrive(batch(4))
    assert served.sent == spelt(batch(1, 2, 3, 4))
    served.task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await served.task


async def test_what_was_written_so_counts_for_where_another_call_goes_on() -> None:
    served = Served()
    (call,) = served.calls
    await call.arrive(batch(1))
    assert await call.arrive(batch(2))
    await call.arrive(Unavailable("Gone."))
    await served.rewatched.wait()
    assert served.after == (RUN, 2)
    again = served.calls[-1]
    assert not await again.arrive(batch(2, 3)), "what is there already is taken out"
    assert not await again.arrive(batch(4, run_id="another"))
    await again.arrive(None)
    await served.task
    assert served.sent.count(b"id: r:2\n") == 1
    assert b"id: r:3\n" in served.sent


async def test_a_client_that_goes_ends_the_stream() -> None:
    served = Served()
    (call,) = served.calls
    await call.arrive(batch(1))
    await call.waiting.wait()
    assert served.on_gone is not None
    served.on_gone()
    await served.task
    assert served.sent == spelt(batch(1)), "nobody is there for a farewell"
    assert served.on_gone is None


async def test_a_client_that_had_gone_before_is_sent_nothing() -> None:
    served = Served()
    served.gone = True
    await served.task
    assert served.sent == b""


@pytest.mark.parametrize("closed", [False, True])
async def test_a_silent_stream_says_something(closed: bool) -> None:
    """Also where it has to be waited for."""
    served = Served(closed=closed, heartbeat_s=0.01)
    (call,) = served.calls
    await call.arrive(batch(1))
    await served.tried.wait()
    await call.arrive(last(2))
    await call.arrive(None)
    await served.task
    assert b": ping\n\n" in served.sent


async def test_a_client_that_reads_nothing_while_there_is_nothing_to_say_is_cut() -> None:
    served = Served(closed=True, heartbeat_s=0.01, stalled_reader_s=0.02)
    (call,) = served.calls
    await call.arrive(batch(1))
    await call.waiting.wait()
    served.reading.clear()
    await served.task
    assert served.sent.replace(b": ping\n\n", b"") == spelt(batch(1)), "no farewell"
    assert served.was_cut
