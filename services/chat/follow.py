"""A run as its watchers see it, wherever it lives: here, on another instance, in the queue, or only in what is stored."""

from __future__ import annotations

import asyncio
import contextlib
import time
from typing import TYPE_CHECKING

from runtime.errors import Unavailable
from services.chat import snapshot
from services.chat.domain import CursorAhead, Draining, NotStopped, RunMoved, RunNotFound, RunStatus
from services.chat.looks import RECENT_S, Looks
from services.chat.turn import Turn

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence

    from services.chat.caller import Caller
    from services.chat.domain import Event, Part, Run, Stored
    from services.chat.log import Following, RunLog, Tap
    from services.chat.ports import Data, Signals, Tail

_FIRST_LOOK_S = 0.25
_LOOK_EVERY_S = 2.0
_CANCEL_FOR_S = 5.0
_CANCEL_FIRST_LOOK_S = 0.03
_CANCEL_LOOK_EVERY_S = 0.25
ACTIVE = (RunStatus.QUEUED, RunStatus.RUNNING)


class Follow:
    """The events of any run, and the way to its end.

    Args:
        data: What is stored.
        tail: What is live on other instances.
        signals: Word to the owners.
        live: What is live here, by id.
    """

    def __init__(self, data: Data, tail: Tail, signals: Signals, live: Mapping[str, Turn]) -> None:
        self._data = data
        self._tail = tail
        self._signals = signals
        self._live = live
        self._replicas: dict[str, list[RunLog]] = {}
        self._looks: Looks[Stored] = Looks()
        self._draining = False

    def own(self, run_id: str, caller: Caller) -> Turn | None:
        """Returns a run that is live here.

        Raises: RunNotFound: it is somebody else's.
        """
        turn = self._live.get(run_id)
        if turn is not None and not caller.is_same_as(turn.caller):
            raise RunNotFound
        return turn

    async def find(self, run_id: str, caller: Caller) -> Turn | Stored:
        """Returns a run that is live here, or what is stored of it.

        Raises: RunNotFound; Unavailable.
        """
        turn = self.own(run_id, caller)
        if turn is not None:
            return turn
        stored = await self._data.get_run(run_id, token=caller.token)
        # It may have begun here while we looked.
        return self.own(run_id, caller) or stored

    def arrived(self, run_id: str) -> None:
        """Lets those who follow a run elsewhere know that it has become live here."""
        for replica in self._replicas.get(run_id, ()):
            replica.announce()

    def drain(self) -> None:
        """Sends those away who follow runs of other instances; those who follow this one's stay until they end or move."""
        self._draining = True
        for run_id in self._replicas:
            self.arrived(run_id)

    def events(
        self,
        found: Turn | Stored,
        seq: int,
        caller: Caller,
        *,
        through_moves: bool = False,
        tap: Tap | None = None,
    ) -> AsyncGenerator[list[Event], None] | Following:
        """Replays a run after a position and follows it to its end.

        Args:
            found: What `find` has returned.
            seq: The position.
            caller: Who watches.
            through_moves: Goes on also where another instance takes the run over from this one.
            tap: Takes what it can of a run that is live here.

        Yields: at least one event, in order; what the tap has taken is not among them.
        Raises: CursorAhead; RunMoved; Draining; RunNotFound: it has been deleted; Unavailable.
        """
        if isinstance(found, Turn):
            if seq > found.log.last_seq:
                raise CursorAhead
            if not through_moves:
                return found.log.follow(seq, tap)
        return self._events(found, seq, caller, through_moves=through_moves, tap=tap)

    async def _events(
        self, found: Turn | Stored, seq: int, caller: Caller, *, through_moves: bool, tap: Tap | None
    ) -> AsyncGenerator[list[Event], None]:
        run_id = found.run.id
        gone: Turn | None = None
        while True:
            source = (
                found.log.follow(seq, tap) if isinstance(found, Turn) else self._elsewhere(found, seq, caller, gone)
            )
            try:
                async with contextlib.aclosing(source) as batches:
                    async for events in batches:
                        yield events
                        seq = events[-1].seq
            except RunMoved:
                if not isinstance(found, Turn) or not through_moves or self._draining:
                    raise
                seq = max(seq, tap.seq if tap is not None else 0)
                gone, found = found, await self._data.get_run(run_id, token=caller.token)
                continue
            turn = self._here(run_id, gone)
            if isinstance(found, Turn) or turn is None:
                return
            found = turn

    async def cancel(self, run_id: str, caller: Caller) -> Run:
        """Stops a run wherever it is; returns it once it has ended. The wish is stored first, so that it outlives whoever owns the run.

        Raises: RunNotFound; NotStopped: the owner has not ended it yet; Unavailable.
        """
        give_up_at = time.monotonic() + _CANCEL_FOR_S
        gone: Turn | None = None
        pause_s = _CANCEL_FIRST_LOOK_S
        while True:
            turn = self.own(run_id, caller)
            if turn is not None and turn is not gone:
                turn.stop(RunStatus.CANCELLED)
                await turn.over()
                if turn.run.status not in ACTIVE:
                    return turn.run
                gone = turn  # another instance has it by now
            run, owner = await self._data.cancel_run(run_id, token=caller.token)
            if run.status not in ACTIVE:
                return run
            if owner:
                # Otherwise whoever claims it will know; and so will its owner at the next checkpoint, should the word be lost.
                with contextlib.suppress(Unavailable):
                    await self._signals.ask_to_cancel(owner, run_id)
            look_again_at = time.monotonic() + _CANCEL_LOOK_EVERY_S
            while time.monotonic() < look_again_at and self._here(run_id, gone) is None:
                await asyncio.sleep(pause_s)
                pause_s = min(pause_s * 1.5, _CANCEL_LOOK_EVERY_S)
                stored = await self._data.get_run(run_id, token=caller.token)
                if stored.run.status not in ACTIVE:
                    return stored.run
                if time.monotonic() > give_up_at:
                    raise NotStopped

    def _here(self, run_id: str, gone: Turn | None) -> Turn | None:
        """Returns a run that is live here, other than one that this instance has lost."""
        turn = self._live.get(run_id)
        return None if turn is gone else turn

    async def _elsewhere(
        self, stored: Stored, seq: int, caller: Caller, gone: Turn | None
    ) -> AsyncGenerator[list[Event], None]:
        """Follows a run until it ends or comes here.

        The tail is followed as it grows. While it is silent, what is stored is looked at every two seconds: it is all there is when the
        tail is away, and it closes a log whose end the tail has missed.
        """
        run_id = stored.run.id
        if stored.run.status is not RunStatus.RUNNING and not (stored.last_seq and stored.run.status in ACTIVE):
            # One that has ended, or that nobody has begun: there is no log to wait for, or nothing in it yet.
            if events := snapshot.events_after(stored, seq, request_id=caller.request_id):
                yield events
                seq = events[-1].seq
            if stored.run.status not in ACTIVE:
                return
        async with self._replica(caller.identity.org_id, run_id) as replica:
            look_in_s, told_seen = _FIRST_LOOK_S, False
            told: dict[int, Sequence[Part]] = {}
            while stored.run.status in ACTIVE:
                if seq > max(stored.last_seq, replica.last_seq) + snapshot.AHEAD_MAX_EVENTS:
                    raise CursorAhead
                while events := await self._more(replica, seq, run_id, gone, look_in_s):
                    yield events
                    seq, look_in_s = events[-1].seq, _LOOK_EVERY_S
                if self._here(run_id, gone) is not None or (replica.ended and seq == replica.last_seq):
                    return
                if replica.last_seq < seq and not told_seen:
                    # Its owner has shown more than the tail holds; should another have to go on with it, it must know.
                    told_seen = True
                    await self._tail.note_seen(caller.identity.org_id, run_id, seq)
                look_in_s = _LOOK_EVERY_S
                stored = await self._look(stored, replica, caller)
                known = _told(replica, seq, told)
                if events := snapshot.events_after(stored, seq, request_id=caller.request_id, told=known):
                    yield events
                    seq = events[-1].seq
                    told = {seq: stored.parts}

    async def _look(self, stored: Stored, replica: RunLog, caller: Caller) -> Stored:
        """Returns what is stored now. While data is away a live tail goes on without it.

        Raises: RunNotFound; Unavailable.
        """
        who, run_id = caller.identity, stored.run.id
        try:
            return await self._looks.share(
                (who.org_id, who.user_id, run_id),
                lambda: self._data.get_run(run_id, token=caller.token),
                since=time.monotonic() - RECENT_S,
            )
        except Unavailable:
            if not replica.last_seq:
                raise
            return stored

    @contextlib.asynccontextmanager
    async def _replica(self, org_id: str, run_id: str) -> AsyncIterator[RunLog]:
        async with self._tail.replica(org_id, run_id) as replica:
            replicas = self._replicas.setdefault(run_id, [])
            replicas.append(replica)
            try:
                yield replica
            finally:
                replicas.remove(replica)
                if not replicas:
                    del self._replicas[run_id]

    async def _more(self, replica: RunLog, seq: int, run_id: str, gone: Turn | None, timeout_s: float) -> list[Event]:
        """Waits for events after a position; returns none after the timeout, or at once where there is nothing to wait for here.

        Raises: Draining.
        """
        try:
            async with asyncio.timeout(timeout_s):
                while not (events := replica.after(seq)):
                    ended = replica.ended and seq == replica.last_seq
                    if ended or self._here(run_id, gone) is not None:
                        break
                    if self._draining:
                        raise Draining
                    await replica.changed()
        except TimeoutError:
            return []
        return events


def _told(replica: RunLog, seq: int, told: Mapping[int, Sequence[Part]]) -> Sequence[Part] | None:
    """Returns what has been told of an answer up to a position, by its log or by what was stored; None: that is not known."""
    return replica.parts() if replica.last_seq == seq else told.get(seq)
