"""Parley itself, started as `make run` starts it, with users and conversations, talking to the benchmark's provider."""

from __future__ import annotations

import asyncio
import dataclasses
import json
import os
import shutil
import sys
import tempfile
import time
import uuid
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self
from urllib.parse import urlsplit

from deploy.local.addresses import SERVICES
from deploy.local.settings import Settings
from deploy.local.stack import Stack
from deploy.local.unit import Service
from tests.bench import wire
from tests.bench.http_client import HttpClient, request
from tests.bench.targets import Seat

PROCESSES = ("edge", "chat", "gateway", "data", "auth", "postgres", "redis")
_USERS = 4
_NEWCOMERS_S = 300.0
"""How long they ask before others come: access tokens live for fifteen minutes, and a run with peers takes longer."""
_OPENED_AT_ONCE = 8
_ANSWER_TIMEOUT_S = 20.0
_KEPT = ("PATH", "HOME", "LANG", "TMPDIR")
_KEPT_PREFIXES = ("PARLEY_", "OTEL_")
_UNLIMITED = {
    # One person starts more turns here than people do.
    **{f"PARLEY_CHAT_REQUESTS_PER_{window}": "0" for window in ("MINUTE", "HOUR", "DAY")},
    # More than is ever used: it is kept count all the same.
    **{f"PARLEY_GATEWAY_{scope}_TOKENS_PER_DAY": "1000000000000" for scope in ("USER", "ORGANIZATION", "GLOBAL")},
}


class SetUpError(Exception):
    """Parley runs, but does not let the benchmark set itself up."""


class System:
    """The running system, from entering to leaving the block; its home is thrown away.

    Stores are those of `make run`, with every commit on the disk: what they cost belongs to the figures. Spans are sampled as
    always and exported nowhere, unless `OTEL_TRACES_EXPORTER` says otherwise.

    Args:
        provider: `host:port` of the provider that stands in for OpenAI.
        profile: Names of services that run under a sampling profiler; `profiles` holds what it saw once they have ended.
    """

    def __init__(self, provider: str, *, profile: Sequence[str] = ()) -> None:
        self._home = Path(tempfile.mkdtemp(prefix="parley-bench-"))
        self._stack = Stack(Settings(home=str(self._home), port=0), environ=_environment(provider))
        self._profile = profile
        self._bearers: list[str] = []
        self._came_at = 0.0
        self.profiles: dict[str, str] = {}

    async def __aenter__(self) -> Self:
        try:
            await self._stack.start()
            if self._profile:
                await self._restart_profiled()
            async with asyncio.timeout(_ANSWER_TIMEOUT_S):
                await self._let_users_come()
        except BaseException:
            await self._leave()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._leave()

    @property
    def edge(self) -> str:
        """Returns the edge's `host:port`."""
        return urlsplit(self._stack.edge_url).netloc

    @property
    def gateway(self) -> str:
        """Returns the gateway's `host:port`."""
        return str(self._stack.describe()["services"]["gateway"]["address"])

    @property
    def pids(self) -> dict[str, int]:
        """Returns the pids of the parts."""
        found = {name: self._stack.pid(name) for name in PROCESSES}
        return {name: pid for name, pid in found.items() if pid is not None}

    @property
    def logs(self) -> Path:
        """Returns the directory of the logs."""
        return self._home / "logs"

    async def callers(self, count: int) -> list[Seat]:
        """Returns seats without a conversation, spread over the users."""
        if time.monotonic() - self._came_at > _NEWCOMERS_S:
            await self._let_users_come()
        return [Seat(self._bearers[number % _USERS]) for number in range(count)]

    async def seats(self, count: int) -> list[Seat]:
        """Opens conversations, spread over the users, and returns a seat in each."""
        callers = asyncio.Queue[Seat]()
        for caller in await self.callers(count):
            callers.put_nowait(caller)
        found: list[Seat] = []

        async def open_some() -> None:
            client = await self._connect()
            while not callers.empty():
                bearer = callers.get_nowait().bearer
                conversation = await self._ask(client, "/v1/conversations", {}, bearer)
                found.append(Seat(bearer, conversation["id"]))
            client.close()

        async with asyncio.timeout(_ANSWER_TIMEOUT_S):
            await asyncio.gather(*(open_some() for _ in range(min(_OPENED_AT_ONCE, count))))
        return found

    async def _let_users_come(self) -> None:
        self._bearers = [await self._sign_up() for _ in range(_USERS)]
        self._came_at = time.monotonic()

    async def _sign_up(self) -> str:
        client = await self._connect()
        account = {"email": f"{uuid.uuid4().hex}@bench.example", "password": uuid.uuid4().hex}
        session = await self._ask(client, "/auth/v1/signup", account)
        client.close()
        return str(session["access_token"])

    async def _connect(self) -> HttpClient:
        host, _, port = self.edge.rpartition(":")
        return await HttpClient.connect(host, int(port))

    async def _ask(self, client: HttpClient, path: str, body: dict[str, Any], bearer: str = "") -> dict[str, Any]:
        exchange = client.ask(request("POST", path, json.dumps(body).encode(), bearer=bearer))
        await exchange.ended.wait()
        raw = b"".join(data for _, data in exchange.pieces)
        if wire.status(raw) not in {200, 201}:
            raise SetUpError(f"POST {path} answered {wire.refusal(raw)}")
        value: dict[str, Any] = json.loads(raw.partition(b"\r\n\r\n")[2])
        return value

    async def _restart_profiled(self) -> None:
        """Starts the services anew, some under the profiler: all of them, so that none waits to find another again."""
        for name in SERVICES:
            unit = self._stack.members[name].unit
            if name in self._profile and isinstance(unit, Service):
                unit.spec = dataclasses.replace(
                    unit.spec,
                    argv=(sys.executable, "-m", "tests.bench.profiled", f"services.{name}"),
                    env={**unit.spec.env, "PARLEY_BENCH_PROFILE": str(self._home / f"{name}.stacks")},
                )
            await self._stack.restart(name)

    async def _leave(self) -> None:
        await self._stack.stop(hurry=not self._profile)
        for path in self._home.glob("*.stacks"):
            self.profiles[path.stem] = path.read_text()
        shutil.rmtree(self._home, ignore_errors=True)


def _environment(provider: str) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if name in _KEPT or name.startswith(_KEPT_PREFIXES)}
    return (
        {
            "OTEL_TRACES_EXPORTER": "none",
            # A few users stand for many, and each run is measured against one call of a model.
            "PARLEY_CHAT_MAX_RUNS_PER_USER": "0",
            "PARLEY_CHAT_TITLE_MODEL": "",
        }
        | _UNLIMITED
        | kept
        | {"OPENAI_API_KEY": "bench", "OPENAI_BASE_URL": f"http://{provider}/v1"}
    )
