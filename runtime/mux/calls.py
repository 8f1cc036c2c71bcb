"""What a stub's method is on a multiplexed channel: gRPC's own callables, as far as generated stubs and `runtime.channel` use them."""

from __future__ import annotations

import asyncio
import random
from typing import TYPE_CHECKING, Any

import grpc

from runtime.mux.exchange import Exchange, Refused, failure
from runtime.mux.wire import MAX_METADATA_BYTES, size_of

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Generator, Sequence

    from runtime.mux.link import Link
    from runtime.mux.spread import Spread

    Metadata = Sequence[tuple[str, str | bytes]]

_TRIES = 3
_FIRST_PAUSE_S = 0.05
_LONGEST_PAUSE_S = 0.5


class Method:
    """A method as a stub calls it; the call goes over a connection where there is one, and directly where not.

    Args:
        path: `/package.Service/Method`.
        spread: The connections.
        plain: The same method, called directly.
        serialize: Request to bytes.
        deserialize: Bytes to response.
        streaming: The response is a stream.
        repeatable: May be tried again where the service is not available.
    """

    def __init__(
        self,
        path: str,
        spread: Spread,
        plain: Any,
        serialize: Callable[[Any], bytes],
        deserialize: Callable[[bytes], Any],
        *,
        streaming: bool,
        repeatable: bool,
    ) -> None:
        self._method = path  # where grpc.aio's own callables keep it
        self.spread = spread
        self.plain = plain
        self.serialize = serialize
        self.deserialize = deserialize
        self.repeatable = repeatable
        self._call = StreamCall if streaming else UnaryCall

    def __call__(
        self, request: Any, *, timeout: float | None = None, metadata: Metadata | None = None, **other: Any
    ) -> Any:
        """Calls the method."""
        link = self.spread.pick()
        if link is not None and not other:
            payload = self.serialize(request)
            sent = metadata or ()
            if len(payload) <= link.max_request_bytes and size_of(sent) <= MAX_METADATA_BYTES:
                return self._call(self, link, request=request, payload=payload, metadata=sent, timeout_s=timeout)
        return self.plain(request, timeout=timeout, metadata=metadata, **other)

    @property
    def path(self) -> str:
        """`/package.Service/Method`."""
        return self._method


class _Call:
    def __init__(
        self, method: Method, link: Link, *, request: Any, payload: bytes, metadata: Metadata, timeout_s: float | None
    ) -> None:
        self._method = method
        self._request = request
        self._payload = payload
        self._metadata = metadata
        self._deadline = None if timeout_s is None else asyncio.get_running_loop().time() + timeout_s
        self._exchange: Exchange = link.call(method.path, payload, metadata, timeout_s)
        self._plain: Any = None

    def cancel(self) -> bool:
        """Ends the call; tells whether it was still under way."""
        return bool(self._plain.cancel()) if self._plain is not None else self._exchange.cancel()

    def done(self) -> bool:
        """Tells whether the call has ended."""
        return bool(self._plain.done()) if self._plain is not None else self._exchange.ended

    def __del__(self) -> None:
        # A call that is merely dropped would stay in the connection's table.
        exchange = getattr(self, "_exchange", None)
        if exchange is not None:
            exchange.drop()

    def _again(self) -> None:
        """Makes the call once more, over another connection where there is one.

        Raises: grpc.aio.AioRpcError: no time is left.
        """
        left_s = None if self._deadline is None else self._deadline - asyncio.get_running_loop().time()
        if left_s is not None and left_s <= 0:
            raise failure(grpc.StatusCode.DEADLINE_EXCEEDED, "Deadline Exceeded")
        link = self._method.spread.pick()
        if link is not None:
            self._exchange = link.call(self._method.path, self._payload, self._metadata, left_s)
        else:
            self._plain = self._method.plain(self._request, timeout=left_s, metadata=self._metadata)

    def _read(self, payload: bytes) -> Any:
        try:
            return self._method.deserialize(payload)
        except Exception:  # noqa: BLE001 - whatever a parser says of bytes that are no message
            self._exchange.cancel()
            raise failure(grpc.StatusCode.INTERNAL, "The response could not be read.") from None


class UnaryCall(_Call):
    """A unary call: await it, once, for the response."""

    def __await__(self) -> Generator[Any, None, Any]:
        return self._response().__await__()

    async def _response(self) -> Any:
        tries = 1
        try:
            while self._plain is None:
                try:
                    payload = await self._exchange.next()
                except Refused:
                    self._again()
                except grpc.aio.AioRpcError as error:
                    again = self._method.repeatable and error.code() is grpc.StatusCode.UNAVAILABLE
                    if not again or tries == _TRIES:
                        raise
                    pause_s = min(_FIRST_PAUSE_S * 2 ** (tries - 1), _LONGEST_PAUSE_S)
                    await asyncio.sleep(pause_s * random.uniform(0.8, 1.2))  # noqa: S311 - no secret
                    tries += 1
                    self._again()
                else:
                    if payload is None:
                        raise failure(grpc.StatusCode.INTERNAL, "The service ended the call without a response.")
                    return self._read(payload)
            return await self._plain
        except asyncio.CancelledError:
            self.cancel()
            raise


class StreamCall(_Call):
    """A server-streaming call: iterate over it, once, for the responses."""

    _responses: AsyncIterator[Any] | None = None
    _tap: Callable[[Any], bool] | None = None

    def pour(self, tap: Callable[[Any], bool]) -> None:
        """From now on offers responses to `tap` as they arrive, past everything that waits for the next one; those it refuses are returned.

        Close the call in the end: one with a tap does not end by being dropped. On a call that is not shared the tap stays dry.
        """
        self._tap = tap
        self._exchange.pour(self._offer)

    def _offer(self, payload: bytes) -> bool:
        try:
            response = self._method.deserialize(payload)
        except Exception:  # noqa: BLE001 - told by whoever reads it next
            return False
        if self._request is not None:
            self._begin()
        return self._tap is not None and self._tap(response)

    def _begin(self) -> None:
        # It has begun, so it is not made again: what it was made with may be large, and the answer take long.
        self._request, self._payload, self._metadata = None, b"", ()

    def _again(self) -> None:
        super()._again()
        if self._tap is not None and self._plain is None:
            self._exchange.pour(self._offer)

    def __aiter__(self) -> StreamCall:
        return self

    async def __anext__(self) -> Any:
        """Returns the next response.

        Raises: StopAsyncIteration; grpc.aio.AioRpcError.
        """
        while self._plain is None:
            try:
                payload = await self._exchange.next()
            except Refused:
                self._again()
            except asyncio.CancelledError:
                self.cancel()
                raise
            else:
                if payload is None:
                    raise StopAsyncIteration
                if self._request is not None:
                    self._begin()
                return self._read(payload)
        if self._responses is None:
            self._responses = aiter(self._plain)
        return await anext(self._responses)
