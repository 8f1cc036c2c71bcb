"""One call on the service's side of a connection: the context a servicer is given, and what becomes of its end."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, NoReturn

import grpc
import structlog

from runtime.mux.wire import MAX_MESSAGE_BYTES, WINDOW_BYTES, add_headers, metadata_of, pb

if TYPE_CHECKING:
    from collections.abc import Awaitable, Iterable, Sequence

    from runtime.interceptors import Chain
    from runtime.mux.outbox import Outbox

log = structlog.stdlib.get_logger()

_MAX_WINDOW_BYTES = 16 * 1024 * 1024


class ServedCall:
    """A call under way; it is also the context of its servicer, with what `grpc.aio.ServicerContext` offers to unary and streaming answers.

    Args:
        number: Number of the call on its connection.
        opened: How it began.
        handler: Handler of its method.
        chain: What happens around every call.
        outbox: Where its frames go.
        connection: Context of the connection.
        turns: What the call waits for before anything is made of it; None where its method has no bound.
    """

    __slots__ = (
        "_answered",
        "_chain",
        "_code",
        "_connection",
        "_credit",
        "_deadline",
        "_details",
        "_dropped",
        "_expired",
        "_handler",
        "_metadata",
        "_method",
        "_number",
        "_outbox",
        "_request",
        "_task",
        "_timeout_s",
        "_timer",
        "_trailing",
        "_turns",
        "_window_bytes",
    )

    def __init__(
        self,
        number: int,
        opened: pb.Open,
        handler: Any,
        *,
        chain: Chain,
        outbox: Outbox,
        connection: Any,
        turns: asyncio.Semaphore | None,
    ) -> None:
        self._number = number
        # What it needs of how it began, and not the message itself: that would keep all that has arrived together with it.
        self._method: str = opened.method
        self._request: bytes = opened.request
        self._timeout_s = opened.timeout.ToNanoseconds() / 1e9 if opened.HasField("timeout") else None
        self._handler = handler
        self._chain = chain
        self._outbox = outbox
        self._connection = connection
        self._turns = turns
        self._metadata: Sequence[tuple[str, str | bytes]] = metadata_of(opened.metadata)
        self._window_bytes = min(opened.window_bytes or WINDOW_BYTES, _MAX_WINDOW_BYTES)
        self._credit: asyncio.Future[None] | None = None
        self._trailing: list[tuple[str, str | bytes]] = []
        self._code = grpc.StatusCode.OK
        self._details = ""
        self._answered = False
        self._dropped = False
        self._expired = False
        self._task: asyncio.Task[None]
        self._deadline: float | None = None
        self._timer: asyncio.TimerHandle | None = None

    def start(self) -> asyncio.Task[None]:
        """Begins; the task ends with the call."""
        loop = asyncio.get_running_loop()
        self._task = loop.create_task(self._run())
        if self._timeout_s is not None:
            self._deadline = loop.time() + self._timeout_s
            self._timer = loop.call_later(self._timeout_s, self._expire)
        return self._task

    def drop(self) -> None:
        """Ends the call because its caller wants no more of it."""
        self._dropped = True
        self._task.cancel()

    def close(self) -> None:
        """Lets go of what outlives the task, and of the task: one that was cancelled holds where that was, and so this and all that was asked."""
        if self._timer is not None:
            self._timer.cancel()
        del self._task

    def grant(self, credit_bytes: int) -> None:
        """Lets the call send more."""
        self._window_bytes = min(self._window_bytes + credit_bytes, _MAX_WINDOW_BYTES)
        if self._window_bytes > 0 and self._credit is not None and not self._credit.done():
            self._credit.set_result(None)

    async def write(self, message: Any) -> None:
        """Sends a message of a streaming method; waits while the caller takes nothing, or the connection."""
        payload: bytes = self._handler.response_serializer(message)
        if len(payload) > MAX_MESSAGE_BYTES:
            await self._too_large()
        while self._window_bytes <= 0:
            self._credit = asyncio.get_running_loop().create_future()
            await self._credit
        self._send(payload)
        if self._outbox.full:
            await self._outbox.room()

    def offer(self, message: Any) -> bool:
        """Sends a message of a streaming method at once; says False, and sends nothing, where `write` would wait or refuse."""
        if self._window_bytes <= 0 or self._outbox.full:
            return False
        payload: bytes = self._handler.response_serializer(message)
        if len(payload) > MAX_MESSAGE_BYTES:
            return False
        self._send(payload)
        return True

    async def answer(self, message: Any) -> None:
        """Sends the message of a unary method."""
        if self._code is not grpc.StatusCode.OK:
            return
        if self._trailing:
            await self.write(message)
            return
        payload: bytes = self._handler.response_serializer(message)
        if len(payload) > MAX_MESSAGE_BYTES:
            await self._too_large()
        batch = pb.ConnectResponse()
        frame = batch.frames.add()
        frame.call = self._number
        frame.answer = payload
        self._answered = True
        self._outbox.send(batch.SerializeToString())
        if self._outbox.busy:
            # It leaves in this turn of the loop, and what the chain still has to do comes after that.
            await asyncio.sleep(0)

    async def abort_with_status(self, status: Any) -> NoReturn:
        """Ends the call with a status.

        Raises: grpc.aio.AbortError: always, to leave the servicer.
        """
        await self.abort(status.code, status.details, status.trailing_metadata or ())

    async def abort(
        self, code: grpc.StatusCode, details: str = "", trailing_metadata: Iterable[tuple[str, str | bytes]] = ()
    ) -> NoReturn:
        """Ends the call with an error.

        Raises: grpc.aio.AbortError: always, to leave the servicer.
        """
        self._code, self._details = code, details
        self._trailing += trailing_metadata
        raise grpc.aio.AbortError("The call was aborted.")

    def time_remaining(self) -> float | None:
        """Returns the seconds until the caller's deadline; None: there is none."""
        return None if self._deadline is None else max(self._deadline - asyncio.get_running_loop().time(), 0)

    def invocation_metadata(self) -> Sequence[tuple[str, str | bytes]]:
        """Returns what the caller sent beside the request; nothing once a stream has begun to be answered."""
        return self._metadata

    def peer(self) -> str:
        """Returns the address of the connection's other end."""
        return str(self._connection.peer())

    def set_trailing_metadata(self, metadata: Iterable[tuple[str, str | bytes]]) -> None:
        """Sends metadata with the end."""
        self._trailing[:] = metadata

    def set_code(self, code: grpc.StatusCode) -> None:
        """Ends the call with this status, once it ends."""
        self._code = code

    def set_details(self, details: str) -> None:
        """Explains the status."""
        self._details = details

    async def _run(self) -> None:
        try:
            if self._turns is None:
                await self._serve()
            else:
                async with self._turns:
                    await self._serve()
            if not self._answered:
                self._end(self._code, self._details)
        except grpc.aio.AbortError:
            self._end(self._code, self._details)
        except asyncio.CancelledError:
            if self._expired:
                self._end(grpc.StatusCode.DEADLINE_EXCEEDED, "Deadline Exceeded")
            elif not self._dropped:
                self._end(grpc.StatusCode.CANCELLED, "")
            raise
        except Exception:
            # The chain lets nothing through: this is a message that cannot be read or written.
            log.exception("unforeseen_error", **{"rpc.method": self._method[1:]})
            self._end(grpc.StatusCode.INTERNAL, "internal error")

    def _serve(self) -> Awaitable[Any]:
        # No coroutine: a stream would hold its frame, and in it the request, for as long as it lasts.
        handler = self._handler
        request = handler.request_deserializer(self._request)
        self._request = b""
        text = {name: value for name, value in self._metadata if isinstance(value, str)}
        return self._chain.around(self._method, handler, text)(request, self)

    async def _too_large(self) -> NoReturn:
        await self.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, "The message is larger than a message may be.")

    def _end(self, code: grpc.StatusCode, details: str) -> None:
        if self._answered:
            return
        batch = pb.ConnectResponse()
        frame = batch.frames.add()
        frame.call = self._number
        frame.end.code = code.value[0]
        frame.end.details = details
        add_headers(frame.end.trailing_metadata, self._trailing)
        self._outbox.send(batch.SerializeToString())

    def _send(self, payload: bytes) -> None:
        self._metadata = ()  # a credential is long, and so may be the answer
        self._window_bytes -= len(payload)
        batch = pb.ConnectResponse()
        frame = batch.frames.add()
        frame.call = self._number
        frame.message = payload
        self._outbox.send(batch.SerializeToString())

    def _expire(self) -> None:
        self._expired = True
        self._task.cancel()
