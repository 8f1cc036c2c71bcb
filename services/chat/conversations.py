"""All runs of a conversation as one stream, whoever started them and wherever they live."""

from __future__ import annotations

import asyncio
import contextlib
import time
from typing import TYPE_CHECKING

from runtime import validation
from runtime.errors import NotFound, ParleyError, Unavailable
from services.chat.domain import CursorAhead, Draining, RunNotFound
from services.chat.follow import ACTIVE

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable

    from services.chat.caller import Caller
    from services.chat.domain import Event
    from services.chat.follow import Follow
    from services.chat.ports import Announcements, Data, Signals
    from services.chat.runs import Runs

_LOOK_EVERY_S = 2.0
_LOOK_RARELY_S = 5.0
"""While words arrive; one may still be lost."""
_SLICE_S = 0.5
_PAUSE_S = 1.0
_SEQ_MAX = 2**63 - 1


class WatchExpired(Unavailable):
    """The access token that a stream was opened with has ended."""

    reason = "WATCH_EXPIRED"

    def __init__(self) -> None:
        super().__init__(
            "The session behind this stream has ended; renew it and go on from where you are.", retry_after_s=0.1
        )


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

    async def watch(
        self, conversation_id: str, after_run_id: str, after_seq: int, caller: Caller
    ) -> AsyncGenerator[tuple[str, list[Event]], None]:
        """Streams the rest of the cursor's run and all later runs; without a cursor the active runs and all later ones.

        Who may watch is asked at each join. One run comes after the other, in the order in which they began, so that one position says
        all that a watcher has seen. Nothing is kept for a watcher: one that is slow takes more at once from the run's own log.

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
                last, pending = await self._join(conversation_id, after_run_id, caller)
                while True:
                    for run_id in pending:
                        async with contextlib.aclosing(self._events(run_id, after_seq, caller)) as batches:
                            async for events in batches:
                                yield run_id, events
                        last, after_seq = run_id, 0
                    pending = await self._later(conversation_id, last, announcements, caller)

    async def _join(self, conversation_id: str, after_run_id: str, caller: Caller) -> tuple[str, list[str]]:
        """Returns the newest run that is not to be told, and those that are."""
        if after_run_id:
            stored = await self._data.get_run(after_run_id, token=caller.token)
            if stored.run.conversation_id != conversation_id:
                raise RunNotFound
            return "", [after_run_id]
        runs = await self._data.list_runs(conversation_id, token=caller.token)
        return (runs[-1].id if runs else ""), [run.id for run in runs if run.status in ACTIVE]

    async def _later(self, conversation_id: str, last: str, announcements: Announcements, caller: Caller) -> list[str]:
        """Returns the runs after one as soon as there are any.

        Raises: NotFound: the conversation has been deleted; Draining; WatchExpired.
        """
        while True:
            self._check(caller)
            try:
                runs = await self._data.list_runs(conversation_id, after_run_id=last, token=caller.token)
            except NotFound:
                raise
            except ParleyError:
                runs = []  # whoever has joined stays while data is away
            if runs:
                return [run.id for run in runs]
            look_at = time.monotonic() + (_LOOK_RARELY_S if announcements.reliable else _LOOK_EVERY_S)
            while (remaining_s := look_at - time.monotonic()) > 0:
                self._check(caller)
                if await announcements.next(min(remaining_s, _SLICE_S)) is not None:
                    break

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
        self, events: AsyncGenerator[list[Event], None], caller: Caller
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
