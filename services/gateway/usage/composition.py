"""Puts the parts of money together."""

from __future__ import annotations

import contextlib
import os
import secrets
import socket
from dataclasses import dataclass
from typing import TYPE_CHECKING

from parley.gateway.v1 import usage_pb2_grpc
from runtime import postgres
from runtime.server import Servicer
from services.gateway.usage.accounts import Accounts
from services.gateway.usage.budgets import Budgets
from services.gateway.usage.counters import RedisCounters
from services.gateway.usage.domain import Limits
from services.gateway.usage.janitor import Janitor
from services.gateway.usage.ledger import Ledger
from services.gateway.usage.meter import Meter
from services.gateway.usage.servicer import SERVICE, UsageServicer
from services.gateway.usage.store import QUERIES, PostgresUsage

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from redis.asyncio import Redis

    from services.gateway.config import GatewayConfig


@dataclass(frozen=True)
class Money:
    """What counts calls.

    Attributes:
        meter: Surrounds calls.
        servicer: Serves `UsageService`.
        ledger: Writes.
        janitor: Takes back.
        budgets: Lets in.
    """

    meter: Meter
    servicer: Servicer
    ledger: Ledger
    janitor: Janitor
    budgets: Budgets


@contextlib.asynccontextmanager
async def open_money(config: GatewayConfig, client: Redis | None) -> AsyncIterator[Money | None]:
    """Opens the ledger and its budgets, and closes them at the end; None where there is no database to keep them in."""
    if config.database_url is None:
        yield None
        return
    instance = f"{socket.gethostname()[:100]}-{os.getpid()}-{secrets.token_hex(4)}"
    url = config.database_url.reveal()
    connections = config.pool_max_size
    # All are opened at the start: one that is made on the way costs a call 30 ms.
    async with postgres.connect(url, QUERIES, max_connections=connections, ready=connections) as database:
        store = PostgresUsage(database, instance)
        counters = RedisCounters(client) if client is not None else None
        defaults = Limits(config.user_tokens_per_day, config.organization_tokens_per_day, config.global_tokens_per_day)
        ledger = Ledger(store)
        budgets = Budgets(store, counters, defaults, write=ledger.flush)
        janitor = Janitor(store, counters, budgets, ledger.live)
        add = usage_pb2_grpc.add_UsageServiceServicer_to_server
        servicer = Servicer(add, UsageServicer(Accounts(store, budgets)), SERVICE)
        async with ledger.running(), budgets.running(), janitor.running():
            yield Money(Meter(budgets, ledger), servicer, ledger, janitor, budgets)
