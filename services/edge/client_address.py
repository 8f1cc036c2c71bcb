"""The network address a request came from, seen through the proxies that are trusted."""

from __future__ import annotations

import ipaddress
from typing import TYPE_CHECKING

from runtime.config import ConfigError

if TYPE_CHECKING:
    from starlette.types import Scope

    Network = ipaddress.IPv4Network | ipaddress.IPv6Network


class ClientAddress:
    """Finds the last address that is not one of our own proxies: what stands left of it in `X-Forwarded-For` anyone may have written.

    Args:
        trusted_proxies: Addresses or networks.

    Raises: ConfigError: one of them is neither.
    """

    def __init__(self, trusted_proxies: tuple[str, ...]) -> None:
        try:
            self._trusted: list[Network] = [ipaddress.ip_network(text, strict=False) for text in trusted_proxies]
        except ValueError as error:
            raise ConfigError(f"PARLEY_EDGE_TRUSTED_PROXIES: {error}") from None

    def of(self, scope: Scope) -> str:
        """Returns the client's address; empty where the connection has none."""
        client = scope.get("client")
        peer = client[0] if client else ""
        forwarded = b",".join(value for name, value in scope["headers"] if name == b"x-forwarded-for").decode("latin-1")
        hops = [hop.strip() for hop in forwarded.split(",")] if forwarded else []
        found: str = peer
        while hops and self._trusts(found):
            hop = hops.pop()
            if _parsed(hop) is None:
                break
            found = hop
        return found

    def _trusts(self, address: str) -> bool:
        parsed = _parsed(address)
        return parsed is not None and any(parsed in network for network in self._trusted)


def _parsed(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(text)
    except ValueError:
        return None
