"""All runs of a conversation as one stream, whoever started them and wherever they live."""

from __future__ import annotations

import asyncio
import contextlib
import time
from typing import TYPE_CHECKING, Any

from runtime import validation
from runtime.errors import NotFound, ParleyError, Unavailable
from services.chat.domain import CursorAhead, Draining, RunNotFound
from services.chat.follow import ACTIVE
from services.chat.looks import RECENT_S, Looks

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Coroutine, Sequence

    from services.chat.caller import Caller
    from services.chat.domain import Event, Run
    from services.chat.follow import Follow
    from services.chat.log import Following
    from services.chat.ports import Announcements, Data, Signals
    from services.chat.runs import Runs

_LOOK_EVERY_S = 2.0
_LOOK_RARELY_S = 5.0
"""While words arrive; one may still be lost."""
_SLICE_S = 0.5
_PAUSE_S = 1.0
_TOGETHER_S = 0.05
"""Within this time of one another all who watch have seen a run's end, and share the look for the next one."""
_REMEMBERED = 200
_SEQ_MAX = 2**63 - 1


class WatchExpired(Unavailable):
    """The access token that a stream was opened with has ended."""

    reason = "WATCH_EXPIRED"

    def __init__(self) -> None:
        super().__init__(
            "The session behind this stream has ended; renew it and go on from where you are.", retry_after_s=0.1
        )


class _Told:
    """What a watcher has been told.

    Attributes:
        last: The newest run that has been told, or that was there before.
        anew: What is told again, out of its order.
    """

    def __init__(self, seqs: dict[str, int]) -> None:
        self.last = ""
        self.anew: list[str] = []
        self._seqs = seqs

    def seq(self, run_id: str) -> int:
        """Returns up to where a run has been told."""
        return self._seqs.get(run_id, 0)

    def note(self, run_id: str, seq: int) -> None:
        """Takes note of how far a run has been told. Of many runs the oldest are forgotten, and would be told from the first event."""
        self._seqs[run_id] = seq
        if len(self._seqs) > _REMEMBERED:
            del self._seqs[next(iter(self._seqs))]


