"""The caller's connections: one for each instance of a service, used in turn."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING

import structlog

from runtime.mux.addresses import instances, is_fixed
from runtime.mux.link import Link

if TYPE_CHECKING:
    from collections.abc import Callable

    import grpc

log = structlog.stdlib.get_logger()

_LOOK_UP_EVERY_S = 30.0
_LOOK_UP_AT_MOST_EVERY_S = 1.0


class Spread:
    """Connections to all instances behind an address.

    Args:
        address: As `runtime.mux.addresses` takes it.
        open_channel: Opens a plain channel to one instance.
        look_up_every_s: How often the instances are looked up again; also soon after a connection broke.
    """

    def __init__(
        self,
        address: str,
        open_channel: Callable[[str], grpc.aio.Channel],
        *,
        look_up_every_s: float = _LOOK_UP_EVERY_S,
    ) -> None:
        self._address = address
        self._open_channel = open_channel
        self._look_up_every_s = look_up_every_s
        self._links: list[Link] = []
        self._leaving: set[asyncio.Task[None]] = set()
        self._turn = 0
        self._look_up = asyncio.Event()
        self._changed = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    @property
    def calls(self) -> int:
        """How many calls are under way."""
        return sum(link.calls for link in self._links)

    @property
    def ready(self) -> int:
        """How many connections take calls."""
        return sum(link.ready for link in self._links)

    def start(self) -> None:
        """Begins to connect."""
        if self._task is None:
            self._task = asyncio.create_task(self._follow())

    def pick(self) -> Link | None:
        """Returns the next connection in turn; None: there is none, or it is the turn of an instance that does not know this way of calling."""
        links = self._links
        for _ in range(len(links)):
            self._turn = (self._turn + 1) % len(links)
            link = links[self._turn]
            if link.open:
                return link
            if link.unknown:
                return None
        return None

    async def wait_ready(self) -> None:
        """Returns once every known instance is connected, and at least one is."""
        while not self._links:
            self._changed.clear()
            await self._changed.wait()
        for link in list(self._links):
            await link.wait_ready()

    async def close(self) -> None:
        """Closes every connection; calls under way end as cancelled."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])
        links, self._links = self._links, []
        for link in links:
            await link.close()
        for leaving in self._leaving:
            leaving.cancel()
        if self._leaving:
            await asyncio.wait(self._leaving)

    async def _follow(self) -> None:
        while True:
            try:
                self._use(await instances(self._address))
            except OSError:
                # What is known stays: a name service that is away takes no instance with it.
                log.warning("look_up_failed", **{"server.address": self._address})
            if is_fixed(self._address):
                return
            self._look_up.clear()
            await asyncio.sleep(_LOOK_UP_AT_MOST_EVERY_S)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._look_up_every_s):
                    await self._look_up.wait()

    def _use(self, addresses: list[str]) -> None:
        known = {link.address: link for link in self._links}
        self._links = [
            known[address] if address in known else Link(address, self._open_channel, self._look_up.set)
            for address in addresses
        ]
        for gone in known.keys() - set(addresses):
            task = known[gone].leave()
            self._leaving.add(task)
            task.add_done_callback(self._leaving.discard)
        self._changed.set()
