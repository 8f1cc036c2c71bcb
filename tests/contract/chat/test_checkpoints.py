"""What falls due together is stored together; what that cannot store goes by itself, and says why."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest

from deploy.local.ports import free_port
from parley.data.v1 import data_pb2, data_pb2_grpc
from runtime.channel import open_channel
from runtime.errors import FailedPrecondition, Unauthenticated, Unavailable
from services.chat.checkpoints import Checkpoints
from tests.contract.data.person import Person, Service, checkpoint_request, serving, text


@pytest.fixture(scope="module")
async def data(module_database: Callable[..., Awaitable[Any]]) -> AsyncIterator[Service]:
    async with serving((await module_database("data")).url) as service:
        yield service


class Counted:
    """Data's stub, with its calls counted; a method in `instead` is another one."""

    def __init__(self, data: Service) -> None:
        self._stub = data_pb2_grpc.RunServiceStub(data.channel)
        self.calls: Counter[str] = Counter()
        self.instead: dict[str, Any] = {}

    def __getattr__(self, name: str) -> Any:
        self.calls[name] += 1
        return self.instead.get(name) or getattr(self._stub, name)


@pytest.fixture
def counted(data: Service) -> Counted:
    return Counted(data)


@pytest.fixture
def checkpoints(counted: Counted) -> Checkpoints:
    stub: Any = counted
    return Checkpoints(stub, timeout_s=20)


async def some(data: Service, count: int) -> list[tuple[Person, data_pb2.Run]]:
    people = [data.person() for _ in range(count)]
    return [(person, (await person.begin()).run) for person in people]


async def store(
    checkpoints: Checkpoints, kept: list[tuple[Person, data_pb2.Run]], said: str = "so far", **fields: Any
) -> list[Any]:
    return await asyncio.gather(
        *(
            checkpoints.store(checkpoint_request(run.id, text(said), **fields), token=person.token)
            for person, run in kept
        ),
        return_exceptions=True,
    )


async def said(person: Person, run: data_pb2.Run) -> str:
    return "".join(part.text for part in (await person.stored(run.id)).answer.parts)


async def test_what_falls_due_in_one_moment_is_one_call(
    data: Service, counted: Counted, checkpoints: Checkpoints
) -> None:
    kept = await some(data, 3)
    await kept[1][0].call(data_pb2.CancelRunRequest(run_id=kept[1][1].id))
    assert await store(checkpoints, kept) == [False, True, False]
    assert counted.calls == {"CheckpointRuns": 1}
    assert [await said(*one) for one in kept] == ["so far"] * 3


async def test_one_alone_is_a_call_of_its_own(data: Service, counted: Counted, checkpoints: Checkpoints) -> None:
    kept = await some(data, 1)
    assert await store(checkpoints, kept) == [False]
    assert counted.calls == {"CheckpointRun": 1}


async def test_a_large_one_travels_by_itself(data: Service, counted: Counted, checkpoints: Checkpoints) -> None:
    kept = await some(data, 2)
    assert await store(checkpoints, kept, "x" * 100_000) == [False, False]
    assert counted.calls == {"CheckpointRun": 2}


async def test_one_that_is_refused_learns_why_and_hinders_no_other(
    data: Service, counted: Counted, checkpoints: Checkpoints
) -> None:
    kept = await some(data, 3)
    await kept[0][0].finish(kept[0][1], text("whole"))
    refusal, *others = await store(checkpoints, kept)
    assert isinstance(refusal, FailedPrecondition)
    assert (refusal.code, others) == ("RUN_ENDED", [False, False])
    assert counted.calls == {"CheckpointRuns": 1, "CheckpointRun": 1}


@pytest.mark.parametrize("place", [0, 1], ids=["the call's own", "another"])
async def test_a_credential_that_is_refused_hinders_no_other(
    data: Service, checkpoints: Checkpoints, place: int
) -> None:
    kept = await some(data, 2)
    stranger = Person(data.channel, "no token")
    kept[place] = (stranger, kept[place][1])
    outcome = await store(checkpoints, kept)
    assert isinstance(outcome.pop(place), Unauthenticated)
    assert outcome == [False]


async def test_data_of_the_last_release_gets_each_by_itself(
    data: Service, counted: Counted, checkpoints: Checkpoints
) -> None:
    counted.instead["CheckpointRuns"] = data.channel.unary_unary(
        "/parley.data.v1.RunService/NotThere",
        request_serializer=data_pb2.CheckpointRunsRequest.SerializeToString,
        response_deserializer=data_pb2.CheckpointRunsResponse.FromString,
    )
    kept = await some(data, 2)
    assert await store(checkpoints, kept) == [False, False]
    assert counted.calls == {"CheckpointRuns": 1, "CheckpointRun": 2}


async def test_while_data_is_away_it_is_asked_once(data: Service, counted: Counted, checkpoints: Checkpoints) -> None:
    async with open_channel(f"127.0.0.1:{free_port()}", data_pb2.DESCRIPTOR) as nowhere:
        counted.instead["CheckpointRuns"] = data_pb2_grpc.RunServiceStub(nowhere).CheckpointRuns
        outcome = await store(checkpoints, await some(data, 2))
    assert [type(one) for one in outcome] == [Unavailable] * 2
    assert counted.calls == {"CheckpointRuns": 1}


async def test_who_no_longer_waits_holds_up_nobody(data: Service, checkpoints: Checkpoints) -> None:
    (ada, first), (bob, second) = await some(data, 2)
    leaving = asyncio.create_task(checkpoints.store(checkpoint_request(first.id, text("1")), token=ada.token))
    staying = asyncio.create_task(checkpoints.store(checkpoint_request(second.id, text("2")), token=bob.token))
    await asyncio.sleep(0)
    leaving.cancel()
    assert await staying is False
    assert await said(bob, second) == "2"
