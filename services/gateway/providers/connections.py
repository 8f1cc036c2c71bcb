"""What reaches providers where our own connections do not do, and the proxy each of them is reached through."""

from __future__ import annotations

import functools
import ipaddress
import urllib.request
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import aiohttp
import msgspec

from services.gateway.providers.addresses import GuardedResolver

if TYPE_CHECKING:
    from collections.abc import Mapping

    from services.gateway.http.connection import Tap

_CONNECT_TIMEOUT_S = 10.0
ALWAYS = {"accept": "*/*", "accept-encoding": "identity", "user-agent": "parley-gateway"}
"""Headers of every request."""


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
        headers=ALWAYS,
        cookie_jar=aiohttp.DummyCookieJar(),
        json_serialize=lambda value: msgspec.json.encode(value).decode(),
        # It would look for a proxy and for a .netrc with each request, in a thread: see `proxy_for`.
        trust_env=False,
    )


class ProxiedResponse:
    """An answer that aiohttp reads; as `http.pool.Response`.

    Attributes:
        status: HTTP status.
        headers: By name, in whatever case.
    """

    def __init__(self, response: aiohttp.ClientResponse) -> None:
        self._response = response
        self.status = response.status
        self.headers: Mapping[str, str] = response.headers

    @property
    def over(self) -> bool:
        """Nothing of the body is left to be read."""
        return self._response.content.at_eof()

    async def read(self, _tap: Tap | None = None) -> bytes:
        """Returns all of the body that has arrived, at least a byte; nothing at its end. Nothing is tapped. Raises: aiohttp.ClientError, OSError."""
        return await self._response.content.readany()

    def close(self) -> None:
        """Closes the connection, unless the body was read to its end."""
        self._response.close()


async def post_by_session(
    session: aiohttp.ClientSession, url: str, headers: Mapping[str, str], body: bytes, proxy: str | None
) -> ProxiedResponse:
    """Sends a request through a proxy, or with what a URL says of a user.

    Raises: aiohttp.ClientError, OSError, TimeoutError, ValueError.
    """
    # A redirect would carry prompt and key to wherever it points.
    return ProxiedResponse(await session.post(url, data=body, headers=headers, proxy=proxy, allow_redirects=False))


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
