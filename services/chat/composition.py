"""Puts clients, rules and servicer together, for the process as for a test."""

from __future__ import annotations

import asyncio
import contextlib
import os
import secrets
import socket
from functools import partial
from typing import TYPE_CHECKING

import structlog

from parley.auth.v1 import auth_pb2
from parley.chat.v1 import chat_pb2_grpc
from parley.data.v1 import data_pb2
from parley.gateway.v1 import gateway_pb2
from runtime import redis
from runtime.channel import open_channel
from runtime.errors import ParleyError
from runtime.identity import Verifier
from runtime.server import Server, Servicer
from services.chat import background
from services.chat.auth_client import AuthClient
from services.chat.data_client import DataClient
from services.chat.gateway_client import GatewayClient
from services.chat.runs import Runs
from services.chat.servicer import ChatServicer
from services.chat.signals import RedisSignals
from services.chat.tail import RedisTail

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from services.chat.config import ChatConfig

log = structlog.stdlib.get_logger()

_PAUSE_S = 0.25
_MARGIN_S = 0.5
# One for the writer, one for the reader, one that listens; the rest for words to other instances.
_REDIS_CONNECTIONS = 10


class Chat:
    """One instance of the service.

    Attributes:
        server: What it serves.
        runs: Its use cases.
    """

    def __init__(self, server: Server, runs: Runs, auth: AuthClient, drain_grace_s: float) -> None:
        self.server = server
        self.runs = runs
        self._auth = auth
        self._drain_grace_s = drain_grace_s

    async def prepare(self) -> None:
        """Returns once auth tells its keys: without them no caller can be known. Tries for ever."""
        while True:
            try:
                await self._auth.jwks()
            except ParleyError as error:
                log.warning("auth_not_ready", reason=error.code)
                await asyncio.sleep(_PAUSE_S)
            else:
                return

    async def drain(self) -> None:
        """Brings the runs to an end within the grace period."""
        await self.runs.drain(max(self._drain_grace_s - _MARGIN_S, 0))


@contextlib.asynccontextmanager
async def assemble(config: ChatConfig) -> AsyncIterator[Chat]:
    """Opens what the service needs, and closes it at the end."""
    owner = f"{socket.gethostname()[:100]}-{os.getpid()}-{secrets.token_hex(4)}"
    async with (
        open_channel(config.auth_address, auth_pb2.DESCRIPTOR) as auth_channel,
        open_channel(config.data_address, data_pb2.DESCRIPTOR) as data_channel,
        open_channel(config.gateway_address, gateway_pb2.DESCRIPTOR) as gateway_channel,
        redis.connect(config.redis_url.reveal(), max_connections=_REDIS_CONNECTIONS) as client,
    ):
        for channel in (data_channel, gateway_channel):
            channel.get_state(try_to_connect=True)  # so that the first turn need not
        auth = AuthClient(auth_channel, actor_key=config.actor_key.reveal(), timeout_s=config.call_timeout_s)
        tail = RedisTail(client, flush_every_s=config.tail_flush_every_s, ttl_s=config.tail_ttl_s)
        signals = RedisSignals(client, owner)
        runs = Runs(
            data=DataClient(data_channel, timeout_s=config.call_timeout_s),
            gateway=GatewayClient(gateway_channel, timeout_s=config.call_timeout_s),
            auth=auth,
            tail=tail,
            signals=signals,
            rules=config.rules(owner),
        )
        servicer = Servicer(
            chat_pb2_grpc.add_ChatServiceServicer_to_server, ChatServicer(runs), "parley.chat.v1.ChatService"
        )
        server = Server("chat", config.listen, [servicer], verifier=Verifier(auth.jwks, audience="chat"))
        async with tail.running(), background.running(partial(signals.listen, runs.cancel_own)):
            yield Chat(server, runs, auth, config.drain_grace_s)
