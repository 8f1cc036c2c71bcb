"""An error is the same on both sides of the wire, and nothing unforeseen tells its text."""

import inspect
from collections.abc import AsyncIterator

import grpc
import pytest
from hypothesis import given
from hypothesis import strategies as st

from parley.chat.v1 import chat_pb2, chat_pb2_grpc
from runtime import channel, errors, status
from runtime.server import Servicer
from runtime.testing import Issuer, loopback
from tests.channels import connected

VOCABULARY = [cls for _, cls in inspect.getmembers(errors, inspect.isclass) if issubclass(cls, errors.ParleyError)]


class Raising(chat_pb2_grpc.ChatServiceServicer):
    """Fails as the test says."""

    def __init__(self, error: Exception) -> None:
        self.error = error

    async def GetRun(self, request: chat_pb2.GetRunRequest, context: object) -> chat_pb2.GetRunResponse:
        raise self.error

    async def WatchRun(self, request: chat_pb2.WatchRunRequest, context: object):  # type: ignore[no-untyped-def]
        yield chat_pb2.WatchRunResponse(run_id="first")
        raise self.error


def servicer(error: Exception) -> Servicer:
    return Servicer(
        chat_pb2_grpc.add_ChatServiceServicer_to_server,
        Raising(error),
        "parley.chat.v1.ChatService",
        ("GetRun", "WatchRun"),
    )


async def collect(responses: AsyncIterator[chat_pb2.WatchRunResponse], into: list[str]) -> None:
    async for response in responses:
        into.append(response.run_id)  # noqa: PERF401 - what came before the failure is wanted


async def call(error: Exception) -> errors.ParleyError:
    async with (
        loopback("chat", servicer(error)) as address,
        connected(channel.open_channel(address, chat_pb2.DESCRIPTOR)) as opened,
    ):
        stub = chat_pb2_grpc.ChatServiceStub(opened)
        with pytest.raises(errors.ParleyError) as caught:
            await channel.unary(stub.GetRun, chat_pb2.GetRunRequest(), timeout_s=5)
        return caught.value


def test_every_class_of_the_vocabulary_is_in_the_table() -> None:
    assert set(status.TABLE) == set(VOCABULARY) - {errors.ParleyError}


def test_no_two_classes_share_a_status() -> None:
    assert len(set(status.TABLE.values())) == len(status.TABLE)


@pytest.mark.parametrize("cls", [cls for cls in status.TABLE if cls is not errors.Unavailable])
async def test_an_error_arrives_as_it_was_raised(cls: type[errors.ParleyError]) -> None:
    sent = cls.of("SOME_REASON", "What is wrong.", retry_after_s=1.5, field="title", limit="3")
    got = await call(sent)
    assert type(got) is cls
    assert (got.code, got.message, got.metadata, got.retry_after_s, got.domain) == (
        "SOME_REASON",
        "What is wrong.",
        {"field": "title", "limit": "3"},
        1.5,
        "chat.parley",
    )


async def test_a_subclass_travels_as_its_ancestor_with_its_own_reason() -> None:
    class RunNotFound(errors.NotFound):
        reason = "RUN_NOT_FOUND"

    got = await call(RunNotFound("No such run."))
    assert (type(got), got.code) == (errors.NotFound, "RUN_NOT_FOUND")


async def test_an_unforeseen_exception_tells_nothing() -> None:
    got = await call(RuntimeError("the password is hunter2"))
    assert (type(got), got.message) == (errors.Internal, "internal error")


async def test_a_stream_that_fails_half_way_keeps_its_details() -> None:
    error = errors.NotFound.of("GONE", "Gone.", thing="x")
    async with (
        loopback("chat", servicer(error)) as address,
        connected(channel.open_channel(address, chat_pb2.DESCRIPTOR)) as opened,
    ):
        stub = chat_pb2_grpc.ChatServiceStub(opened)
        got: list[str] = []
        with pytest.raises(errors.NotFound) as caught:
            await collect(channel.stream(stub.WatchRun, chat_pb2.WatchRunRequest(), timeout_s=5), got)
        assert (got, caught.value.code, caught.value.metadata) == (["first"], "GONE", {"thing": "x"})


