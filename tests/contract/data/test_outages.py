"""Without its database the service refuses clearly, and goes on by itself when it is back."""

import asyncio
from typing import Any

import asyncpg

from deploy.local.ports import free_port
from parley.data.v1 import data_pb2 as pb
from runtime.errors import ParleyError, Unavailable
from tests.contract.data.person import Person, Service, begin_request, serving


async def test_without_a_database_every_call_says_when_to_try_again() -> None:
    async with serving(f"postgresql://parley_data:x@127.0.0.1:{free_port()}/parley") as service:
        person = service.person()
        for request in (pb.ListConversationsRequest(), begin_request()):
            refusal = await person.refusal(request)
            assert isinstance(refusal, Unavailable)
            assert refusal.retry_after_s == 1
            assert "127.0.0.1" not in refusal.message


async def test_lost_connections_are_replaced(service: Service, stored: Any) -> None:
    person = service.person()
    await asyncio.gather(*(person.create() for _ in range(10)))
    owner = await asyncpg.connect(stored.owner_url)
    try:
        await owner.fetch(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() AND usename = 'parley_data'"
        )
    finally:
        await owner.close()
    # A connection whose end has not been noticed yet costs one call each, and there are ten at most.
    ends = [await outcome(person) for _ in range(11)]
    assert set(ends) <= {"UNAVAILABLE", "created"}
    assert ends[-1] == "created"


async def outcome(person: Person) -> str:
    try:
        await person.create()
    except ParleyError as refusal:
        return refusal.code
    return "created"
