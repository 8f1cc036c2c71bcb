"""A service whose calls do what the request's `run_id` says, and which remembers what it saw."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
from opentelemetry import trace

from parley.chat.v1 import chat_pb2 as pb
from parley.chat.v1 import chat_pb2_grpc
from runtime import context, errors
from runtime.channel import open_channel
from runtime.mux.channel import MuxChannel
from runtime.mux.dispatcher import Dispatcher
from runtime.server import Server, Servicer
from runtime.testing import Issuer

ISSUER = Issuer()
AT_ONCE = 3
"""Calls of GetRun that are worked on at the same time."""


class Callee(chat_pb2_grpc.ChatServiceServicer):
    """Attributes tell what the calls saw."""

    def __init__(self, name: str = "") -> None:
        self.name = name
        self.calls = 0
        self.metadata: dict[str, Any] = {}
        self.trace_id = 0
        self.request_id = ""
        self.remaining_s: float | None = None
        self.written = 0
        self.begun = asyncio.Event()
        self.go_on = asyncio.Event()
        self.cancelled = asyncio.Event()

    async def GetRun(self, request: pb.GetRunRequest, call: Any) -> pb.GetRunResponse:
        self._see(call)
        match request.run_id.partition(":")[0]:
            case "fail":
                raise errors.NotFound.of("GONE", "It is gone: Zürich.", thing="x")
            case "crash":
                raise RuntimeError("the password is hunter2")
            case "away" if self.calls < 3:
                raise errors.Unavailable("Not now.")
            case "wait":
                await self._wait()
            case "big":
                return pb.GetRunResponse(run=pb.Run(id="b" * int(request.run_id[4:])))
            case "trailing":
                call.set_trailing_metadata((("x-left", "a"), ("x-bytes-bin", b"\x00\xff")))
        return pb.GetRunResponse(run=pb.Run(id=request.run_id or context.current_identity().user_id, model=self.name))

    async def CancelRun(self, request: pb.CancelRunRequest, call: Any) -> pb.CancelRunResponse:
        """Not repeatable, for it is not called Get or List."""
        self._see(call)
        raise errors.Unavailable("Not now.")

    async def WatchRun(self, request: pb.WatchRunRequest, call: Any) -> AsyncIterator[pb.WatchRunResponse]:
        self._see(call)
        kind, _, size = request.run_id.partition(":")
        for number in range(request.after_seq):
            yield pb.WatchRunResponse(run_id=str(number) + "x" * int(size or 0))
            self.written = number + 1
        if kind == "fail":
            raise errors.NotFound.of("GONE", "It is gone: Zürich.", thing="x")
        if kind == "wait":
            await self._wait()
            yield pb.WatchRunResponse(run_id="last")

    def _see(self, call: Any) -> None:
        self.calls += 1
        self.metadata = dict(call.invocation_metadata())
        self.trace_id = trace.get_current_span().get_span_context().trace_id
        self.request_id = context.request_id.get()
        self.remaining_s = call.time_remaining()

    async def _wait(self) -> None:
        self.begun.set()
        try:
            await self.go_on.wait()
        except asyncio.CancelledError:
            self.cancelled.set()
            raise


def server(callee: Callee, listen: str = "127.0.0.1:0", **fields: Any) -> Server:
    """Returns a server of the callee, yet to be started."""
    item = Servicer(
        chat_pb2_grpc.add_ChatServiceServicer_to_server,
        callee,
        "parley.chat.v1.ChatService",
        at_once={"GetRun": AT_ONCE},
    )
    return Server("chat", listen, [item], verifier=ISSUER.verifier("chat"), **fields)


def without_direct_connections(monkeypatch: pytest.MonkeyPatch) -> None:
    """Lets services offer none, as where only one port of an instance can be reached."""

    async def listen(self: Dispatcher, host: str, port: int = 0) -> None: ...

    monkeypatch.setattr(Dispatcher, "listen", listen)


@contextlib.asynccontextmanager
async def serving(callee: Callee, listen: str = "127.0.0.1:0", **fields: Any) -> AsyncIterator[Server]:
    """Serves for the length of the block."""
    made = server(callee, listen, **fields)
    await made.start()
    await made.set_ready(ready=True)
    try:
        yield made
    finally:
        await made.stop(0)


@contextlib.asynccontextmanager
async def connected(*servers: Server) -> AsyncIterator[MuxChannel]:
    """Opens a channel whose shared connections are up."""
    address = "ipv4:" + ",".join(f"127.0.0.1:{one.port}" for one in servers)
    async with open_channel(address, pb.DESCRIPTOR, mux=True) as channel:
        assert isinstance(channel, MuxChannel)
        async with asyncio.timeout(10):
            await channel.mux_ready()
        yield channel


def stub(channel: Any) -> Any:
    """Returns the generated stub."""
    return chat_pb2_grpc.ChatServiceStub(channel)


async def until(condition: Callable[[], object]) -> None:
    """Waits for what nobody announces."""
    async with asyncio.timeout(10):
        while not condition():  # noqa: ASYNC110 - as said
            await asyncio.sleep(0.005)


async def collect(responses: AsyncIterator[pb.WatchRunResponse], into: list[str]) -> None:
    """Keeps what comes before a failure."""
    async for response in responses:
        into.append(response.run_id)  # noqa: PERF401 - as said
