"""Finds free TCP ports on loopback."""

from __future__ import annotations

import random
import socket
from pathlib import Path

_RANGE = Path("/proc/sys/net/ipv4/ip_local_port_range")
_LOWEST = 15000
_ATTEMPTS = 200


def free_port(host: str = "127.0.0.1") -> int:
    """Returns a port nobody listens on.

    It lies outside the range from which the kernel takes ports for outgoing connections, so that no connection made
    before a process listens (or while it restarts) takes its port away.

    Raises: OSError: where no port is to be had.
    """
    try:
        highest = max(_LOWEST + 1, int(_RANGE.read_text().split()[0]) - 1)
    except OSError:
        highest = 32767
    for _ in range(_ATTEMPTS):
        port = random.randint(_LOWEST, highest)  # noqa: S311 - no secret
        if is_free(port, host):
            return port
    with socket.create_server((host, 0)) as server:
        return int(server.getsockname()[1])


def is_free(port: int, host: str = "127.0.0.1") -> bool:
    """Says whether a server could listen on this port now."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError:
            return False
    return True
