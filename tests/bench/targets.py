"""How each target is asked and how its answer is read: the bare provider, the gateway over gRPC, the edge over HTTP."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol, Self

import msgspec

from parley.gateway.v1 import gateway_pb2
from tests.bench import wire
from tests.bench.grpc_client import GrpcClient, GrpcConnection
from tests.bench.http_client import Exchange, HttpClient, request
from tests.bench.shared_client import SharedClient, SharedConnection
from tests.bench.wire import Arrival, BadStream, Piece

_PROMPT = "Tell me, in a few sentences, what a token costs on its way from the model to the page, and why."
_UPSTREAM = "openai/"
"""What a call to Parley puts before a model's name: the provider that stands in for OpenAI."""


@dataclass(frozen=True, slots=True)
class Seat:
    """Who asks, and in which conversation.

    Attributes:
        bearer: Access token; empty at the provider.
        conversation: UUID; empty where there are no conversations.
        headers: Lines that each request bears besides, where it is asked in OpenAI's words.
    """

    bearer: str = ""
    conversation: str = ""
    headers: Sequence[str] = ()


class Client(Protocol):
    """One connection, or one caller on a shared one."""

    def close(self) -> None:
        """Goes away without a word, as a closed tab does."""
        ...


@dataclass(frozen=True, slots=True)
class Target:
    """What is measured.

    Attributes:
        connect: Opens a client.
        ask: Lets a client ask for a model's answer from a seat.
        read: Turns what was received into arrivals of text; raises wire.BadStream.
        close: Ends what the clients shared.
        stoppable: A turn is stopped by a request of its own, and not by going away.
    """

    connect: Callable[[], Any]
    ask: Callable[[Any, str, Seat], Exchange]
    read: Callable[[list[Piece]], list[Arrival]]
    close: Callable[[], Any]
    stoppable: bool = False

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()


def target(kind: str, address: str) -> Target:
    """Returns the target of a kind (`provider`, `peer`, `gateway`, `shared` or `edge`) at `host:port`."""
    kinds = {"provider": _provider, "peer": _peer, "gateway": _gateway, "shared": _shared, "edge": _edge}
    return kinds[kind](address)


def stop_request(run_id: str, seat: Seat) -> bytes:
    """Spells the request that stops a run at the edge."""
    return request("POST", f"/v1/runs/{run_id}/cancel", bearer=seat.bearer)


async def _nothing() -> None:
    """Closes nothing."""


def _provider(address: str) -> Target:
    host, _, port = address.rpartition(":")

    def ask(client: HttpClient, model: str, seat: Seat) -> Exchange:
        order = {
            "model": model,
            "stream": True,
            "stream_options": {"include_usage": True},
            "messages": [{"role": "user", "content": _PROMPT}],
        }
        body = json.dumps(order).encode()
        bearer = seat.bearer or "bench"
        return client.ask(request("POST", "/v1/chat/completions", body, bearer=bearer, headers=seat.headers))

    return Target(lambda: HttpClient.connect(host, int(port)), ask, wire.provider_arrivals, _nothing)


def _peer(address: str) -> Target:
    """Speaks as to the provider, and expects less: a gateway of others that is gone or answers oddly is a failure, not the end."""
    provider = _provider(address)

    async def connect() -> HttpClient:
        try:
            client: HttpClient = await provider.connect()
        except OSError:
            return HttpClient()
        return client

    def read(pieces: list[Piece]) -> list[Arrival]:
        try:
            return provider.read(pieces)
        except (ValueError, msgspec.DecodeError):
            raise BadStream("not a stream of OpenAI's chunks") from None

    return replace(provider, connect=connect, read=read)


def _edge(address: str) -> Target:
    host, _, port = address.rpartition(":")

    def ask(client: HttpClient, model: str, seat: Seat) -> Exchange:
        body = json.dumps(
            {"message": _PROMPT, "conversation_id": seat.conversation, "model": _UPSTREAM + model}
        ).encode()
        return client.ask(request("POST", "/v1/chat", body, bearer=seat.bearer, headers=("accept: text/event-stream",)))

    return Target(lambda: HttpClient.connect(host, int(port)), ask, wire.edge_arrivals, _nothing, stoppable=True)


def _gateway(address: str) -> Target:
    host, _, port = address.rpartition(":")
    shared: list[GrpcConnection] = []

    async def close() -> None:
        for connection in shared:
            connection.close()

    async def connect() -> GrpcClient:
        if not shared:
            shared.append(await GrpcConnection.connect(host, int(port)))
        return GrpcClient(shared[0])

    return Target(connect, _ask_gateway, wire.gateway_arrivals, close)


def _shared(address: str) -> Target:
    host, _, port = address.rpartition(":")
    shared: list[SharedConnection] = []

    async def close() -> None:
        for connection in shared:
            await connection.close()

    async def connect() -> SharedClient:
        if not shared:
            shared.append(await SharedConnection.connect(host, int(port)))
        return SharedClient(shared[0])

    return Target(connect, _ask_gateway, wire.gateway_arrivals, close)


def _ask_gateway(client: GrpcClient | SharedClient, model: str, seat: Seat) -> Exchange:
    message = gateway_pb2.PromptMessage(role=gateway_pb2.ROLE_USER, text=_PROMPT)
    call = gateway_pb2.ChatRequest(model=_UPSTREAM + model, messages=[message])
    return client.ask(call.SerializeToString(), seat.bearer)
