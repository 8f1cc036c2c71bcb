"""Addresses at which no provider is: where clouds tell machines their credentials, and those that are nobody's."""

from __future__ import annotations

import ipaddress
import socket
from typing import TYPE_CHECKING

from aiohttp.resolver import ThreadedResolver

if TYPE_CHECKING:
    from aiohttp.abc import ResolveResult

_METADATA = frozenset({"fd00:ec2::254", "100.100.100.200", "168.63.129.16"})
# They hold an IPv4 address in their last bytes: NAT64, and the two old ways of writing one as IPv6.
_CARRIERS = (ipaddress.ip_network("64:ff9b::/96"), ipaddress.ip_network("::/96"), ipaddress.ip_network("::ffff:0:0/96"))
_SIX_TO_FOUR = ipaddress.ip_network("2002::/16")


def is_special(host: str) -> bool:
    """Tells whether a host is such an address, however it is written; a name is none."""
    address = _read(host)
    if address is None:
        return False
    return address.is_link_local or address.is_multicast or address.is_unspecified or str(address) in _METADATA


def _read(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        address = ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        try:
            # Numbers of any base and of fewer parts, as every resolver takes them: 2852039166, 0xa9fea9fe, 169.254.43518.
            return ipaddress.IPv4Address(socket.inet_aton(host)) if " " not in host else None
        except OSError:
            return None
    if isinstance(address, ipaddress.IPv6Address) and not (address.is_loopback or address.is_unspecified):
        if any(address in carrier for carrier in _CARRIERS):
            return ipaddress.IPv4Address(address.packed[12:])
        if address in _SIX_TO_FOUR:
            return ipaddress.IPv4Address(address.packed[2:6])
    return address


class GuardedResolver(ThreadedResolver):
    """Resolves names, but to none of these addresses: what a name leads to can change after it was looked at."""

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        """See `ThreadedResolver.resolve`. Raises: OSError: it leads nowhere else."""
        found = await super().resolve(host, port, family)
        if not (allowed := [one for one in found if not is_special(one["host"])]):
            raise OSError(None, "the name leads to an address where no provider is")
        return allowed
