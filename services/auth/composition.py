"""Builds the service's parts from its configuration and a database."""

from __future__ import annotations

import time
from datetime import timedelta
from typing import TYPE_CHECKING

import structlog

from parley.auth.v1 import auth_pb2_grpc
from runtime.identity import USER_AUDIENCE, Verifier
from runtime.server import Server, Servicer
from services.auth import passwords, throttle
from services.auth.api_keys import ApiKeys
from services.auth.delegation import Delegation
from services.auth.domain import Sessions
from services.auth.servicer import OPEN_METHODS, AuthServicer
from services.auth.signing import KeyRing, Seal
from services.auth.store import PostgresAttempts, PostgresKeys, PostgresRemains, PostgresStore
from services.auth.upkeep import Upkeep

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AsyncExitStack

    from runtime.postgres import Database
    from services.auth.config import AuthConfig, KeyConfig


def build(
    config: AuthConfig, database: Database, stack: AsyncExitStack, clock: Callable[[], float] = time.time
) -> tuple[Server, Upkeep]:
    """Builds the server and the job beside it; what has to be closed goes on the stack."""
    keys = key_ring(config, database, clock)
    hashes = passwords.Argon2Passwords(
        threads=config.hash_threads,
        queue=config.hash_queue,
        memory_kib=config.hash_memory_kib,
        iterations=config.hash_iterations,
    )
    stack.callback(hashes.close)
    store, audit = PostgresStore(database), structlog.stdlib.get_logger().info
    sessions = Sessions(
        store=store,
        throttle=throttle.Throttle(PostgresAttempts(database), config.throttle_rules()),
        passwords=hashes,
        signer=keys,
        user_audience=USER_AUDIENCE,
        audit=audit,
        clock=clock,
    )
    api_keys = ApiKeys(store=store, signer=keys, audit=audit, clock=clock)
    delegation = Delegation(users=store, signer=keys, actor_keys=config.actor_keys(), audit=audit, clock=clock)
    servicer = Servicer(
        auth_pb2_grpc.add_AuthServiceServicer_to_server,
        AuthServicer(sessions, api_keys, delegation, keys),
        "parley.auth.v1.AuthService",
        OPEN_METHODS,
    )
    server = Server("auth", config.listen, [servicer], verifier=Verifier(keys.jwks, audience="auth", clock=clock))
    return server, Upkeep(keys, PostgresRemains(database), every_s=config.upkeep_every_s, clock=clock)


def key_ring(config: KeyConfig, database: Database, clock: Callable[[], float] = time.time) -> KeyRing:
    """Builds the ring of signing keys."""
    return KeyRing(
        PostgresKeys(database),
        Seal(config.encryption_key_bytes()),
        rotate_every=timedelta(days=config.key_rotation_days),
        overlap=timedelta(seconds=config.key_overlap_s),
        clock=clock,
    )
