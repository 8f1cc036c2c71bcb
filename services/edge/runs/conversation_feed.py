"""Every run of a conversation, live, over as many calls as it takes; and which of its events a client can come back with."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

from runtime.errors import NotFound
from services.edge.runs.reattach import LOST, Attempts, after, is_end

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from services.edge.runs.reattach import Batch, Batches

_REMEMBERED = 200


@dataclass
class _Place:
    """How far a run has been followed.

    `heard` is false for the run a client came with until something tells whether it still goes on.
    """

    seq: int = 0
    ended: bool = False
    heard: bool = True


class ConversationFeed:
    """The events of a conversation's runs, those of each run once and in order.

    Runs may overlap: one is queued while another is answered. The cursor a client comes back with names one run only, and stands for
    "the rest of this run and all that began later". So it must be of the oldest run that still goes on; see `is_cursor`.

    Args:
        watch: Calls for the runs after a cursor; ("", 0): those active now and all later ones.
        watch_run: Calls for one run's events after a position.
        has_ended: Asks whether a run has ended. Raises: NotFound.
        patience_s: See `Attempts`.
        run_id: The run of the client's cursor; empty: it has none.
        after_seq: The position the cursor names.
    """

    def __init__(
        self,
        watch: Callable[[str, int], Batches],
        watch_run: Callable[[str, int], Batches],
        has_ended: Callable[[str], Awaitable[bool]],
        *,
        patience_s: float,
        run_id: str = "",
        after_seq: int = 0,
    ) -> None:
        self._watch = watch
        self._watch_run = watch_run
        self._has_ended = has_ended
        self._attempts = Attempts(patience_s, repeatable=True)
        # In the order in which they were first heard of.
        self._places: dict[str, _Place] = {}
        if run_id:
            self._places[run_id] = _Place(after_seq, heard=False)

    def commit(self) -> None:
        """Notes that the client has been told something: from now on a lost instance is no reason to give up."""
        self._attempts.committed = True

    def is_cursor(self, run_id: str) -> bool:
        """Says whether a client that has seen an event of this run, and nothing after it, can come back with it and miss nothing."""
        for known, place in self._places.items():
            if known == run_id:
                return True
            if not place.ended:
                return False
        return True

    async def batches(self) -> Batches:
        """Yields events of one run that happened together, at least one.

        Raises: whatever chat raised, unless going on elsewhere is the answer.
        """
        while True:
            self._attempts.calling()
            try:
                async with contextlib.aclosing(self._watch(*self._cursor())) as batches:
                    async for batch in batches:
                        self._attempts.settled()
                        if batch.run_id not in self._places:
                            async with contextlib.aclosing(self._unheard()) as rests:
                                async for rest in rests:
                                    yield rest
                        if (fresh := self._take(batch)) is not None:
                            yield fresh
                            self._note_end(fresh)
            except LOST as error:
                await self._attempts.pause(error)
            else:
                return

    async def _unheard(self) -> Batches:
        """Yields what is left of the run that the client came with, if it has ended: it may say nothing more, and others wait for its end."""
        for run_id, place in list(self._places.items()):
            if place.heard:
                continue
            try:
                ended = await self._has_ended(run_id)
            except NotFound:
                ended = True  # deleted since
            else:
                if ended:
                    async with contextlib.aclosing(self._watch_run(run_id, place.seq)) as batches:
                        async for batch in batches:
                            if (fresh := self._take(batch)) is not None:
                                yield fresh
            place.ended = ended
            place.heard = True

    def _take(self, batch: Batch) -> Batch | None:
        place = self._places.setdefault(batch.run_id, _Place())
        place.heard = True
        fresh = after(batch, place.seq)
        if fresh is not None:
            place.seq = fresh.events[-1].seq
        return fresh

    def _note_end(self, batch: Batch) -> None:
        if not is_end(batch.events[-1]):
            return
        self._places[batch.run_id].ended = True
        for run_id in list(self._places):
            if len(self._places) <= _REMEMBERED:
                break
            if self._places[run_id].ended:
                del self._places[run_id]

    def _cursor(self) -> tuple[str, int]:
        if not self._places:
            return "", 0
        going_on = [run_id for run_id, place in self._places.items() if not place.ended]
        run_id = going_on[0] if going_on else next(reversed(self._places))
        return run_id, self._places[run_id].seq
