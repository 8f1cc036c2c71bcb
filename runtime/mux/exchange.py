"""One call on the caller's side of a connection: what has arrived of it, and how it ended."""

from __future__ import annotations

import asyncio
from functools import partial
from typing import TYPE_CHECKING

import grpc

from runtime.mux.wire import WINDOW_BYTES, metadata_of, pb

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from runtime.mux.outbox import Outbox

_CODES = {code.value[0]: code for code in grpc.StatusCode}


def failure(
    code: grpc.StatusCode, details: str, trailing: Iterable[tuple[str, str | bytes]] = ()
) -> grpc.aio.AioRpcError:
    """Returns the error a call ends with."""
    return grpc.aio.AioRpcError(code, grpc.aio.Metadata(), grpc.aio.Metadata(*trailing), details, None)


class Refused(Exception):
    """The service never began the call: it may be made elsewhere, whatever it does."""


class Exchange:
    """A call under way.

    Args:
        number: Its number on the connection.
        outbox: Where its frames go.
        forget: Takes it out of the connection's table.
    """

    __slots__ = (
        "_arrived",
        "_ended",
        "_error",
        "_forget",
        "_number",
        "_outbox",
        "_taken_bytes",
        "_tap",
        "_timer",
        "_waiter",
    )

    def __init__(self, number: int, outbox: Outbox, forget: Callable[[int], object]) -> None:
        self._number = number
        self._outbox = outbox
        self._forget = forget
        # Most often of one; a deque takes ten times the memory, for each call under way.
        self._arrived: list[bytes] = []
        self._waiter: asyncio.Future[None] | None = None
        self._tap: Callable[[bytes], bool] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._ended = False
        # Makes what is raised, each time anew: an error holds where it was raised, and so would hold this, which would hold it.
        self._error: Callable[[], BaseException] | None = None
        self._taken_bytes = 0

    @property
    def ended(self) -> bool:
        """Whether nothing more will arrive."""
        return self._ended

    async def next(self) -> bytes | None:
        """Returns the next message; None when the call has ended well.

        Raises: grpc.aio.AioRpcError: it has ended otherwise; Refused; asyncio.CancelledError: it was cancelled.
        """
        while not self._arrived:
            if self._ended:
                if self._error is not None:
                    raise self._error()
                return None
            self._waiter = asyncio.get_running_loop().create_future()
            await self._waiter
        payload = self._arrived.pop(0)
        self._taken(len(payload))
        return payload

    def pour(self, tap: Callable[[bytes], bool]) -> None:
        """From now on offers each message to `tap` when it arrives, while somebody waits in `next` and so has dealt with all before it.

        That spares waking them up. What the tap refuses is returned by `next`; what it raises ends the call.
        """
        if not self._ended:
            self._tap = tap

    def expire_after(self, timeout_s: float) -> None:
        """Ends the call after so many seconds."""
        self._timer = asyncio.get_running_loop().call_later(timeout_s, self._expire)

    def cancel(self) -> bool:
        """Ends the call from this side and drops what has not been taken; tells whether it was still under way."""
        if self._ended:
            return False
        self._arrived.clear()
        self._say_cancel()
        self._end(asyncio.CancelledError)
        return True

    def drop(self) -> None:
        """Ends a call that nobody holds any more; from any thread, since the garbage collector runs in whichever allocates."""
        loop = self._outbox.loop
        if not self._ended and not loop.is_closed():
            loop.call_soon_threadsafe(self.cancel)

    def message(self, payload: bytes) -> None:
        """Takes a message from the connection."""
        if self._tap is not None and self._waiter is not None and not self._waiter.done():
            try:
                taken = self._tap(payload)
            except Exception as error:  # noqa: BLE001 - raised where the next message is waited for
                self._say_cancel()
                self._end(partial(_same, error))
                return
            if taken:
                self._taken(len(payload))
                return
        self._arrived.append(payload)
        self._wake()

    def answer(self, payload: bytes) -> None:
        """Takes the message that is also the end."""
        self._arrived.append(payload)
        self._end(None)

    def end(self, end: pb.End) -> None:
        """Takes the end from the connection."""
        if end.refused:
            self._end(Refused)
        elif end.code == 0:
            self._end(None)
        else:
            code = _CODES.get(end.code, grpc.StatusCode.UNKNOWN)
            self._end(partial(failure, code, end.details, metadata_of(end.trailing_metadata)))

    def fail(self, code: grpc.StatusCode, details: str) -> None:
        """Ends the call because of what happened on this side."""
        self._end(partial(failure, code, details))

    def _expire(self) -> None:
        if not self._ended:
            self._say_cancel()
            self.fail(grpc.StatusCode.DEADLINE_EXCEEDED, "Deadline Exceeded")

    def _say_cancel(self) -> None:
        batch = pb.ConnectRequest()
        frame = batch.frames.add()
        frame.call = self._number
        frame.cancel.SetInParent()
        self._outbox.send(batch.SerializeToString())

    def _end(self, error: Callable[[], BaseException] | None) -> None:
        if self._ended:
            return
        self._ended, self._error = True, error
        self._tap = None
        self._forget(self._number)
        if self._timer is not None:
            self._timer.cancel()
        self._wake()

    def _taken(self, size_bytes: int) -> None:
        """Lets the service send as much again, once it is worth a frame."""
        self._taken_bytes += size_bytes
        if self._taken_bytes >= WINDOW_BYTES // 2 and not self._ended:
            batch = pb.ConnectRequest()
            frame = batch.frames.add()
            frame.call, frame.credit_bytes = self._number, self._taken_bytes
            self._taken_bytes = 0
            self._outbox.send(batch.SerializeToString())

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)


def _same(error: BaseException) -> BaseException:
    return error
