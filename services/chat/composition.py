"""Puts clients, rules and servicer together, for the process as for a test."""

from __future__ import annotations

import asyncio
import contextlib
import os
import secrets
import socket
import time
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
from services.chat.claims import Claims
from services.chat.conversations import Conversations
from services.chat.data_client import DataClient
from services.chat.dead_letters import DeadLetters
from services.chat.follow import Follow
from services.chat.gateway_client import GatewayClient
from services.chat.host import Host
from services.chat.models import Models
from services.chat.runs import Runs
from services.chat.servicer import ChatServicer
from services.chat.signals import RedisSignals
from services.chat.tail import RedisTail
from services.chat.titles import Titles

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
        host: The runs it owns.
        claims: How it takes runs that nobody owns.
        conversations: How conversations are watched.
    """

    def __init__(
        self,
        server: Server,
        runs: Runs,
        host: Host,
        *,
        claims: Claims,
        conversations: Conversations,
        titles: Titles,
        auth: AuthClient,
        grace_s: float,
    ) -> None:
        self.server = server
        self.runs = runs
        self.host = host
        self.claims = claims
        self.conversations = conversations
        self._titles = titles
        self._auth = auth
        self._grace_s = grace_s

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

    async def drain(self, grace_s: float | None = None) -> None:
        """Brings the runs to an end within the grace period, or hands them over."""
        grace_s = max(self._grace_s - _MARGIN_S, 0) if grace_s is None else grace_s
        await asyncio.gather(self.claims.stop(), self.runs.drain(grace_s))
        await self._titles.drain(0)


@contextlib.asynccontextmanager
async def assemble(config: ChatConfig) -> AsyncIterator[Chat]:
    """Opens what the service needs, and closes it at the end."""
    owner = f"{socket.gethostname()[:100]}-{os.getpid()}-{secrets.token_hex(4)}"
    rules, tools = config.rules(owner), config.load_tools()
    async with (
        open_channel(config.auth_address, auth_pb2.DESCRIPTOR) as auth_channel,
        open_channel(config.data_address, data_pb2.DESCRIPTOR, mux=True) as data_channel,
        open_channel(config.gateway_address, gateway_pb2.DESCRIPTOR, mux=True) as gateway_channel,
        redis.connect(config.redis_url.reveal(), max_connections=_REDIS_CONNECTIONS) as client,
    ):
        for channel in (data_channel, gateway_channel):
            channel.get_state(try_to_connect=True)  # so that the first turn need not
        auth = AuthClient(auth_channel, actor_key=config.actor_key.reveal(), timeout_s=config.call_timeout_s)
        data = DataClient(data_channel, timeout_s=config.call_timeout_s)
        gateway = GatewayClient(gateway_channel, timeout_s=config.call_timeout_s)
        tail = RedisTail(client, flush_every_s=config.tail_flush_every_s, ttl_s=config.tail_ttl_s)
        signals = RedisSignals(client, owner)
        models = Models(gateway, time.monotonic)
        titles = Titles(gateway, data, model=config.title_model)
        host = Host(data=data, gateway=gateway, tail=tail, models=models, tools=tools, titles=titles, rules=rules)
        follow = Follow(data, tail, signals, host.live)
        claims = Claims(data=data, auth=auth, tail=tail, host=host, rules=rules, arrived=follow.arrived)
        runs = Runs(
            data=data,
            auth=auth,
            signals=signals,
            host=host,
            follow=follow,
            rules=rules,
            queued=claims.poke,
            ended=claims.run_ended,
        )
        conversations = Conversations(data=data, signals=signals, follow=follow, runs=runs)
        dead_letters = DeadLetters(data=data, tail=tail, signals=signals, queued=claims.poke)
        servicer = Servicer(
            chat_pb2_grpc.add_ChatServiceServicer_to_server,
            ChatServicer(runs, conversations, dead_letters),
            "parley.chat.v1.ChatService",
        )
        verifier = Verifier(auth.jwks, audience="chat")
        server = Server("chat", config.listen, [servicer], verifier=verifier, direct_port=config.direct_port)
        listen = partial(signals.listen, runs.cancel_own, claims.poke)
        async with tail.running(), background.running(listen, claims.run):
            yield Chat(
                server,
                runs,
                host,
                claims=claims,
                conversations=conversations,
                titles=titles,
                auth=auth,
                grace_s=config.drain_grace_s,
            )
