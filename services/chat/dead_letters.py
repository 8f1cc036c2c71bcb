"""Background runs that were given up: looked at, tried again, dropped."""

from __future__ import annotations

from typing import TYPE_CHECKING

from runtime import permissions, validation

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from services.chat.caller import Caller
    from services.chat.domain import Run
    from services.chat.ports import Data, DeadLetter, Signals, Tail

_PERMISSION = "run:admin"


class DeadLetters:
    """The dead letters of the caller's organization.

    Args:
        data: Keeps them.
        tail: Where their logs are.
        signals: Word to other instances.
        queued: Called when there is something new in the queue.
    """

    def __init__(self, *, data: Data, tail: Tail, signals: Signals, queued: Callable[[], None]) -> None:
        self._data = data
        self._tail = tail
        self._signals = signals
        self._queued = queued

    async def list(self, page_size: int, page_token: str, caller: Caller) -> tuple[Sequence[DeadLetter], str]:
        """Returns one page, the newest first, and the token of the next one.

        Raises: Forbidden; InvalidArgument; Unavailable.
        """
        permissions.require(_PERMISSION)
        validation.page_size(page_size, default=0)
        return await self._data.list_dead_letters(page_size=page_size, page_token=page_token, token=caller.token)

    async def retry(self, run_id: str, caller: Caller) -> Run:
        """Puts one back into the queue.

        Raises: Forbidden; InvalidArgument; NotFound; Unavailable.
        """
        permissions.require(_PERMISSION)
        run_id = validation.identifier("run_id", run_id)
        run = await self._data.retry_dead_letter(run_id, token=caller.token)
        # Its log tells that it has failed; what is stored goes on.
        await self._tail.forget(caller.identity.org_id, run_id)
        self._queued()
        await self._signals.tell_queued()
        await self._signals.tell_begun(caller.identity.org_id, run.conversation_id, run_id)
        return run

    async def drop(self, run_id: str, caller: Caller) -> None:
        """Takes one off the list; the run stays as it is.

        Raises: Forbidden; InvalidArgument; NotFound; Unavailable.
        """
        permissions.require(_PERMISSION)
        await self._data.drop_dead_letter(validation.identifier("run_id", run_id), token=caller.token)
