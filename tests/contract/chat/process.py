"""An instance of chat as a process of its own, for tests that kill it, freeze it and end it in order."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from typing import Any

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from deploy.local.ports import free_port
from parley.chat.v1 import chat_pb2
from runtime.channel import open_channel
from runtime.config import Secret


@dataclass(frozen=True)
class Process:
    """One process and the way to it."""

    channel: grpc.aio.Channel
    _process: asyncio.subprocess.Process

    async def kill(self) -> None:
        """Ends it at once, with all it knows."""
        self._process.kill()
        await self._process.wait()

    def freeze(self) -> None:
        """Stops it where it is; it does not know."""
        self._process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """Lets it go on."""
        self._process.send_signal(signal.SIGCONT)

    def terminate(self) -> None:
        """Asks it to leave in order."""
        self._process.terminate()

    async def gone(self) -> int:
        """Returns its exit code once it has left."""
        return await self._process.wait()


@contextlib.asynccontextmanager
async def running(settings: Mapping[str, Any]) -> AsyncIterator[Process]:
    """Runs a process for the length of the block; nothing of it is left behind.

    Args:
        settings: Of its `ChatConfig`.
    """
    port = free_port()
    environ = {f"PARLEY_CHAT_{name.upper()}": _text(value) for name, value in settings.items()}
    environ["PARLEY_CHAT_LISTEN"] = f"127.0.0.1:{port}"
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "services.chat", env={**os.environ, **environ}, stdout=asyncio.subprocess.DEVNULL
    )
    try:
        async with open_channel(f"127.0.0.1:{port}", chat_pb2.DESCRIPTOR) as channel:
            await _ready(channel)
            yield Process(channel, process)
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


async def _ready(channel: grpc.aio.Channel) -> None:
    async with asyncio.timeout(30):
        await channel.channel_ready()
        watching = health_pb2_grpc.HealthStub(channel).Watch(health_pb2.HealthCheckRequest())
        async for answer in watching:
            if answer.status == health_pb2.HealthCheckResponse.SERVING:
                watching.cancel()
                return


def _text(value: Any) -> str:
    if isinstance(value, tuple):
        return ",".join(value)
    return value.reveal() if isinstance(value, Secret) else str(value)
