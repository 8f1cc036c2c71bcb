"""An event stream: when it begins, what keeps it alive, how it ends; spoken to in ASGI."""

import asyncio
from collections.abc import AsyncGenerator, Callable
from typing import Any

import pytest

from parley.chat.v1 import chat_pb2
from runtime.errors import NotFound, ParleyError, Unavailable
from services.edge.problems import NotReady, TooManyStreams
from services.edge.runs.stream import EventStream
from services.edge.streams import Streams

Batch = chat_pb2.StartRunResponse


def batch(*seqs: int) -> Batch:
    return Batch(run_id="r", events=[chat_pb2.RunEvent(seq=seq, thinking=chat_pb2.Thinking()) for seq in seqs])


class Source:
    """A run's events under the test's control."""

    def __init__(self) -> None:
        self.queue: asyncio.Queue[Batch | ParleyError | None] = asyncio.Queue()
        self.closed = asyncio.Event()
        self.committed = False
        self.cursor = True

    def commit(self) -> None:
        self.committed = True

    def is_cursor(self, run_id: str) -> bool:
        return self.cursor

    def put(self, *items: Batch | ParleyError | None) -> "Source":
        for item in items:
            self.queue.put_nowait(item)
        return self

    async def batches(self) -> AsyncGenerator[Batch, None]:
        try:
            while (item := await self.queue.get()) is not None:
                if isinstance(item, ParleyError):
                    raise item
                yield item
        finally:
            self.closed.set()


class Client:
    """The other side of an ASGI connection.

    `reading` cleared is a client that does not read; `sent` are the messages it got.
    """

    def __init__(self) -> None:
        self.sent: list[dict[str, Any]] = []
        self.reading = asyncio.Event()
        self.reading.set()
        self.waiting = asyncio.Event()
        self._gone = asyncio.Event()
        self._changed = asyncio.Event()

    async def receive(self) -> dict[str, Any]:
        await self._gone.wait()
        return {"type": "http.disconnect"}

    async def send(self, message: Any) -> None:
        if not self.reading.is_set():
            self.waiting.set()
            await self.reading.wait()
        self.sent.append(message)
        self._changed.set()

    def leave(self) -> None:
        self._gone.set()

    async def until(self, condition: Callable[[], object]) -> None:
        while not condition():
            self._changed.clear()
            await self._changed.wait()

    @property
    def status(self) -> int | None:
        return next((message["status"] for message in self.sent if "status" in message), None)

    @property
    def body(self) -> bytes:
        return b"".join(message.get("body", b"") for message in self.sent)

    @property
    def complete(self) -> bool:
        return bool(self.sent) and not self.sent[-1].get("more_body", True)


def streams(*, limit: int = 10, heartbeat_s: float = 60, stalled_reader_s: float = 60) -> Streams:
    return Streams(limit=limit, heartbeat_s=heartbeat_s, stalled_reader_s=stalled_reader_s)


def serve(
    source: Source,
    client: Client,
    registry: Streams | None = None,
    *,
    quiet_start: bool = False,
    endless: bool = False,
) -> asyncio.Task[None]:
    stream = EventStream(registry or streams(), source, quiet_start=quiet_start, endless=endless)
    return asyncio.create_task(stream({"type": "http"}, client.receive, client.send))


async def test_the_first_bytes_leave_together_with_the_first_events() -> None:
    source, client = Source().put(batch(1, 2), None), Client()
    await serve(source, client)
    start, first, last = client.sent
    assert start["status"] == 200
    assert first["body"].startswith(b": ok\n\nid: r:1\n")
    assert b"id: r:2\n" in first["body"]
    assert last == {"type": "http.response.body", "body": b"", "more_body": False}


async def test_headers_keep_proxies_from_holding_it_back() -> None:
    source, client = Source().put(batch(1), None), Client()
    await serve(source, client)
    assert dict(client.sent[0]["headers"]) == {
        b"content-type": b"text/event-stream; charset=utf-8",
        b"cache-control": b"no-cache, no-transform",
        b"x-accel-buffering": b"no",
    }


async def test_a_batch_is_one_send() -> None:
    source, client = Source().put(batch(1), batch(2, 3, 4), batch(5), None), Client()
    await serve(source, client)
    assert len(client.sent) == 1 + 3 + 1


async def test_an_error_before_the_first_event_is_raised_for_an_ordinary_answer() -> None:
    source, client = Source().put(NotFound("No such run.")), Client()
    with pytest.raises(NotFound):
        await serve(source, client)
    assert client.sent == []


async def test_a_watch_with_nothing_new_yet_begins_all_the_same() -> None:
    source, client = Source(), Client()
    task = serve(source, client, quiet_start=True)
    await client.until(lambda: client.body == b": ok\n\n")
    source.put(batch(7), None)
    await task
    assert client.body.startswith(b": ok\n\nid: r:7\n")


async def test_no_events_at_all_is_204() -> None:
    source, client = Source().put(None), Client()
    await serve(source, client, quiet_start=True)
    assert (client.status, client.body, client.complete) == (204, b"", True)


async def test_a_silent_stream_says_something() -> None:
    source, client = Source().put(batch(1)), Client()
    task = serve(source, client, streams(heartbeat_s=0.01))
    await client.until(lambda: client.body.count(b": ping\n\n") >= 2)
    source.put(None)
    await task
    assert client.complete


