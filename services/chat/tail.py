"""The log in Redis: one writer and one reader a process, so that any instance can follow any run, and go on with it."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import structlog
from opentelemetry.trace import SpanKind
from redis.exceptions import RedisError, ResponseError

from runtime import telemetry
from runtime.resp import Line
from services.chat import background, metrics
from services.chat.entries import START, EntryId, appended, entry_id, key_of, marker, newest_whole, replay, seen_key_of
from services.chat.log import RunLog
from services.chat.ports import TakenTail
from services.chat.signals import begun_channel
from services.chat.snapshot import OPENING

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    import redis.asyncio

    from runtime.resp import Command

log = structlog.stdlib.get_logger()

_AWAY = (RedisError, OSError, TimeoutError)
_PAUSE_S = 1.0
_KEEP_TRYING_S = 60.0
_READ_ENTRIES = 100
# Less than the client's patience, and short, because a run that is new to the reader waits for the end of the wait.
_BLOCK_MS = 100
_FLUSH_PATIENCE_S = 0.5
_RUNS_A_TURN = 75
_MOST_TURNS = 3
"""Of many runs each is in every second or third flush: an entry costs nearly the same whatever it holds, and a flush of all keeps tokens waiting."""
_MANY_EVENTS = 16
"""A run with so many new ones is in each: what no log holds when its owner dies stays well below what the next one assumes."""
_AT_ONCE = 40
"""Runs in one pipeline."""
_IN_A_ROW = 15
"""Runs whose entries are made before others have their turn."""
_REFUSED = "equal or smaller"
"""What Redis says of an entry whose id is not above the newest."""


@dataclass(slots=True)
class _Kept:
    """A log that is sent.

    Attributes:
        trace: Leads to its run's span.
        sent_seq: Position up to which the stream is certain to hold it; 0: nothing, or nothing certain, is there.
        turn: In which of the flushes it is, where it is not in each.
        announced: Watchers of the conversation have been told.
        expires_at: When to set the stream's life anew.
    """

    key: bytes
    log: RunLog
    fence: int
    channel: str
    run_id: str
    superseded: Callable[[], None]
    trace: dict[str, str]
    sent_seq: int
    turn: int
    announced: bool = False
    expires_at: float = 0.0
    ended_at: float | None = None


@dataclass(slots=True)
class _Followed:
    """A log that is read, and by how many."""

    log: RunLog = field(default_factory=RunLog)
    position: str = START
    readers: int = 0


@dataclass(slots=True)
class _Sent:
    """An entry on its way, and where in the pipeline's answers its own stands."""

    kept: _Kept
    last: int
    index: int


