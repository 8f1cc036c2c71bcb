"""Who listens where: settled before anything starts, so that everybody can be told of everybody."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from deploy.local.ports import free_port, is_free

if TYPE_CHECKING:
    from collections.abc import Iterator

SERVICES = ("auth", "data", "gateway", "chat", "edge")
_HIGHEST_PORT = 65_535


def instances(service: str, replicas: int) -> tuple[str, ...]:
    """Returns the names of a service's instances: its own name where it has one alone, else numbered from 1."""
    return (service,) if replicas == 1 else tuple(f"{service}-{number}" for number in range(1, replicas + 1))


def service_of(name: str) -> str:
    """Returns the service an instance is of; any other part's name is its own."""
    service, _, number = name.rpartition("-")
    return service if service in SERVICES and number.isdigit() else name


@dataclass(frozen=True)
class Addresses:
    """Where everything listens.

    Attributes:
        listen: `host:port` of each instance of each service, by its name.
        metrics: The same for its metrics.
        demo_provider: `host:port`, as the following.
        trace_viewer: The page.
        trace_receiver: Where spans go.
    """

    listen: Mapping[str, str]
    metrics: Mapping[str, str]
    demo_provider: str
    trace_viewer: str
    trace_receiver: str

    @classmethod
    def choose(cls, host: str, port: int, replicas: int = 1) -> Addresses:
        """Takes free ports for all but the edges: they get `host:port` and the next free ones (0: any free one)."""
        names = [name for service in SERVICES for name in instances(service, replicas)]
        edges = dict(zip(instances("edge", replicas), _edge_ports(host, port), strict=False))
        free = _free_ports(set(edges.values()))
        return cls(
            listen={name: f"{host}:{edges[name]}" if name in edges else f"127.0.0.1:{next(free)}" for name in names},
            metrics={name: f"127.0.0.1:{next(free)}" for name in names},
            demo_provider=f"127.0.0.1:{next(free)}",
            trace_viewer=f"127.0.0.1:{next(free)}",
            trace_receiver=f"127.0.0.1:{next(free)}",
        )

    def local(self, name: str) -> str:
        """Returns the address of an instance as this machine reaches it."""
        host, _, port = self.listen[name].rpartition(":")
        return f"{'127.0.0.1' if host in {'0.0.0.0', ''} else host}:{port}"

    def of(self, service: str) -> tuple[str, ...]:
        """Returns the addresses of a service's instances."""
        return tuple(self.local(name) for name in self.listen if service_of(name) == service)


def target(addresses: tuple[str, ...]) -> str:
    """Returns what a gRPC channel is given to spread calls over all of these: the plain address where there is but one."""
    return addresses[0] if len(addresses) == 1 else f"ipv4:{','.join(addresses)}"


def _free_ports(taken: set[int]) -> Iterator[int]:
    while True:
        port = free_port()
        if port not in taken:
            taken.add(port)
            yield port


def _edge_ports(host: str, port: int) -> Iterator[int]:
    if not port:
        return _free_ports(set())
    # The first is the user's wish, taken or not: that is found out, and said, later.
    following = (other for other in range(port + 1, _HIGHEST_PORT + 1) if is_free(other, host))
    return itertools.chain([port], following, _free_ports(set()))