async def test_a_client_that_leaves_ends_the_watch_and_nothing_more_is_sent() -> None:
    source, client = Source().put(batch(1)), Client()
    task = serve(source, client)
    await client.until(lambda: client.body)
    client.leave()
    await task
    assert source.closed.is_set()
    assert not client.complete


async def test_a_client_that_leaves_before_the_first_event_ends_the_watch() -> None:
    source, client = Source(), Client()
    task = serve(source, client)
    client.leave()
    await task
    assert source.closed.is_set()
    assert client.sent == []


async def test_a_service_that_dies_sends_the_client_back_with_what_it_has() -> None:
    """It is not the run's end: the run may be taken over, and the client goes on from its last id."""
    source, client = Source().put(batch(1), Unavailable("Gone.")), Client()
    await serve(source, client)
    assert client.body.endswith(b"retry: 1000\n\n")
    assert b"event: error" not in client.body
    assert client.complete


async def test_a_stream_that_breaks_notes_why() -> None:
    class Away(Unavailable):
        reason = "CHAT_AWAY"

    source, client, notes = Source().put(batch(1), Away("Gone.")), Client(), dict[str, Any]()
    stream = EventStream(streams(), source, quiet_start=False)
    await stream({"type": "http", "parley.notes": notes}, client.receive, client.send)
    assert notes == {"stream.ended": "broken", "stream.events": 1, "stream.reason": "CHAT_AWAY"}


async def test_a_drain_waits_for_streams_to_end_by_themselves() -> None:
    registry, source, client = streams(), Source().put(batch(1)), Client()
    task = serve(source, client, registry)
    await client.until(lambda: client.body)
    draining = asyncio.create_task(registry.drain(60))
    source.put(batch(2), None)
    await asyncio.gather(task, draining)
    assert client.body.endswith(b'"seq":2}\n\n')


async def test_a_drain_ends_what_is_open_after_the_grace_with_a_wish_to_come_back() -> None:
    registry, source, client = streams(), Source().put(batch(1)), Client()
    task = serve(source, client, registry)
    await client.until(lambda: client.body)
    await registry.drain(0)
    await task
    assert client.body.endswith(b"retry: 1000\n\n")
    assert client.complete
    assert source.closed.is_set()


async def test_a_drain_sends_those_back_at_once_that_never_end() -> None:
    registry, source, client = streams(), Source().put(batch(1)), Client()
    task = serve(source, client, registry, endless=True)
    await client.until(lambda: client.body)
    await registry.drain(3600)
    await task
    assert client.body.endswith(b"retry: 1000\n\n")
    assert client.complete


async def test_a_drain_takes_no_more_of_those_that_never_end() -> None:
    registry = streams()
    await registry.drain(0)
    with pytest.raises(NotReady):
        await serve(Source(), Client(), registry, endless=True)
    client = Client()
    await serve(Source().put(batch(1), None), client, registry)
    assert client.status == 200


async def test_an_endless_stream_that_ends_all_the_same_sends_its_client_back() -> None:
    source, client = Source().put(batch(1), None), Client()
    await serve(source, client, endless=True)
    assert client.body.endswith(b"retry: 1000\n\n")


async def test_its_source_learns_when_the_client_has_been_told_something() -> None:
    source, client = Source(), Client()
    task = serve(source, client, quiet_start=True)
    await client.until(lambda: client.body == b": ok\n\n")
    assert source.committed
    source.put(None)
    await task


async def test_what_is_no_cursor_has_no_id() -> None:
    source, client = Source().put(batch(1), None), Client()
    source.cursor = False
    await serve(source, client)
    assert b"id:" not in client.body
    assert b"event: thinking\n" in client.body


async def test_a_drain_refuses_a_run_that_has_not_begun() -> None:
    registry, source, client = streams(), Source(), Client()
    task = serve(source, client, registry)
    await asyncio.sleep(0)
    await registry.drain(0)
    with pytest.raises(NotReady):
        await task


async def test_a_reader_that_stalls_takes_nothing_from_the_service() -> None:
    """Nothing is buffered for it here: the next batch is asked for when the last one has left."""
    source, client = Source().put(batch(1)), Client()
    task = serve(source, client)
    await client.until(lambda: client.body)
    client.reading.clear()
    source.put(*(batch(seq) for seq in range(2, 50)))
    await client.waiting.wait()
    assert source.queue.qsize() == 47
    client.reading.set()
    source.put(None)
    await task
    assert client.body.count(b"event: thinking") == 49


async def test_a_reader_that_stalls_for_too_long_is_cut() -> None:
    source, client = Source().put(batch(1)), Client()
    task = serve(source, client, streams(heartbeat_s=0.01, stalled_reader_s=0.02))
    await client.until(lambda: client.body)
    client.reading.clear()
    source.put(batch(2))
    await task
    assert source.closed.is_set()


async def test_streams_beyond_the_limit_are_refused_and_a_place_is_given_back() -> None:
    registry, source, client = streams(limit=1), Source().put(batch(1)), Client()
    task = serve(source, client, registry)
    await client.until(lambda: client.body)
    with pytest.raises(TooManyStreams):
        await serve(Source(), Client(), registry)
    source.put(None)
    await task
    await serve(Source().put(batch(1), None), Client(), registry)


async def test_a_cancellation_of_the_request_is_not_swallowed() -> None:
    source, client = Source().put(batch(1)), Client()
    task = serve(source, client)
    await client.until(lambda: client.body)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert source.closed.is_set()
