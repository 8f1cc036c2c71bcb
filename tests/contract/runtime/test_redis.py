"""The client of Redis, against a real server."""

import asyncio

from runtime.redis import connect


async def test_more_commands_at_once_than_connections_wait_for_one(redis_server: str) -> None:
    """Many runs that begin at once are no outage."""
    async with connect(redis_server, max_connections=2) as client:

        async def write_and_read(number: int) -> bytes:
            async with client.pipeline(transaction=False) as pipeline:
                pipeline.set(f"many:{number}", number)
                pipeline.get(f"many:{number}")
                answers: list[bytes] = await pipeline.execute()
                return answers[1]

        found = await asyncio.gather(*(write_and_read(number) for number in range(50)))
    assert [int(value) for value in found] == list(range(50))