class Conversations:
    """Watches conversations.

    Args:
        data: Says who may see them, and what runs there are.
        signals: Tells of new runs as they begin.
        follow: The events of a run.
        runs: Counts watchers, and knows when this instance drains.
        clock: Seconds since the epoch.
    """

    def __init__(
        self, *, data: Data, signals: Signals, follow: Follow, runs: Runs, clock: Callable[[], float] = time.time
    ) -> None:
        self._data = data
        self._signals = signals
        self._follow = follow
        self._runs = runs
        self._clock = clock
        self._looks: Looks[Sequence[Run]] = Looks()

    async def watch(
        self, conversation_id: str, after_run_id: str, after_seq: int, caller: Caller
    ) -> AsyncGenerator[tuple[str, list[Event]], None]:
        """Streams the rest of the cursor's run and all later runs; without a cursor the active runs and all later ones.

        Who may watch is asked at each join. One run comes after the other, in the order in which they began, so that one position says
        all that a watcher has seen; only a dead letter that is tried again is told out of its order, from where it was left. Nothing is
        kept for a watcher: one that is slow takes more at once from the run's own log.

        Yields: a run's id and at least one event of it, in order.
        Raises: InvalidArgument; NotFound: there is no such conversation, or the cursor's run is not in it; CursorAhead; TooManyWatchers;
            Draining; WatchExpired; Unavailable.
        """
        conversation_id = validation.identifier("conversation_id", conversation_id)
        validation.number("after_seq", after_seq, minimum=0, maximum=_SEQ_MAX)
        if after_run_id:
            after_run_id = validation.identifier("after_run_id", after_run_id)
        elif after_seq:
            raise validation.invalid("after_run_id", "is needed with after_seq: the run the position is of.")
        with self._runs.place():
            await self._data.check_conversation(conversation_id, token=caller.token)
            async with self._signals.begun(caller.identity.org_id, conversation_id) as announcements:
                told = _Told({after_run_id: after_seq} if after_run_id else {})
                pending = await self._join(conversation_id, after_run_id, told, caller)
                while True:
                    for run_id in pending:
                        before = told.seq(run_id)
                        async with contextlib.aclosing(self._events(run_id, before, caller)) as batches:
                            async for events in batches:
                                yield run_id, events
                                told.note(run_id, events[-1].seq)
                        if run_id in told.anew and told.seq(run_id) == before:
                            await asyncio.sleep(_PAUSE_S)
                    pending = await self._next(conversation_id, told, announcements, caller)

    async def _join(self, conversation_id: str, after_run_id: str, told: _Told, caller: Caller) -> list[str]:
        """Returns the runs that are to be told."""
        if after_run_id:
            stored = await self._data.get_run(after_run_id, token=caller.token)
            if stored.run.conversation_id != conversation_id:
                raise RunNotFound
            told.last = after_run_id
            return [after_run_id]
        runs = await self._data.list_runs(conversation_id, token=caller.token)
        told.last = runs[-1].id if runs else ""
        return [run.id for run in runs if run.status in ACTIVE]

    async def _next(self, conversation_id: str, told: _Told, announcements: Announcements, caller: Caller) -> list[str]:
        """Returns the runs that are to be told next, as soon as there are any.

        Raises: NotFound: the conversation has been deleted; Draining; WatchExpired.
        """
        since = time.monotonic() - _TOGETHER_S
        while True:
            self._check(caller)
            try:
                runs = await self._list(conversation_id, told.last, caller, since=since)
                if runs:
                    told.last = runs[-1].id
                    return [run.id for run in runs]
                active = await self._list(conversation_id, None, caller, since=since)
                if active:
                    # None of them is new: a dead letter is tried again, or an end that was told is not stored yet, and nothing more is said.
                    told.anew = [run.id for run in active]
                    return told.anew
            except NotFound:
                raise
            except ParleyError:
                pass  # whoever has joined stays while data is away
            since = await self._word(announcements, caller)

    async def _word(self, announcements: Announcements, caller: Caller) -> float:
        """Returns since when it is worth a look: when a run has been told of, or once it is time to look without a word."""
        look_at = time.monotonic() + (_LOOK_RARELY_S if announcements.reliable else _LOOK_EVERY_S)
        while (remaining_s := look_at - time.monotonic()) > 0:
            self._check(caller)
            if (word := await announcements.next(min(remaining_s, _SLICE_S))) is not None:
                return word[1]
        return time.monotonic() - RECENT_S

    async def _list(self, conversation_id: str, after: str | None, caller: Caller, *, since: float) -> Sequence[Run]:
        """Returns the runs after one, None: those that are active; all who watch a conversation here share a look.

        Raises: as `Data.list_runs`.
        """

        def look() -> Coroutine[Any, Any, Sequence[Run]]:
            return self._data.list_runs(
                conversation_id, after_run_id=after or "", active_only=after is None, token=caller.token
            )

        key = (caller.identity.org_id, caller.identity.user_id, conversation_id, after)
        return await self._looks.share(key, look, since=since)

    async def _events(self, run_id: str, seq: int, caller: Caller) -> AsyncGenerator[list[Event], None]:
        """Yields a run's events after a position to its end, through all its moves; nothing of one that has been deleted.

        Raises: CursorAhead; Draining; WatchExpired.
        """
        first = True
        while True:
            try:
                found = await self._follow.find(run_id, caller)
                events = self._follow.events(found, seq, caller, through_moves=True)
                async with contextlib.aclosing(self._sliced(events, caller)) as batches:
                    async for batch in batches:
                        yield batch
                        seq, first = batch[-1].seq, False
            except RunNotFound:
                return
            except (CursorAhead, Draining, WatchExpired):
                raise
            except ParleyError:
                if first:
                    raise
                self._check(caller)
                await asyncio.sleep(_PAUSE_S)
            else:
                return

    async def _sliced(
        self, events: AsyncGenerator[list[Event], None] | Following, caller: Caller
    ) -> AsyncGenerator[list[Event], None]:
        """Yields what another generator yields, and looks up from it now and then.

        Raises: Draining; WatchExpired; what the other one raises.
        """
        taking: asyncio.Task[list[Event]] | None = None
        try:
            while True:
                taking = asyncio.ensure_future(anext(events))
                while not taking.done():
                    await asyncio.wait({taking}, timeout=_SLICE_S)
                    if not taking.done():
                        self._check(caller)
                try:
                    batch = taking.result()
                except StopAsyncIteration:
                    return
                yield batch
        finally:
            if taking is not None and not taking.done():
                taking.cancel()
                await asyncio.wait({taking})
            await events.aclose()

    def _check(self, caller: Caller) -> None:
        """Raises: Draining: this instance goes away; WatchExpired."""
        if self._runs.draining:
            raise Draining
        if caller.identity.expires_at <= self._clock():
            raise WatchExpired
