"""A channel whose calls share one long-lived stream for each instance of the service; generated stubs take it like any other."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Self

import grpc

from runtime.mux.calls import Method

if TYPE_CHECKING:
    from runtime.mux.spread import Spread


class MuxChannel(grpc.aio.Channel):
    """Sends the calls of some services over shared connections, and everything else (health, reflection, streams of requests) directly.

    Args:
        plain: The channel for direct calls, which is also what calls fall back to while no connection can be had.
        spread: The connections; they begin to connect with the channel's `async with`, or when `get_state` is asked to.
        services: Full names of the services whose calls share connections.
        repeatable: Paths of the methods that may be tried again while the service is not available.
    """

    def __init__(
        self, plain: grpc.aio.Channel, spread: Spread, services: frozenset[str], repeatable: frozenset[str]
    ) -> None:
        self._plain = plain
        self._spread = spread
        self._services = services
        self._repeatable = repeatable

    async def __aenter__(self) -> Self:
        self._spread.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self, grace: float | None = None) -> None:
        """Closes every connection; calls under way end as cancelled."""
        await self._spread.close()
        await self._plain.close(grace)

    def get_state(self, try_to_connect: bool = False) -> grpc.ChannelConnectivity:
        """Returns the state of the plain channel."""
        if try_to_connect:
            self._spread.start()
        return self._plain.get_state(try_to_connect)

    async def wait_for_state_change(self, last_observed_state: grpc.ChannelConnectivity) -> None:
        """Waits for a change of the plain channel's state."""
        await self._plain.wait_for_state_change(last_observed_state)

    async def channel_ready(self) -> None:
        """Returns once the plain channel is connected."""
        await self._plain.channel_ready()

    async def mux_ready(self) -> None:
        """Returns once every instance is connected."""
        self._spread.start()
        await self._spread.wait_ready()

    @property
    def mux_calls(self) -> int:
        """How many calls are under way on shared connections."""
        return self._spread.calls

    @property
    def connections(self) -> int:
        """How many connections take calls."""
        return self._spread.ready

    def unary_unary(self, method: str, *args: Any, **kwargs: Any) -> Any:
        """Returns a unary method."""
        return self._method(method, self._plain.unary_unary(method, *args, **kwargs), args, kwargs, streaming=False)

    def unary_stream(self, method: str, *args: Any, **kwargs: Any) -> Any:
        """Returns a server-streaming method."""
        return self._method(method, self._plain.unary_stream(method, *args, **kwargs), args, kwargs, streaming=True)

    def stream_unary(self, *args: Any, **kwargs: Any) -> Any:
        """Returns a client-streaming method, which is called directly."""
        return self._plain.stream_unary(*args, **kwargs)

    def stream_stream(self, *args: Any, **kwargs: Any) -> Any:
        """Returns a bidirectional method, which is called directly."""
        return self._plain.stream_stream(*args, **kwargs)

    def _method(self, path: str, plain: Any, args: tuple[Any, ...], kwargs: dict[str, Any], *, streaming: bool) -> Any:
        if path[1:].partition("/")[0] not in self._services:
            return plain
        serialize = kwargs.get("request_serializer", args[0] if args else None) or bytes
        deserialize = kwargs.get("response_deserializer", args[1] if len(args) > 1 else None) or bytes
        return Method(
            path,
            self._spread,
            plain,
            serialize,
            deserialize,
            streaming=streaming,
            repeatable=path in self._repeatable,
        )
