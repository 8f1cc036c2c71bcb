"""Client side of a call: channels with keepalive and a retry policy, and calls that carry trace, request id and credential."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, TypeVar

import grpc
from opentelemetry.trace import SpanKind

from runtime import telemetry
from runtime.context import credential, request_id
from runtime.mux.calls import StreamCall
from runtime.mux.channel import MuxChannel
from runtime.mux.spread import Spread
from runtime.status import from_rpc_error

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Sequence

    from google.protobuf.descriptor import FileDescriptor

Request = TypeVar("Request")
Response = TypeVar("Response")

KEEPALIVE_MS = 20_000
"""How often an idle connection is asked whether it still lives."""
SHARED_KEEPALIVE_MS = 5_000
"""The same for a shared connection, on which many streams wait: they go on elsewhere once it is known to be dead."""
PATIENCE_MS = 10_000
SHARED_PATIENCE_MS = 4_000
"""How long an answer to that is waited for."""
_OPTIONS: list[tuple[str, str | int]] = [
    ("grpc.http2.max_pings_without_data", 0),  # no bound: an idle connection is asked for as long as it is idle
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.max_receive_message_length", 16 * 1024 * 1024),
    ("grpc.initial_reconnect_backoff_ms", 200),
    ("grpc.max_reconnect_backoff_ms", 2_000),
]


def open_channel(
    address: str, contract: FileDescriptor, *, idempotent: Sequence[str] = (), mux: bool = False
) -> grpc.aio.Channel:
    """Opens a channel to a service; connecting happens at the first call.

    Calls that read (`Get…`, `List…`) and those named in `idempotent` are tried up to three times while the service is UNAVAILABLE.

    Args:
        address: `host:port`; `dns:///name:port` or `ipv4:a:1,b:2` to spread calls over all instances.
        contract: Descriptor of the proto file, which tells the methods.
        idempotent: Further methods, by bare name, that may be repeated without harm.
        mux: Calls of the contract's methods share one long-lived stream for each instance, where the instance knows that.

    Source: AIP-194.
    """
    names = [
        {"service": service.full_name, "method": method.name}
        for service in contract.services_by_name.values()
        for method in service.methods
        if method.name.startswith(("Get", "List")) or method.name in idempotent
    ]
    config: dict[str, Any] = {"loadBalancingConfig": [{"round_robin": {}}]}
    if names:
        retry = {
            "maxAttempts": 3,
            "initialBackoff": "0.05s",
            "maxBackoff": "0.5s",
            "backoffMultiplier": 2,
            "retryableStatusCodes": ["UNAVAILABLE"],
        }
        config["methodConfig"] = [{"name": names, "retryPolicy": retry}]
    plain = _open(address, ("grpc.service_config", json.dumps(config)))
    if not mux:
        return plain
    return MuxChannel(
        plain,
        Spread(address, open_shared),
        frozenset(service.full_name for service in contract.services_by_name.values()),
        frozenset(f"/{name['service']}/{name['method']}" for name in names),
    )


def open_shared(address: str) -> grpc.aio.Channel:
    """Opens a plain channel to one instance for a shared connection: it is soon known to be dead."""
    return grpc.aio.insecure_channel(address, options=_keepalive(SHARED_KEEPALIVE_MS, SHARED_PATIENCE_MS))


def _open(address: str, *options: tuple[str, str | int]) -> grpc.aio.Channel:
    return grpc.aio.insecure_channel(address, options=[*_keepalive(KEEPALIVE_MS, PATIENCE_MS), *options])


def _keepalive(every_ms: int, patience_ms: int) -> list[tuple[str, str | int]]:
    # gRPC waits for the answer to a ping as long as the last of these says, a minute where it says nothing; the one before does not matter to it.
    return [
        *_OPTIONS,
        ("grpc.keepalive_time_ms", every_ms),
        ("grpc.keepalive_timeout_ms", patience_ms),
        ("grpc.http2.ping_timeout_ms", patience_ms),
    ]


async def unary(method: Any, request: Request, *, timeout_s: float, token: str | None = None) -> Any:
    """Calls a unary method with the trace, request id and credential of the work at hand.

    Args:
        method: A method of an async stub.
        request: Its request.
        timeout_s: Longest wait.
        token: Access token to call with; None: the caller's own.

    Returns: the response message of the method.
    Raises: the vocabulary error that the server raised, or Unavailable / DeadlineExceeded from the transport.
    """
    name, attributes = telemetry.rpc(_path(method))
    with telemetry.span(name, kind=SpanKind.CLIENT, attributes=attributes):
        try:
            return await method(request, timeout=timeout_s, metadata=_metadata(token))
        except grpc.aio.AioRpcError as error:
            raise from_rpc_error(error) from None


async def stream(
    method: Any,
    request: Request,
    *,
    timeout_s: float | None = None,
    token: str | None = None,
    tap: Callable[[Any], bool] | None = None,
) -> AsyncGenerator[Any, None]:
    """Calls a server-streaming method; otherwise as `unary`.

    The call is cancelled when the iterator is left, so close it (`contextlib.aclosing`) rather than drop it.

    Args:
        method: A method of an async stub.
        request: Its request.
        timeout_s: Longest length of the call; None: as long as it takes.
        token: Access token to call with; None: the caller's own.
        tap: Offered the messages that arrive while the next one is waited for, which spares waking up who waits; those for which it says
            False, and whatever comes over a connection of its own, are yielded.

    Yields: the response messages of the method, in order.
    Raises: as `unary`, also after some messages.
    """
    name, attributes = telemetry.rpc(_path(method))
    with telemetry.span(name, kind=SpanKind.CLIENT, attributes=attributes):
        call = method(request, timeout=timeout_s, metadata=_metadata(token))
        del request  # it may be large, and the call take long
        if tap is not None and isinstance(call, StreamCall):
            call.pour(tap)
        try:
            async for response in call:
                yield response
                del response  # the next one may be long in coming
        except grpc.aio.AioRpcError as error:
            raise from_rpc_error(error) from None
        finally:
            # grpc.aio does not cancel a call that is merely dropped.
            call.cancel()


def _path(method: Any) -> str:
    path: str | bytes = method._method  # noqa: SLF001 - the stub keeps the method's path nowhere else
    return path.decode() if isinstance(path, bytes) else path


def _metadata(token: str | None) -> list[tuple[str, str]]:
    metadata = list(telemetry.outgoing_headers().items())
    if rid := request_id.get():
        metadata.append(("x-request-id", rid))
    if bearer := credential.get() if token is None else token:
        metadata.append(("authorization", f"Bearer {bearer}"))
    return metadata
