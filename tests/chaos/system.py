"""Two instances of each service with a link between any two processes that talk, so that each can be hurt by itself."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import functools
import os
import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Self

from deploy.local import secret_files
from deploy.local.addresses import SERVICES, service_of
from deploy.local.postgres import DATABASE
from deploy.local.settings import Settings
from deploy.local.stack import Stack
from tests.chaos.effects import LEDGER
from tests.chaos.provider import TURN, Provider
from tests.chaos.proxy import Link

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from deploy.local.unit import ProcessSpec

REPLICAS = 2
_PARTED = ("chat", "data")
NO_WAY_PAST = "127.0.0.2"
"""Services listen on 127.0.0.1 alone. Who calls them at another address finds no port there for a shared connection's direct way, which would
lead past the link: so all that is said goes over the link, and parting it parts them."""
_KEPT = ("PATH", "LANG", "HOME", "TMPDIR")
_SETTINGS = {
    # Cheap hashes and no throttle: what is tested here is not how people log in.
    "PARLEY_AUTH_HASH_MEMORY_KIB": "64",
    "PARLEY_AUTH_HASH_ITERATIONS": "1",
    "PARLEY_AUTH_SIGN_UPS_PER_HOUR": "1000000",
    "PARLEY_AUTH_ADDRESS_ATTEMPTS": "1000000",
    # One person starts more turns here than people do.
    **{f"PARLEY_CHAT_REQUESTS_PER_{window}": "0" for window in ("MINUTE", "HOUR", "DAY")},
    # More than is ever used: it is kept count all the same.
    **{f"PARLEY_GATEWAY_{scope}_TOKENS_PER_DAY": "1000000000000" for scope in ("USER", "ORGANIZATION", "GLOBAL")},
    "PARLEY_CHAT_SYSTEM_PROMPT": TURN,
    "PARLEY_CHAT_TOOLS": "tests.chaos.effects:NOTE_EFFECT",
    "PARLEY_EDGE_HEARTBEAT_S": "1",
    "PARLEY_GATEWAY_FIRST_TOKEN_TIMEOUT_S": "3",
    "PARLEY_GATEWAY_GAP_TIMEOUT_S": "3",
    "PARLEY_GATEWAY_OLLAMA_PROBE": "false",
    "OTEL_TRACES_EXPORTER": "none",
    "OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:9",  # so that no trace viewer is started
    # Shorter than many an answer: a drain has to hand over.
    **{f"PARLEY_{service.upper()}_DRAIN_GRACE_S": "4" for service in SERVICES},
}


class System:
    """Parley, running, from entering to leaving the block.

    Args:
        direct: Services may talk past the links, over the direct connections they offer one another; otherwise all they say goes through.

    Attributes:
        stack: The supervisor.
        provider: The model provider.
        links: By caller and callee, such as `("chat-1", "data-2")` and `("chat-1", "redis")`.
        ledger: Where the tool with an effect writes.
    """

    def __init__(self, *, direct: bool = True) -> None:
        self.home = Path(tempfile.mkdtemp(prefix="parley-chaos-"))
        self.home.chmod(0o711)  # an embedded Postgres may run as somebody else
        self.provider = Provider()
        self.links: dict[tuple[str, str], Link] = {}
        # A service offers a port of the interface it listens on, to be found on the host it was called by.
        self._host = "127.0.0.1" if direct else "127.0.0.2"
        self.ledger = self.home / "effects.jsonl"
        self._stack: Stack | None = None
        self._exits = contextlib.AsyncExitStack()
        self._opening: list[asyncio.Task[Link]] = []

    async def __aenter__(self) -> Self:
        try:
            await self._exits.enter_async_context(self.provider)
            environ = {name: os.environ[name] for name in _KEPT if name in os.environ} | _SETTINGS
            environ |= {"OPENAI_API_KEY": "sk-chaos", "OPENAI_BASE_URL": self.provider.base_url}
            self._stack = Stack(
                Settings(home=str(self.home), port=0, replicas=REPLICAS),
                ephemeral=True,
                environ=environ,
                amend=self._link,
                longest_pause_s=1.0,
            )
            self._exits.push_async_callback(self._close_links)
            await self._exits.enter_async_context(self._stack)
        except BaseException:
            await self.__aexit__()
            raise
        return self

    async def __aexit__(self, *error: object) -> None:
        try:
            await self._exits.aclose()
        finally:
            shutil.rmtree(self.home, ignore_errors=True)

    @property
    def stack(self) -> Stack:
        """The supervisor."""
        assert self._stack is not None
        return self._stack

    def links_of(self, caller: str, callee: str) -> list[Link]:
        """Returns the links between them; either may be an instance, a service or a store."""
        return [
            link
            for (one, other), link in self.links.items()
            if caller in {one, service_of(one)} and callee in {other, service_of(other)}
        ]

    def _link(self, spec: ProcessSpec) -> ProcessSpec:
        """Puts links in place of the addresses a process is told."""
        prefix = f"PARLEY_{service_of(spec.name).upper()}_"
        env = dict(spec.env) | {LEDGER: str(self.ledger)}
        for callee in SERVICES:
            name = f"{prefix}{callee.upper()}_ADDRESS"
            if name in env:
                env[name] = f"ipv4:{','.join(self._links_to(spec.name, callee, env[name]))}"
        if f"{prefix}DATABASE_URL_FILE" in env:
            role = f"parley_{service_of(spec.name)}"
            link = self._open(spec.name, "postgres", lambda: self.stack.members["postgres"].unit.address)
            password = secret_files.read_or_make(self.home / "secrets" / f"{role}_password")
            url = f"postgresql://{role}:{password}@{link.address}/{DATABASE}"
            env[f"{prefix}DATABASE_URL_FILE"] = self._secret(f"{spec.name}_database_url", url)
        if f"{prefix}REDIS_URL_FILE" in env:
            link = self._open(spec.name, "redis", lambda: self.stack.members["redis"].unit.address)
            password = secret_files.read_or_make(self.home / "secrets" / "redis_password")
            env[f"{prefix}REDIS_URL_FILE"] = self._secret(
                f"{spec.name}_redis_url", f"redis://:{password}@{link.address}/0"
            )
        return dataclasses.replace(spec, env=env)

    def _links_to(self, caller: str, callee: str, target: str) -> Iterator[str]:
        for number, address in enumerate(target.removeprefix("ipv4:").split(","), 1):
            yield self._open(caller, f"{callee}-{number}", functools.partial(str, address)).address

    def _open(self, caller: str, callee: str, target: Callable[[], str]) -> Link:
        host = NO_WAY_PAST if service_of(caller) in _PARTED else "127.0.0.1"
        link = self.links[caller, callee] = Link(target, host)
        self._opening.append(asyncio.ensure_future(link.__aenter__()))
        return link

    def _secret(self, name: str, value: str) -> str:
        return str(secret_files.write(self.home / "secrets" / name, value))

    async def _close_links(self) -> None:
        await asyncio.gather(*self._opening)
        for link in self.links.values():
            await link.__aexit__()
