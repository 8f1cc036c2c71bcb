"""The pool of connections to providers, and the proxy each of them is reached through."""

from __future__ import annotations

import functools
import ipaddress
import urllib.request
from urllib.parse import urlsplit

import aiohttp
import msgspec

from services.gateway.providers.addresses import GuardedResolver

_CONNECT_TIMEOUT_S = 10.0


def open_session(*, connections: int) -> aiohttp.ClientSession:
    """Opens the pool.

    Args:
        connections: Most connections at a time; further calls wait for one.
    """
    return aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(
            limit=connections, keepalive_timeout=60, ttl_dns_cache=60, resolver=GuardedResolver()
        ),
        timeout=aiohttp.ClientTimeout(total=None, sock_connect=_CONNECT_TIMEOUT_S),
        headers={"accept-encoding": "identity", "user-agent": "parley-gateway"},
        cookie_jar=aiohttp.DummyCookieJar(),
        json_serialize=lambda value: msgspec.json.encode(value).decode(),
        # It would look for a proxy and for a .netrc with each request, in a thread: see `proxy_for`.
        trust_env=False,
    )


@functools.lru_cache(maxsize=256)
def proxy_for(base_url: str) -> str | None:
    """Returns the proxy that the usual variables (`HTTPS_PROXY`, `NO_PROXY`, …) name for a URL, or None.

    What runs on this machine is never reached through one, whether or not `NO_PROXY` says so.
    """
    parts = urlsplit(base_url)
    host = parts.hostname or ""
    if not host or _is_here(host) or urllib.request.proxy_bypass(host):
        return None
    return urllib.request.getproxies().get(parts.scheme)


def _is_here(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
