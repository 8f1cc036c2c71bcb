"""An address, as gRPC names it, to the instances behind it."""

from __future__ import annotations

import asyncio
import socket


def is_fixed(address: str) -> bool:
    """Whether the address itself lists its instances, so that looking it up again tells nothing new."""
    return address.startswith(("ipv4:", "ipv6:", "unix:", "unix-abstract:"))


async def instances(address: str) -> list[str]:
    """Returns an address of its own, as gRPC writes it, for each instance.

    Args:
        address: `host:port`, `dns:///name:port`, `ipv4:a:1,b:2`, `ipv6:[a]:1,[b]:2` or `unix:path`; of any other kind none is known.

    Raises: OSError: the name cannot be looked up right now.
    """
    if is_fixed(address):
        scheme, _, several = address.partition(":")
        if scheme.startswith("unix"):
            return [address]
        return [f"{scheme}:{one.strip()}" for one in several.split(",") if one.strip()]
    if address.startswith("dns:"):
        address = address.removeprefix("dns:").rpartition("/")[2]
    elif "://" in address:
        return []
    host, _, port = address.rpartition(":")
    found = await asyncio.get_running_loop().getaddrinfo(host.strip("[]"), port, type=socket.SOCK_STREAM)
    listed = [(family, str(where[0]), int(where[1])) for family, _, _, _, where in found]
    return list(
        dict.fromkeys(
            f"ipv6:[{one}]:{number}" if family == socket.AF_INET6 else f"ipv4:{one}:{number}"
            for family, one, number in listed
        )
    )