class RedisTail:
    """`Tail` on Redis.

    Args:
        client: Answers bytes.
        flush_every_s: Between two flushes.
        ttl_s: How long a stream stays after it has begun or ended, and at most twice that while its run lives.
    """

    def __init__(self, client: redis.asyncio.Redis, *, flush_every_s: float, ttl_s: int) -> None:
        self._client = client
        self._line = Line(client)
        self._flush_every_s, self._ttl_s = flush_every_s, ttl_s
        self._kept: dict[str, _Kept] = {}
        self._followed: dict[str, _Followed] = {}
        self._something_kept = asyncio.Event()
        self._something_followed = asyncio.Event()
        self._away: set[str] = set()
        self._flushed: list[asyncio.Future[None]] = []
        self._turn = 0
        self._numbers = itertools.count()

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Runs the writer and the reader for the length of the block; at its end what is left is sent once more."""
        async with background.running(self._write, self._read):
            yield
        with contextlib.suppress(*_AWAY):
            await self._flush(everything=True)
        self._line.close()

    def keep(
        self,
        org_id: str,
        run_id: str,
        log: RunLog,
        *,
        fence: int,
        conversation_id: str,
        superseded: Callable[[], None],
        sent_seq: int = 0,
    ) -> None:
        """Sends what is and will be in the log, until its end has been sent."""
        log.confirm(sent_seq)
        self._kept[run_id] = _Kept(
            key=key_of(org_id, run_id).encode(),
            log=log,
            fence=fence,
            channel=begun_channel(org_id, conversation_id),
            run_id=run_id,
            superseded=superseded,
            trace=telemetry.outgoing_headers(),
            sent_seq=sent_seq,
            turn=next(self._numbers),
        )
        self._something_kept.set()

    def let_go(self, run_id: str, log: RunLog) -> None:
        """Sends no more of a log."""
        kept = self._kept.get(run_id)
        # This instance may have taken its own run up again: what its new owner writes is another log.
        if kept is not None and kept.log is log:
            del self._kept[run_id]

    async def flush(self, run_id: str, log: RunLog) -> None:
        """Returns once what is in the log has been sent, or after a moment in which it could not be."""
        kept = self._kept.get(run_id)
        if kept is None or kept.log is not log:
            return
        target = log.last_seq
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_FLUSH_PATIENCE_S):
                while kept.sent_seq < target and self._kept.get(run_id) is kept:
                    flushed = asyncio.get_running_loop().create_future()
                    self._flushed.append(flushed)
                    await flushed

    async def take(self, org_id: str, run_id: str, *, fence: int) -> TakenTail:
        """Shuts all earlier owners out of a run's log and returns what is in it; nothing where Redis is away."""
        key = key_of(org_id, run_id)
        try:
            async with self._client.pipeline(transaction=False) as pipeline:
                pipeline.xadd(key, marker(), id=str(EntryId(fence, 0)), nomkstream=True)
                pipeline.xrange(key)
                pipeline.zscore(seen_key_of(org_id, run_id), b"seq")
                _, entries, seen = await pipeline.execute(raise_on_error=False)
        except _AWAY as error:
            self._failed("take", error)
            return TakenTail(None, away=True)
        for answer in (entries, seen):
            if isinstance(answer, Exception):
                self._failed("take", answer)
                return TakenTail(None, away=True)
        self._worked("take")
        found = RunLog()
        replay(found, newest_whole(entries))
        return TakenTail(found if found.last_seq else None, int(seen or 0))

    async def forget(self, org_id: str, run_id: str) -> None:
        """Drops a run's log."""
        try:
            await self._client.delete(key_of(org_id, run_id), seen_key_of(org_id, run_id))
        except _AWAY as error:
            self._failed("forget", error)
        else:
            self._worked("forget")

    async def note_seen(self, org_id: str, run_id: str, seq: int) -> None:
        """Takes note of a position a watcher has come with that is past the log's end."""
        key = seen_key_of(org_id, run_id)
        try:
            async with self._client.pipeline(transaction=False) as pipeline:
                pipeline.zadd(key, {b"seq": seq}, gt=True)
                pipeline.expire(key, self._ttl_s)
                await pipeline.execute()
        except _AWAY as error:
            self._failed("seen", error)
        else:
            self._worked("seen")

    @contextlib.asynccontextmanager
    async def replica(self, org_id: str, run_id: str) -> AsyncIterator[RunLog]:
        """Gives a copy of another instance's log that grows for the length of the block; watchers of one run share it."""
        key = key_of(org_id, run_id)
        followed = self._followed.setdefault(key, _Followed())
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
                    kept.sent_seq = 0
                self._drop_ended()
                self._failed("write", error)
                await asyncio.sleep(_PAUSE_S)
            else:
                self._worked("write")

    async def _flush(self, *, everything: bool = False) -> None:
        """Appends to the runs' streams what is new: of all of them, or of those whose turn it is."""
        due = self._due(1 if everything or self._flushed else min(1 + len(self._kept) // _RUNS_A_TURN, _MOST_TURNS))
        for start in range(0, len(due), _AT_ONCE):
            await self._append([kept for kept in due[start : start + _AT_ONCE] if self._kept.get(kept.run_id) is kept])
        self._drop_ended()
        flushed, self._flushed = self._flushed, []
        for future in flushed:
            if not future.done():
                future.set_result(None)

    def _due(self, turns: int) -> list[_Kept]:
        """Returns the runs of which something is new, and among so many turns those whose turn it is and those that do not wait for it."""
        self._turn += 1
        due: list[_Kept] = []
        for kept in self._kept.values():
            log, new = kept.log, kept.log.last_seq - kept.sent_seq
            its_turn = turns == 1 or (kept.turn + self._turn) % turns == 0
            # By the first text in it the next owner knows that clients have seen some: that waits for no turn.
            if new > 0 and (its_turn or kept.sent_seq <= OPENING or new >= _MANY_EVENTS or log.ended or log.held):
                due.append(kept)
        return due

    async def _append(self, due: Sequence[_Kept]) -> None:
        """Appends to each of these runs' streams what is new, in one pipeline."""
        sent: list[_Sent] = []
        commands: list[Command] = []
        async with contextlib.AsyncExitStack() as stack:
            now = time.monotonic()
            for number, kept in enumerate(due, 1):
                if number % _IN_A_ROW == 0:
                    await asyncio.sleep(0)
                new = not kept.sent_seq
                last, command = appended(kept.key, kept.fence, kept.log, after=kept.sent_seq)
                sent.append(_Sent(kept, last, len(commands)))
                commands.append(command)
                if new or kept.log.ended or now > kept.expires_at:
                    commands.append((b"EXPIRE", kept.key, self._ttl_s))
                    kept.expires_at = now + self._ttl_s / 2
                    # A turn's trace shows the first flush and the last one; a span for each would cost more than the flush.
                    stack.enter_context(_span(kept))
                if not kept.announced:
                    commands.append(("PUBLISH", kept.channel, kept.run_id))
            answers = await self._line.ask(commands)
        # Only now: told twice does no harm, and never told keeps watchers elsewhere waiting.
        for item in sent:
            item.kept.announced = True
        await self._note([(item, answers[item.index]) for item in sent])

    async def _note(self, answers: list[tuple[_Sent, Any]]) -> None:
        """Takes note of what has become of the entries.

        Raises: what Redis said, other than of an entry that comes too late.
        """
        refused: list[_Kept] = []
        failure: Exception | None = None
        count = 0
        for item, answer in answers:
            kept = item.kept
            if isinstance(answer, ResponseError) and _REFUSED in str(answer):
                refused.append(kept)
            elif isinstance(answer, Exception):
                failure = answer
                kept.sent_seq = 0
            elif answer is None:  # the stream has gone: all of it again
                kept.sent_seq = 0
            else:
                kept.sent_seq = item.last
                kept.log.confirm(item.last)
                count += 1
        metrics.TAIL_ENTRIES.inc(count)
        for kept in refused:
            await self._look(kept)
        if failure is not None:
            raise failure

    async def _look(self, kept: _Kept) -> None:
        """Finds out why an entry was refused: it had arrived before, or the run has another owner."""
        newest: Any = await self._client.xrevrange(kept.key, count=1)
        if not newest:
            kept.sent_seq = 0
            return
        fence, last = entry_id(newest[0][0])
        if fence > kept.fence:
            self.let_go(kept.run_id, kept.log)
            metrics.FENCED.labels("tail").inc()
            log.warning("run_superseded", run_id=kept.run_id, fence=kept.fence, by=fence)
            kept.superseded()
        else:
            kept.sent_seq = last
            kept.log.confirm(last)

    def _drop_ended(self) -> None:
        now = time.monotonic()
        for run_id, kept in list(self._kept.items()):
            if not kept.log.ended:
                continue
            kept.ended_at = kept.ended_at or now
            if kept.sent_seq == kept.log.last_seq or now - kept.ended_at > _KEEP_TRYING_S:
                del self._kept[run_id]

    async def _read(self) -> None:
        while True:
            while not self._followed:
                self._something_followed.clear()
                await self._something_followed.wait()
            # The answer belongs to these copies: meanwhile one may go and another of the same run begin anew.
            reading = dict(self._followed)
            positions: dict[Any, Any] = {key: item.position for key, item in reading.items()}
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
    """Appends the entries' events to a copy."""
    before = followed.log.last_seq
    followed.position = entries[-1][0].decode()
    replay(followed.log, entries)
    if followed.log.last_seq > before:
        followed.log.announce()
