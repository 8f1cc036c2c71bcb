"""Puts the gateway's parts together; `main` and the tests share it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from parley.gateway.v1 import gateway_pb2_grpc
from runtime import redis
from runtime.server import Servicer
from services.gateway.admin.composition import open_admin
from services.gateway.admin.trial import Trial
from services.gateway.chat import Admission, Chat, Policy, everybody
from services.gateway.domain import Timeouts
from services.gateway.embeddings.cache import VectorCache
from services.gateway.embeddings.domain import Embeddings, Patience
from services.gateway.http.pool import Pool
from services.gateway.observation import TelemetryObserver
from services.gateway.providers.addresses import GuardedResolver
from services.gateway.providers.connections import open_session
from services.gateway.providers.registry import LiveRegistry
from services.gateway.routing.cooldowns import CooldownPolicy, Cooldowns
from services.gateway.routing.router import Router
from services.gateway.routing.sharing import SharedCooldowns
from services.gateway.servicer import SERVICE, GatewayServicer
from services.gateway.usage.composition import open_money
from services.gateway.usage.meter import Attempts, MeteredAdmission
from services.gateway.usage.vectors import MeteredMaking

if TYPE_CHECKING:
    from collections.abc import Mapping
    from contextlib import AsyncExitStack

    from services.gateway.config import GatewayConfig
    from services.gateway.providers.bridge import Bridge


async def assemble(
    config: GatewayConfig, environ: Mapping[str, str], bridge: Bridge, stack: AsyncExitStack
) -> tuple[list[Servicer], LiveRegistry]:
    """Builds the servicers and the registry behind it, which is yet to be loaded; `stack` closes what they hold."""
    stack.push_async_callback(bridge.close)
    session = await stack.enter_async_context(open_session(connections=config.upstream_connections))
    pool = await stack.enter_async_context(Pool(GuardedResolver(), connections=config.upstream_connections))
    registry = LiveRegistry(config, environ, bridge, session, pool)
    stack.push_async_callback(registry.close)
    policy = Policy(
        timeouts=Timeouts(config.first_token_timeout_s, config.gap_timeout_s, config.total_timeout_s),
        retries=config.retries,
        backoff_s=config.retry_backoff_s,
        retry_after_max_s=config.retry_after_max_s,
        max_output_tokens=config.max_output_tokens,
    )
    client = None
    if config.redis_url is not None:
        client = await stack.enter_async_context(redis.connect(config.redis_url.reveal(), max_connections=20))
    cooldowns = Cooldowns(CooldownPolicy(config.cooldown_failures, config.cooldown_s, config.cooldown_max_s))
    if client is not None:
        await stack.enter_async_context(SharedCooldowns(cooldowns, client).running())
    money = await stack.enter_async_context(open_money(config, client))
    observer = Attempts(TelemetryObserver())
    admission: Admission = everybody
    if money is not None:
        admission = MeteredAdmission(money.meter, observer, max_output_tokens=config.max_output_tokens)
    chat = Chat(registry, Router(cooldowns), observer, policy, admission=admission)
    cache = VectorCache(max_bytes=config.vector_cache_bytes, client=client)
    patience = Patience(config.retries, config.retry_backoff_s, config.retry_after_max_s)
    embeddings = Embeddings(
        registry, cooldowns, cache, patience, make=MeteredMaking(money.meter) if money is not None else None
    )
    add = gateway_pb2_grpc.add_GatewayServiceServicer_to_server
    servicers = [Servicer(add, GatewayServicer(chat, embeddings), SERVICE)]
    if money is not None:
        servicers.append(money.servicer)
    servicers += await stack.enter_async_context(
        open_admin(config, environ, registry, bridge, session, trial=Trial(observer, admission))
    )
    return servicers, registry
