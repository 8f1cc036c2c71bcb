"""The whole of Parley on one machine: starts its parts in order of their health, keeps them alive, stops them."""

from __future__ import annotations

import asyncio
import datetime as dt
import itertools
import os
from typing import TYPE_CHECKING, Any, Self

from deploy.local import topology
from deploy.local.addresses import SERVICES, Addresses, instances, service_of
from deploy.local.home import Home
from deploy.local.member import LONGEST_PAUSE_S, Member, State
from deploy.local.ports import is_free
from deploy.local.postgres import EmbeddedPostgres
from deploy.local.redis import EmbeddedRedis
from deploy.local.unit import Migration, Outside, Service, StartError, Store

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from types import TracebackType

    from deploy.local.settings import Settings
    from deploy.local.unit import ProcessSpec, Unit


class Stack:
    """Parley as a set of processes under one supervisor.

        async with Stack(Settings(home=str(tmp_path), port=0), ephemeral=True) as stack:
            ... stack.edge_url ...
            await stack.kill("chat")
            await stack.ready("chat")

    With `Settings(replicas=2)` there are two instances of each service, named `chat-1` and `chat-2`.

    Attributes:
        home: Where its files are.
        members: Its parts by name, in the order in which they depend on one another.
        edge_url: The one URL a person needs: the first edge's.
        edge_urls: The URL of each edge.
        traces_url: The trace viewer's page; None where the user sends traces elsewhere.
        demo_provider_url: Base URL of the demo provider, `…/v1`.
    """

    def __init__(
        self,
        settings: Settings,
        *,
        ephemeral: bool = False,
        environ: Mapping[str, str] = os.environ,
        on_change: Callable[[Member], None] = lambda _: None,
        amend: Callable[[ProcessSpec], ProcessSpec] = lambda spec: spec,
        longest_pause_s: float = LONGEST_PAUSE_S,
    ) -> None:
        """Describes the stack, without starting it.

        Args:
            settings: Where and with which stores.
            ephemeral: For tests: databases are thrown away at the end and nothing waits for the disk.
            environ: The user's environment, of which each process sees its part.
            on_change: Called when a part changes its state.
            amend: For tests: changes a row of the table of processes before anything starts.
            longest_pause_s: Most seconds between a part's end and its next start, however often it ends.
        """
        self.home = Home(settings.home)
        self.members: dict[str, Member] = {}
        self._settings = settings
        self._ephemeral = ephemeral
        self._environ = dict(environ)
        self._on_change = on_change
        self._amend = amend
        self._longest_pause_s = longest_pause_s
        self._embedded: list[EmbeddedPostgres | EmbeddedRedis] = []
        self._complete = False
        self._started_at = ""
        self.edge_url = ""
        self.edge_urls: tuple[str, ...] = ()
        self.traces_url: str | None = None
        self.demo_provider_url = ""

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()

    async def start(self) -> None:
        """Starts everything and returns when all of it is healthy; where that fails, nothing is left running.

        Raises: HomeTakenError: somebody else runs on this home. StartError: a part cannot become healthy.
        """
        host, port = self._settings.host, self._settings.port
        self.home.take()
        try:
            _check_free(host, port)
            self._lay_out(Addresses.choose(host, port, self._settings.replicas))
            await self._start_members()
        except BaseException:
            await self.stop(hurry=True)  # nobody has been served yet
            raise
        self._started_at = dt.datetime.now(dt.UTC).isoformat(timespec="milliseconds")
        self._complete = True
        self.home.write_run(self.describe())

    async def stop(self, *, hurry: bool = False) -> None:
        """Stops everything, callers before those they call, stores last; a service's instances together.

        Args:
            hurry: Calls under way get no grace.
        """
        self._complete = False
        for _, members in itertools.groupby(
            reversed(self.members.values()), lambda member: service_of(member.unit.name)
        ):
            async with asyncio.TaskGroup() as group:
                for member in members:
                    group.create_task(member.stop(hurry=hurry))
        for server in self._embedded:
            await server.stop()
        self.home.remove_run()
        self.home.release()

    async def restart(self, name: str) -> None:
        """Stops one part in order, starts it again and returns when it is healthy."""
        await self.halt(name)
        await self.resume(name)

    async def roll(self, service: str) -> None:
        """Restarts a service's instances one after the other, each once the one before is healthy, as a rolling deploy does."""
        for name in self.instances(service):
            await self.restart(name)

    async def halt(self, name: str) -> None:
        """Stops one part in order and leaves it so."""
        await self.members[name].stop()

    async def resume(self, name: str) -> None:
        """Starts a halted part and returns when it is healthy."""
        await self.members[name].start()

    async def kill(self, name: str) -> None:
        """Kills one part's process; it is started again after a pause. Returns when it is dead."""
        await self.members[name].kill()

    async def ready(self, name: str) -> None:
        """Returns when the part is healthy."""
        await self.members[name].ready()

    def instances(self, service: str) -> tuple[str, ...]:
        """Returns the names of a service's instances."""
        return instances(service, self._settings.replicas)

    def pid(self, name: str) -> int | None:
        """Returns the pid of a part's process, None where it has none."""
        process = self.members[name].unit.process
        return None if process is None else process.pid

    @property
    def database_url(self) -> str:
        """Returns the URL of Postgres, with its owner's credentials."""
        return (self.home.secrets / "owner_database_url").read_text()

    @property
    def redis_url(self) -> str:
        """Returns the URL of Redis."""
        return (self.home.secrets / "redis_url").read_text()

    def describe(self) -> dict[str, Any]:
        """Returns what runs, as run.json says it."""
        return {
            "edge_url": self.edge_url,
            "edge_urls": self.edge_urls,
            "traces_url": self.traces_url,
            "services": {name: self._describe(name) for name in self.members if service_of(name) in SERVICES},
            "helpers": {name: self._describe(name) for name in topology.HELPERS if name in self.members},
            "database_url": self.database_url,
            "redis_url": self.redis_url,
            "demo_provider_url": self.demo_provider_url,
            "launcher_pid": os.getpid(),
            "started_at": self._started_at,
        }

    def _describe(self, name: str) -> dict[str, Any]:
        unit = self.members[name].unit
        described = {"pid": self.pid(name), "address": unit.address}
        return described | ({"metrics_address": unit.spec.metrics_address} if isinstance(unit, Service) else {})

    def _lay_out(self, addresses: Addresses) -> None:
        self.edge_urls = tuple(f"http://{address}" for address in addresses.of("edge"))
        self.edge_url = self.edge_urls[0]
        self.demo_provider_url = f"http://{addresses.demo_provider}/v1"
        if not topology.sends_traces_elsewhere(self._environ):
            self.traces_url = f"http://{addresses.trace_viewer}"
        for unit in [*self._stores(), *self._processes(addresses)]:
            self.home.rotate(unit.name)
            self.members[unit.name] = Member(unit, self._changed, longest_pause_s=self._longest_pause_s)

    def _stores(self) -> list[Unit]:
        owner_url_file, redis_url_file = self.home.secrets / "owner_database_url", self.home.secrets / "redis_url"
        units: list[Unit] = []
        if self._settings.database_url is not None:
            units.append(Outside("postgres", self._settings.database_url.reveal(), owner_url_file))
        else:
            postgres = EmbeddedPostgres(self.home.path, ephemeral=self._ephemeral)
            self._embedded.append(postgres)
            units.append(Store("postgres", postgres, owner_url_file))
        if self._settings.redis_url is not None:
            units.append(Outside("redis", self._settings.redis_url.reveal(), redis_url_file))
        else:
            redis = EmbeddedRedis(self.home.path, ephemeral=self._ephemeral)
            self._embedded.append(redis)
            units.append(Store("redis", redis, redis_url_file))
        return units

    def _processes(self, addresses: Addresses) -> list[Unit]:
        owner_url_file = self.home.secrets / "owner_database_url"
        return [
            *(Service(spec, self.home.log(spec.name)) for spec in topology.helpers(addresses, self._environ)),
            *(
                Migration(
                    spec,
                    self.home.log(spec.name),
                    role=f"parley_{spec.name.removeprefix('migrate-')}",
                    secrets=self.home.secrets,
                    owner_url_file=owner_url_file,
                )
                for spec in topology.migrations(self.home, self._environ)
            ),
            *(
                Service(self._amend(spec), self.home.log(spec.name))
                for spec in topology.services(self.home, addresses, self._environ)
            ),
        ]

    async def _start_members(self) -> None:
        try:
            async with asyncio.TaskGroup() as group:
                for member in self.members.values():
                    group.create_task(self._start_in_turn(member))
        except BaseExceptionGroup as failures:
            if (first := failures.subgroup(StartError)) is not None:
                raise first.exceptions[0] from None
            raise

    async def _start_in_turn(self, member: Member) -> None:
        for name in member.unit.after:
            await self.members[name].ready()
        await member.start()

    def _changed(self, member: Member) -> None:
        if self._complete and member.state is State.READY:
            self.home.write_run(self.describe())  # a new pid
        self._on_change(member)


def _check_free(host: str, port: int) -> None:
    if port and not is_free(port, host):
        raise StartError(f"Port {port} on {host} is taken. Set PARLEY_PORT to another one (0: any free port).")
