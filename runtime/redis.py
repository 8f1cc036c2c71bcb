"""Redis: a client whose waits are bounded."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

import redis.asyncio
from redis.backoff import NoBackoff
from redis.retry import Retry

if TYPE_CHECKING:
    from collections.abc import AsyncIterator


@contextlib.asynccontextmanager
async def connect(url: str, *, max_connections: int) -> AsyncIterator[redis.asyncio.Redis]:
    """Opens a client and closes it at the end; the server may still be away.

    Whoever finds all connections in use waits for one, two seconds at most: many runs that begin at once are no outage.

    Answers are bytes. A command that gets no answer within two seconds fails; it is not repeated, since it may have had its effect.
    A blocking read must therefore block for less than that.
    """
    pool = redis.asyncio.BlockingConnectionPool.from_url(
        url,
        max_connections=max_connections,
        timeout=2,
        socket_timeout=2,
        socket_connect_timeout=1,
        retry=Retry(NoBackoff(), 0),
        health_check_interval=0,
    )
    client = redis.asyncio.Redis.from_pool(pool)
    try:
        yield client
    finally:
        await client.aclose()
