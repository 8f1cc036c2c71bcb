"""Redis: a client whose waits are bounded, and a span per use of it."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

import redis.asyncio
import structlog
from opentelemetry.trace import SpanKind
from redis.backoff import NoBackoff
from redis.exceptions import RedisError
from redis.retry import Retry

from runtime import telemetry
from runtime.errors import Unavailable

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

log = structlog.stdlib.get_logger()


@contextlib.asynccontextmanager
async def connect(url: str, *, max_connections: int) -> AsyncIterator[redis.asyncio.Redis]:
    """Opens a client and closes it at the end; the server may still be away.

    Answers are bytes. A command that gets no answer within two seconds fails; it is not repeated, since it may have had its effect.
    A blocking read must therefore block for less than that.
    """
    client = redis.asyncio.Redis.from_url(
        url,
        max_connections=max_connections,
        socket_timeout=2,
        socket_connect_timeout=1,
        retry=Retry(NoBackoff(), 0),
        health_check_interval=0,
    )
    try:
        yield client
    finally:
        await client.aclose()


@contextlib.contextmanager
def operation(name: str) -> Iterator[Any]:
    """Puts a span around the use of Redis and turns its faults into Unavailable.

    Args:
        name: What is done, such as `XADD` or the name of a script.
    """
    attributes = {"db.system.name": "redis", "db.operation.name": name}
    with telemetry.span(f"redis {name}", kind=SpanKind.CLIENT, attributes=attributes) as span:
        try:
            yield span
        except (RedisError, OSError, TimeoutError) as error:
            log.warning("redis_away", error=type(error).__name__)
            raise Unavailable("Redis is not reachable right now; try again.", retry_after_s=1) from None
