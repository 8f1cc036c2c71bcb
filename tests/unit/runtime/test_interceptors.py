"""The chain has one order, and each link does its part for all kinds of calls."""

import asyncio
import contextlib
import json
import weakref
from collections.abc import AsyncIterator
from types import SimpleNamespace

import pytest
import structlog
from prometheus_client import REGISTRY

from parley.chat.v1 import chat_pb2, chat_pb2_grpc
from runtime import channel, context, errors, interceptors
from runtime.server import Servicer
from runtime.testing import Issuer, loopback
from tests.channels import connected


class Echo(chat_pb2_grpc.ChatServiceServicer):
    """Answers with what the chain has made known."""

    def __init__(self) -> None:
        self.started = asyncio.Event()
        self.cancelled = asyncio.Event()

    async def GetRun(self, request: chat_pb2.GetRunRequest, _: object) -> chat_pb2.GetRunResponse:
        run = chat_pb2.Run(id=context.request_id.get(), model=context.current_identity().user_id)
        return chat_pb2.GetRunResponse(run=run)

    async def CancelRun(self, request: chat_pb2.CancelRunRequest, call: object) -> chat_pb2.CancelRunResponse:
        await asyncio.sleep(60)
        return chat_pb2.CancelRunResponse()

    async def WatchRun(self, request: chat_pb2.WatchRunRequest, _: object):  # type: ignore[no-untyped-def]
        try:
            self.started.set()
            while True:
                yield chat_pb2.WatchRunResponse(run_id=context.current_identity().user_id)
                await asyncio.sleep(0.01)
        finally:
            self.cancelled.set()


def item(echo: Echo, *open_methods: str) -> Servicer:
    return Servicer(chat_pb2_grpc.add_ChatServiceServicer_to_server, echo, "parley.chat.v1.ChatService", open_methods)


def links() -> list[interceptors.Link]:
    return [
        interceptors.Trace(),
        interceptors.RequestContext(),
        interceptors.AccessLog(),
        interceptors.Errors("x.parley"),
        interceptors.Deadline(),
        interceptors.Authentication(None, frozenset()),
    ]


def call_in(context: object, method: str = "/x/Y") -> interceptors.Call:
    return interceptors.Call(
        method, streaming=False, metadata={}, context=context, behaviour=Echo().GetRun, request=None
    )


def test_the_chain_has_one_order() -> None:
    interceptors.Chain(links())
    for wrong in (links()[::-1], links()[1:], [*links(), interceptors.Trace()]):
        with pytest.raises(ValueError, match="the chain is"):
            interceptors.Chain(wrong)


async def test_a_verified_caller_reaches_the_handler_and_the_next_hop() -> None:
    issuer = Issuer()
    async with (
        loopback("chat", item(Echo()), verifier=issuer.verifier("chat")) as address,
        connected(channel.open_channel(address, chat_pb2.DESCRIPTOR)) as opened,
    ):
        stub = chat_pb2_grpc.ChatServiceStub(opened)
        response = await channel.unary(stub.GetRun, chat_pb2.GetRunRequest(), timeout_s=5, token=issuer.token("u-1"))
        assert response.run.model == "u-1"
        async for event in channel.stream(
            stub.WatchRun, chat_pb2.WatchRunRequest(), timeout_s=5, token=issuer.token("u-2")
        ):
            assert event.run_id == "u-2"
            break


async def test_a_callers_request_id_is_kept_when_it_is_well_formed_and_replaced_when_not() -> None:
    issuer = Issuer()
    async with (
        loopback("chat", item(Echo()), verifier=issuer.verifier("chat")) as address,
        connected(channel.open_channel(address, chat_pb2.DESCRIPTOR)) as opened,
    ):
        stub = chat_pb2_grpc.ChatServiceStub(opened)
        seen = {}
        for given in ("req-1.a_B", "has space", "x" * 65, ""):
            context.request_id.set(given)
            seen[given] = (
                await channel.unary(stub.GetRun, chat_pb2.GetRunRequest(), timeout_s=5, token=issuer.token())
            ).run.id
        context.request_id.set("")
        assert seen.pop("req-1.a_B") == "req-1.a_B"
        assert all(len(made) == 32 for made in seen.values())


async def test_leaving_a_stream_ends_it_on_the_server() -> None:
    issuer, echo = Issuer(), Echo()
    async with (
        loopback("chat", item(echo), verifier=issuer.verifier("chat")) as address,
        connected(channel.open_channel(address, chat_pb2.DESCRIPTOR)) as opened,
    ):
        stub = chat_pb2_grpc.ChatServiceStub(opened)
        events = channel.stream(stub.WatchRun, chat_pb2.WatchRunRequest(), token=issuer.token())
        await anext(events)
        await events.aclose()
        async with asyncio.timeout(5):
            await echo.cancelled.wait()


