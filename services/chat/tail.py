"""The log in Redis: one writer and one reader a process, so that any instance can follow any run.

A run's log is one stream. An entry holds all events that were new at a flush: `v`, the version of this format; `fence`, the generation of
the owner; `first` and `last`, the numbers of its events; `events`, a serialized WatchRunResponse. An entry's id is `<last>-0`, so that a
cursor of a client is a position in the stream. Where an entry repeats what came before, the reader takes the rest of it.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import structlog
from opentelemetry.trace import SpanKind
from redis.exceptions import RedisError

from parley.chat.v1 import chat_pb2
from runtime import telemetry
from services.chat import background, metrics
from services.chat.log import RunLog
from services.chat.wire import event_pb, kind_of

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    import redis.asyncio

log = structlog.stdlib.get_logger()

VERSION = b"1"
_AWAY = (RedisError, OSError, TimeoutError)
_PAUSE_S = 1.0
_KEEP_TRYING_S = 60.0
_ENTRIES_MAX = 20_000
_READ_ENTRIES = 100
# Less than the client's patience, and short, because a run that is new to the reader waits for the end of the wait.
_BLOCK_MS = 100


def key_of(org_id: str, run_id: str) -> str:
    """Returns the stream of a run; all that is ever said of it lies in one slot of a cluster."""
    return f"parley:{org_id}:{{{run_id}}}:log"


@dataclass(slots=True)
class _Kept:
    """A log that is sent: `trace` leads to its run's span; `flushed_seq` is 0 while nothing, or nothing certain, is in the stream."""

    key: str
    log: RunLog
    fence: int
    trace: dict[str, str]
    flushed_seq: int = 0
    ended_at: float | None = None


@dataclass(slots=True)
class _Followed:
    """A log that is read, and by how many."""

    run_id: str
    log: RunLog = field(default_factory=RunLog)
    position: int = 0
    readers: int = 0


