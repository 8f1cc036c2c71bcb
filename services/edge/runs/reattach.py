"""One run's events over as many calls as it takes: when the instance that gave them goes away, another one gives the rest."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncGenerator
from typing import TYPE_CHECKING

from prometheus_client import Counter

from parley.chat.v1 import chat_pb2
from runtime.errors import Cancelled, ParleyError, Unavailable

if TYPE_CHECKING:
    from collections.abc import Callable

Batch = chat_pb2.StartRunResponse | chat_pb2.WatchRunResponse | chat_pb2.WatchConversationResponse
Batches = AsyncGenerator[Batch, None]
"""Events of runs; those of one batch happened together, in one run."""

LOST: tuple[type[ParleyError], ...] = (Unavailable, Cancelled)
"""How a call ends whose instance has gone; who cancels a call of ours here is never the edge itself."""

_NOTHING_BEGUN = frozenset({"DRAINING"})
_NEVER = frozenset({"WATCH_EXPIRED"})
_ENDS = frozenset({"done", "error"})
_ELSEWHERE_S = 3.0
_FIRST_PAUSE_S = 0.05
_LONGEST_PAUSE_S = 1.0
_SETTLED_S = 30.0  # longer than any attempt to connect
_REATTACHED = Counter("parley_edge_reattached_total", "Calls for events made again, by why.", ["reason"])


class Attempts:
    """Says whether a call that broke is made again, and waits before it.

    Before the client has been told anything only an instance that is about to stop is passed over, for three seconds, since a call that
    was refused so has begun nothing; and one that cannot be reached, where the call may be repeated. What a service says is away is told
    at once. After that nothing is given up for `patience_s`.

    Args:
        patience_s: Longest time without a call that holds, once the client has been told something.
        repeatable: The first call can be made twice without harm.

    Attributes:
        committed: The client has been told something.
        tries: How many calls in a row have given nothing.
    """

    def __init__(self, patience_s: float, *, repeatable: bool) -> None:
        self.committed = False
        self._repeatable = repeatable
        self._patience_s = patience_s
        self.tries = 0
        self._failing_since = 0.0
        self._called_at = 0.0

    def calling(self) -> None:
        """Notes that a call begins now."""
        self._called_at = asyncio.get_running_loop().time()

    def settled(self) -> None:
        """Notes that the call at hand gives something."""
        self.tries = 0

    async def pause(self, error: ParleyError) -> None:
        """Waits until the next call is to be made.

        Raises: `error` itself: there shall be none.
        """
        now = asyncio.get_running_loop().time()
        if now - self._called_at > max(self._patience_s, _SETTLED_S):
            self.tries = 0
        if self.tries == 0:
            self._failing_since = now
        if now - self._failing_since >= self._patience_for(error):
            raise error
        pause_s = min(_FIRST_PAUSE_S * 2**self.tries, _LONGEST_PAUSE_S) * random.uniform(0.5, 1.5)  # noqa: S311 - no secret
        self.tries += 1
        _REATTACHED.labels(error.code).inc()
        await asyncio.sleep(max(pause_s, min(error.retry_after_s or 0.0, _LONGEST_PAUSE_S)))

    def _patience_for(self, error: ParleyError) -> float:
        if error.code in _NEVER:
            return 0.0
        if self.committed:
            return self._patience_s
        unreachable = error.domain is None  # no service has said it
        return _ELSEWHERE_S if error.code in _NOTHING_BEGUN or (unreachable and self._repeatable) else 0.0


class Tap:
    """Hands a run's events over at the moment they arrive, past everything that waits for them: nobody has to be woken up.

    Attributes:
        feed: Whose events they are.
        write: Says whether it has written a batch; None: nobody does. What is not written, and the run's end, goes the usual way.
    """

    def __init__(self) -> None:
        self.feed: RunFeed | None = None
        self.write: Callable[[Batch], bool] | None = None

    def __call__(self, batch: Batch) -> bool:
        """Says whether a batch has been taken."""
        return self.feed is not None and self.write is not None and self.feed.passes(batch, self.write)


class RunFeed:
    """The events of one run, each once and in order.

    Args:
        begin: Makes the first call.
        watch: Makes each later one, for the events of a run after a position.
        patience_s: See `Attempts`.
        repeatable: See `Attempts`.
        run_id: The run; empty: the first events tell.
        after_seq: The position after which events are wanted.
        tap: What the calls are given, if anything.
    """

    def __init__(
        self,
        begin: Callable[[], Batches],
        watch: Callable[[str, int], Batches],
        *,
        patience_s: float,
        repeatable: bool,
        run_id: str = "",
        after_seq: int = 0,
        tap: Tap | None = None,
    ) -> None:
        if tap is not None:
            tap.feed = self
        self._begin = begin
        self._watch = watch
        self._attempts = Attempts(patience_s, repeatable=repeatable)
        self._run_id = run_id
        self._seq = after_seq

    def commit(self) -> None:
        """Notes that the client has been told something: from now on a lost instance is no reason to give up."""
        self._attempts.committed = True

    def is_cursor(self, run_id: str) -> bool:
        """Says whether a client that has seen an event of this run can come back with it."""
        return run_id == self._run_id

    def passes(self, batch: Batch, write: Callable[[Batch], bool]) -> bool:
        """Says whether a batch has been written past `batches`, which is then waiting for it."""
        events = batch.events
        first, last = events[0], events[-1]
        # For every token: `is_end` and `settled` would be calls.
        seq = last.seq
        if (
            batch.run_id != self._run_id
            or first.seq <= self._seq
            or last.WhichOneof("kind") in _ENDS
            or not write(batch)
        ):
            return False
        self._attempts.tries = 0
        self._seq = seq
        return True

    async def batches(self) -> Batches:
        """Yields events that happened together, at least one; what a tap takes is not among them.

        Raises: whatever chat raised, unless going on elsewhere is the answer.
        """
        call, self._begin = self._begin, self._watch_rest
        ended = False
        while True:
            self._attempts.calling()
            try:
                batches = call()
                try:
                    async for batch in batches:
                        self._attempts.settled()
                        self._run_id = batch.run_id
                        call = self._watch_rest  # what it began with is not needed any more
                        if (fresh := after(batch, self._seq)) is not None:
                            last = fresh.events[-1]
                            self._seq, ended = last.seq, is_end(last)
                            del last
                            yield fresh
                        del batch, fresh  # the next one to come this way may be the last
                finally:
                    await batches.aclose()
            except LOST as error:
                if ended:
                    return
                await self._attempts.pause(error)
            else:
                return

    def _watch_rest(self) -> Batches:
        return self._watch(self._run_id, self._seq)


def after(batch: Batch, seq: int) -> Batch | None:
    """Returns what of a batch lies after a position; None: nothing does."""
    if batch.events[0].seq > seq:
        return batch
    fresh = [event for event in batch.events if event.seq > seq]
    return chat_pb2.WatchRunResponse(run_id=batch.run_id, events=fresh) if fresh else None


def is_end(event: chat_pb2.RunEvent) -> bool:
    """Says whether an event is its run's last one."""
    return event.WhichOneof("kind") in _ENDS