async def test_a_domain_survives_a_second_hop() -> None:
    first = errors.NotFound.of("X", "x")
    first.domain = "data.parley"
    assert (await call(first)).domain == "data.parley"


async def test_a_service_that_is_not_there_is_unavailable() -> None:
    async with channel.open_channel("127.0.0.1:1", chat_pb2.DESCRIPTOR) as opened:
        stub = chat_pb2_grpc.ChatServiceStub(opened)
        with pytest.raises(errors.Unavailable) as caught:
            await channel.unary(stub.CancelRun, chat_pb2.CancelRunRequest(), timeout_s=5)
        assert "127.0.0.1" not in caught.value.message
        # Whoever reads the traceback learns why.
        assert any("127.0.0.1" in note for note in caught.value.__notes__)


async def test_reads_are_repeated_while_a_service_is_away() -> None:
    attempts = 0

    class Flaky(chat_pb2_grpc.ChatServiceServicer):
        async def GetRun(self, request: chat_pb2.GetRunRequest, context: object) -> chat_pb2.GetRunResponse:
            nonlocal attempts
            attempts += 1
            if attempts < 3:
                raise errors.Unavailable("away")
            return chat_pb2.GetRunResponse()

        async def CancelRun(self, request: chat_pb2.CancelRunRequest, context: object) -> chat_pb2.CancelRunResponse:
            nonlocal attempts
            attempts += 1
            raise errors.Unavailable("away")

    item = Servicer(
        chat_pb2_grpc.add_ChatServiceServicer_to_server, Flaky(), "parley.chat.v1.ChatService", ("GetRun", "CancelRun")
    )
    async with (
        loopback("chat", item) as address,
        connected(channel.open_channel(address, chat_pb2.DESCRIPTOR)) as opened,
    ):
        stub = chat_pb2_grpc.ChatServiceStub(opened)
        await channel.unary(stub.GetRun, chat_pb2.GetRunRequest(), timeout_s=5)
        assert attempts == 3
        attempts = 0
        with pytest.raises(errors.Unavailable):
            await channel.unary(stub.CancelRun, chat_pb2.CancelRunRequest(), timeout_s=5)
        assert attempts == 1, "a call that changes something is not repeated"


@given(
    st.sampled_from(list(status.TABLE)),
    st.text(min_size=1),
    st.dictionaries(st.text(min_size=1), st.text()),
)
def test_any_text_fits_into_a_status(cls: type[errors.ParleyError], message: str, metadata: dict[str, str]) -> None:
    error = cls(message)
    error.metadata = {key: value for key, value in metadata.items() if value.isprintable() and key.isprintable()}
    if message.isprintable():
        assert status.to_status(error, domain="x.parley", request_id="r").code is status.TABLE[cls]


async def test_a_method_that_is_not_open_needs_a_token_even_without_a_verifier() -> None:
    item = Servicer(
        chat_pb2_grpc.add_ChatServiceServicer_to_server, Raising(RuntimeError()), "parley.chat.v1.ChatService"
    )
    async with (
        loopback("chat", item) as address,
        connected(channel.open_channel(address, chat_pb2.DESCRIPTOR)) as opened,
    ):
        stub = chat_pb2_grpc.ChatServiceStub(opened)
        for token in ("", Issuer().token()):
            with pytest.raises(errors.Unauthenticated):
                await channel.unary(stub.GetRun, chat_pb2.GetRunRequest(), timeout_s=5, token=token)


def test_status_codes_are_grpc_s_own() -> None:
    assert all(isinstance(code, grpc.StatusCode) for code in status.TABLE.values())