class RedisTail:
    """`Tail` on Redis.

    Args:
        client: Answers bytes.
        flush_every_s: Between two flushes.
        ttl_s: How long a stream stays after its last beginning or end.
    """

    def __init__(self, client: redis.asyncio.Redis, *, flush_every_s: float, ttl_s: int) -> None:
        self._client = client
        self._flush_every_s = flush_every_s
        self._ttl_s = ttl_s
        self._kept: dict[str, _Kept] = {}
        self._followed: dict[str, _Followed] = {}
        self._something_kept = asyncio.Event()
        self._something_followed = asyncio.Event()
        self._away: set[str] = set()

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Runs the writer and the reader for the length of the block; at its end what is left is sent once more."""
        async with background.running(self._write, self._read):
            yield
        with contextlib.suppress(*_AWAY):
            await self._flush()

    def keep(self, org_id: str, run_id: str, log: RunLog, *, fence: int) -> None:
        """Sends what is and will be in the log, until its end has been sent."""
        self._kept[run_id] = _Kept(key_of(org_id, run_id), log, fence, telemetry.outgoing_headers())
        self._something_kept.set()

    @contextlib.asynccontextmanager
    async def replica(self, org_id: str, run_id: str) -> AsyncIterator[RunLog]:
        """Gives a copy of another instance's log that grows for the length of the block; watchers of one run share it."""
        key = key_of(org_id, run_id)
        followed = self._followed.setdefault(key, _Followed(run_id))
        followed.readers += 1
        self._something_followed.set()
        metrics.REPLICAS.set(len(self._followed))
        try:
            yield followed.log
        finally:
            followed.readers -= 1
            if not followed.readers:
                del self._followed[key]
            metrics.REPLICAS.set(len(self._followed))

    async def _write(self) -> None:
        while True:
            if not self._kept:
                self._something_kept.clear()
                await self._something_kept.wait()
            await asyncio.sleep(self._flush_every_s)
            try:
                await self._flush()
            except _AWAY as error:
                # What was sent may be there or not; once Redis answers again each log is sent anew as a whole.
                for kept in self._kept.values():
                    kept.flushed_seq = 0
                self._drop_ended()
                self._failed("write", error)
                await asyncio.sleep(_PAUSE_S)
            else:
                self._worked("write")

    async def _flush(self) -> None:
        """Appends to each run's stream what is new, in one pipeline."""
        sent: list[tuple[_Kept, int, int]] = []
        async with contextlib.AsyncExitStack() as stack:
            pipeline = await stack.enter_async_context(self._client.pipeline(transaction=False))
            commands = 0
            for kept in self._kept.values():
                events = kept.log.after(kept.flushed_seq)
                if not events:
                    continue
                if not kept.flushed_seq:
                    pipeline.delete(kept.key)
                    commands += 1
                last = events[-1].seq
                entry: dict[Any, Any] = {
                    b"v": VERSION,
                    b"fence": kept.fence,
                    b"first": events[0].seq,
                    b"last": last,
                    b"events": chat_pb2.WatchRunResponse(events=map(event_pb, events)).SerializeToString(),
                }
                # Where the stream has gone meanwhile, nothing is added: half a log would be of no use to anybody.
                new = not kept.flushed_seq
                pipeline.xadd(kept.key, entry, id=f"{last}-0", maxlen=_ENTRIES_MAX, nomkstream=not new)
                sent.append((kept, last, commands))
                commands += 1
                if new or kept.log.ended:
                    pipeline.expire(kept.key, self._ttl_s)
                    commands += 1
                    # A turn's trace shows the first flush and the last one; a span for each would cost more than the flush.
                    stack.enter_context(_span(kept))
            answers = await pipeline.execute(raise_on_error=False) if sent else []
        for kept, last, index in sent:
            added = isinstance(answers[index], bytes)
            kept.flushed_seq = last if added else 0
            metrics.TAIL_ENTRIES.inc(added)
            if isinstance(answers[index], Exception):
                raise answers[index]
        self._drop_ended()

    def _drop_ended(self) -> None:
        now = time.monotonic()
        for run_id, kept in list(self._kept.items()):
            if not kept.log.ended:
                continue
            if kept.ended_at is None:
                kept.ended_at = now
            if kept.flushed_seq == kept.log.last_seq or now - kept.ended_at > _KEEP_TRYING_S:
                del self._kept[run_id]

    async def _read(self) -> None:
        while True:
            if not self._followed:
                self._something_followed.clear()
                await self._something_followed.wait()
            # The answer belongs to these copies: meanwhile one may go and another of the same run begin anew.
            reading = dict(self._followed)
            positions: dict[Any, Any] = {key: f"{item.position}-0" for key, item in reading.items()}
            try:
                streams: Any = await self._client.xread(positions, count=_READ_ENTRIES, block=_BLOCK_MS)
            except _AWAY as error:
                self._failed("read", error)
                await asyncio.sleep(_PAUSE_S)
                continue
            self._worked("read")
            for key, entries in streams:
                _take(reading[key.decode()], entries)

    def _failed(self, use: str, error: BaseException) -> None:
        metrics.TAIL_FAILURES.labels(use).inc()
        if use not in self._away:
            self._away.add(use)
            log.warning("run_tail_away", use=use, error=type(error).__name__)

    def _worked(self, use: str) -> None:
        if use in self._away:
            self._away.discard(use)
            log.info("run_tail_back", use=use)


def _span(kept: _Kept) -> contextlib.AbstractContextManager[Any]:
    attributes = {"db.system.name": "redis", "db.operation.name": "XADD"}
    return telemetry.span("redis XADD", kind=SpanKind.CLIENT, attributes=attributes, remote=kept.trace)


def _take(followed: _Followed, entries: list[Any]) -> None:
    """Appends the entries' events to a copy, as far as they follow on what it holds."""
    before = followed.log.last_seq
    for entry_id, fields in entries:
        followed.position = int(entry_id.partition(b"-")[0])
        if fields.get(b"v") != VERSION or int(fields[b"first"]) > followed.log.last_seq + 1:
            continue
        for event in chat_pb2.WatchRunResponse.FromString(fields[b"events"]).events:
            kind = kind_of(event)
            if kind is None:
                break
            if event.seq == followed.log.last_seq + 1:
                followed.log.append(kind)
    if followed.log.last_seq > before:
        followed.log.announce()