async def test_a_call_without_a_deadline_gets_one() -> None:
    issuer = Issuer()

    class Slow(Echo):
        pass

    link = interceptors.Deadline(unary_s=0.05)

    call = call_in(NoDeadline())
    with pytest.raises(errors.DeadlineExceeded):
        await link.around(call, lambda _: asyncio.sleep(60))
    async with (
        loopback("chat", item(Slow()), verifier=issuer.verifier("chat")) as address,
        connected(channel.open_channel(address, chat_pb2.DESCRIPTOR)) as opened,
    ):
        stub = chat_pb2_grpc.ChatServiceStub(opened)
        with pytest.raises(errors.DeadlineExceeded):
            await channel.unary(stub.CancelRun, chat_pb2.CancelRunRequest(), timeout_s=0.1, token=issuer.token())


class NoDeadline:
    """What the chain asks of a context."""

    @staticmethod
    def time_remaining() -> None:
        return None


async def test_each_call_has_a_deadline_of_its_own_whoever_came_before_or_has_gone() -> None:
    link = interceptors.Deadline(unary_s=0.05)

    async def wait(_: interceptors.Call) -> None:
        await asyncio.Event().wait()

    async def answer(_: interceptors.Call) -> str:
        return "answered"

    waiting = [asyncio.ensure_future(link.around(call_in(NoDeadline()), wait))]
    assert await link.around(call_in(NoDeadline()), answer) == "answered"
    await asyncio.sleep(0.02)
    waiting += [asyncio.ensure_future(link.around(call_in(NoDeadline()), wait)) for _ in range(2)]
    await asyncio.sleep(0)
    waiting[1].cancel()
    done, _ = await asyncio.wait(waiting, timeout=5)
    assert len(done) == 3
    assert waiting[1].cancelled()
    assert all(isinstance(each.exception(), errors.DeadlineExceeded) for each in (waiting[0], waiting[2]))
    with pytest.raises(errors.DeadlineExceeded):  # none was left, and one comes
        await link.around(call_in(NoDeadline()), wait)


async def test_a_caller_that_goes_is_not_taken_for_a_deadline() -> None:
    begun = asyncio.Event()

    async def work(_: interceptors.Call) -> None:
        begun.set()
        await asyncio.Event().wait()

    call = call_in(NoDeadline())
    task = asyncio.ensure_future(interceptors.Deadline(unary_s=60).around(call, work))
    await begun.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


@pytest.mark.parametrize("fails", [False, True])
async def test_calls_under_way_are_counted_until_they_end(fails: bool) -> None:
    def active() -> float | None:
        return REGISTRY.get_sample_value("parley_rpc_active", {"method": "/x/Counted"})

    async def work(_: interceptors.Call) -> None:
        assert active() == 1
        if fails:
            raise asyncio.CancelledError

    call = call_in(None, "/x/Counted")
    with contextlib.suppress(asyncio.CancelledError):
        await interceptors.AccessLog().around(call, work)
    assert active() == 0


async def test_each_call_writes_one_line_with_its_final_status_and_no_token() -> None:
    issuer = Issuer()
    token = issuer.token("u-1")
    async with (
        loopback("chat", item(Echo()), verifier=issuer.verifier("chat")) as address,
        connected(channel.open_channel(address, chat_pb2.DESCRIPTOR)) as opened,
    ):
        stub = chat_pb2_grpc.ChatServiceStub(opened)
        with structlog.testing.capture_logs() as lines:
            await channel.unary(stub.GetRun, chat_pb2.GetRunRequest(), timeout_s=5, token=token)
            with pytest.raises(errors.Unauthenticated):
                await channel.unary(stub.GetRun, chat_pb2.GetRunRequest(), timeout_s=5, token="a.b.c")
    seen = [(line["event"], line["rpc.code"], line.get("reason")) for line in lines]
    assert seen == [("rpc", "OK", None), ("rpc", "UNAUTHENTICATED", "INVALID_TOKEN")]
    assert token not in json.dumps(lines)


async def test_what_a_stream_was_asked_is_held_by_nobody_but_its_handler() -> None:
    """A message may be long, and what answers it take long."""

    class Asked:
        pass

    class Caller(NoDeadline):
        async def write(self, _: object) -> None:
            begun.set()

    async def answer(request: Asked | None, _: object) -> AsyncIterator[int]:
        assert request is not None
        del request
        yield 1
        await asyncio.Event().wait()

    begun, asked = asyncio.Event(), Asked()
    held = weakref.ref(asked)
    handler = SimpleNamespace(unary_unary=None, unary_stream=answer, response_streaming=True)
    chain = interceptors.Chain([*links()[:-1], interceptors.Authentication(None, frozenset({"/x/Y"}))])
    answering = asyncio.ensure_future(chain.around("/x/Y", handler, {})(asked, Caller()))
    del asked
    await begun.wait()
    assert held() is None
    answering.cancel()
    await asyncio.wait([answering])
