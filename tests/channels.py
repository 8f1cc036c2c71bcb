"""Channels of tests, to servers that have only just begun to listen."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator

import grpc


@contextlib.asynccontextmanager
async def connected(channel: grpc.aio.Channel) -> AsyncIterator[grpc.aio.Channel]:
    """Gives a channel once it has reached its server, and closes it.

    Channels of one process share what they know of an address. That nobody was there, when the port was another server's, is remembered
    for as long as any of them is open and tries again later: until then each call fails at once, though somebody listens by now.
    """
    async with channel:
        await channel.channel_ready()
        yield channel
