"""Connections to providers, kept open between calls: the one used last is used first, since it is the likeliest to live."""

from __future__ import annotations

import asyncio
import functools
import ipaddress
import socket
import ssl
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self
from urllib.parse import quote, urlsplit

from services.gateway.http.connection import Broken, Connection

if TYPE_CHECKING:
    from collections.abc import Mapping

    from aiohttp.abc import AbstractResolver

_CONNECT_TIMEOUT_S = 10.0
_IDLE_S = 60.0
_PORTS = {"http": 80, "https": 443}
_SAFE = "/%:@!$&'()*+,;=~?"


@dataclass(frozen=True, slots=True)
class Origin:
    """Where connections lead."""

    secure: bool
    host: str
    port: int


@functools.lru_cache(maxsize=1024)
def _place(url: str) -> tuple[Origin, str]:
    """Returns where a URL leads and how a POST to it begins. Raises: ValueError: it is no http(s) URL."""
    parts = urlsplit(url)
    host, port = parts.hostname, parts.port
    if parts.scheme not in _PORTS or not host:
        raise ValueError("not an http(s) URL")
    path = quote(parts.path or "/", safe=_SAFE) + (f"?{quote(parts.query, safe=_SAFE)}" if parts.query else "")
    named = f"[{host}]" if ":" in host else host.encode("idna").decode()
    if port is not None and port != _PORTS[parts.scheme]:
        named = f"{named}:{port}"
    origin = Origin(parts.scheme == "https", host, port or _PORTS[parts.scheme])
    return origin, f"POST {path} HTTP/1.1\r\nhost: {named}\r\n"


def written(headers: Mapping[str, str]) -> str:
    """Returns headers as a request holds them. Raises: ValueError: one is not a line."""
    fields = "".join([f"{name}: {value}\r\n" for name, value in headers.items()])
    if fields.count("\n") != len(headers) or fields.count("\r") != len(headers):
        raise ValueError("a header of several lines")
    return fields


class Post:
    """A request that is ready to be sent, but for headers that are known only then.

    Args:
        url: http(s), without user or password.
        fields: Headers but `host` and `content-length`, as `written` spells them.
        body: All of it.

    Attributes:
        origin: Where it goes.
        head: How it begins, without the end of its head.
        body: As given.

    Raises: ValueError: the URL cannot be asked.
    """

    __slots__ = ("body", "head", "origin")

    def __init__(self, url: str, fields: str, body: bytes) -> None:
        self.origin, line = _place(url)
        self.head = f"{line}{fields}content-length: {len(body)}\r\n".encode("latin-1")
        self.body = body


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


class Response:
    """An answer whose head is here.

    Attributes:
        status: HTTP status.
        headers: By lower-case names.
        read: See `Connection.read`.
    """

    __slots__ = ("_connection", "_origin", "_pool", "headers", "read", "status")

    def __init__(self, pool: Pool, origin: Origin, connection: Connection) -> None:
        self._pool = pool
        self._origin = origin
        self._connection = connection
        self.status = connection.status
        self.headers = connection.headers
        self.read = connection.read

    @property
    def over(self) -> bool:
        """Nothing of the body is left to be read."""
        return self._connection.over

    def close(self) -> None:
        """Keeps the connection for the next call where the body was read to its end; else closes it at once."""
        self._pool.give_back(self._origin, self._connection)


class Pool:
    """Opens connections and keeps them.

    Args:
        resolver: Finds the addresses of names.
        connections: Most at a time; further calls wait for one.
    """

    def __init__(self, resolver: AbstractResolver, *, connections: int) -> None:
        self._resolver = resolver
        self._limit = connections
        self._live: set[Connection] = set()
        self._opening = 0
        self._idle: dict[Origin, list[tuple[float, Connection]]] = {}
        self._waiting: deque[asyncio.Future[None]] = deque()
        self._sweep: asyncio.TimerHandle | None = None
        # It reads the machine's certificates, which takes its time.
        self._tls = ssl.create_default_context()
        self._tls.set_alpn_protocols(["http/1.1"])

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._sweep is not None:
            self._sweep.cancel()
        for connection in tuple(self._live):
            connection.close()
        await asyncio.sleep(0)

    async def post(self, post: Post, headers: Mapping[str, str]) -> Response:
        """Sends a request; redirects are answers as others are.

        A connection that has answered before, and closes without a byte in reply to this, was most likely closed before the request arrived: once
        a call, the same bytes are sent again over another. A provider may have begun the work all the same, as with any client's retries. No header
        would tell it so: neither OpenAI's API nor Anthropic's is documented to know a key of idempotency, and their own clients send none.

        Args:
            post: The request.
            headers: Those it lacks.

        Raises: ValueError: a header cannot be sent; OSError, TimeoutError: there is no connection, or it broke.
        """
        origin = post.origin
        head = post.head + written(headers).encode("latin-1") + b"\r\n"
        connection, again = self._kept(origin), False
        while True:
            if connection is None:
                connection = await self._open(origin)
            try:
                await connection.ask(head, post.body)
            except Broken as broken:
                connection.close()
                if again or not (connection.used and broken.silent):
                    raise
                connection, again = None, True
            except BaseException:
                connection.close()
                raise
            else:
                return Response(self, origin, connection)

    def give_back(self, origin: Origin, connection: Connection) -> None:
        """Keeps a connection that can be used again, and closes any other."""
        if not connection.reusable:
            connection.close()
            return
        loop = asyncio.get_running_loop()
        self._idle.setdefault(origin, []).append((loop.time(), connection))
        # Whoever waits takes it, or its place where it leads elsewhere.
        self._next()
        if self._sweep is None:
            self._sweep = loop.call_later(_IDLE_S, self._close_idle)

    def _kept(self, origin: Origin) -> Connection | None:
        kept = self._idle.get(origin)
        while kept:
            _, connection = kept.pop()
            if connection.reusable:
                return connection
            connection.close()
        return None

    async def _open(self, origin: Origin) -> Connection:
        while len(self._live) + self._opening >= self._limit:
            if self._make_room():
                continue
            turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._waiting.append(turn)
            try:
                await turn
            except asyncio.CancelledError:
                if turn.done() and not turn.cancelled():
                    self._next()
                raise
            if (connection := self._kept(origin)) is not None:
                return connection
        self._opening += 1
        try:
            async with asyncio.timeout(_CONNECT_TIMEOUT_S):
                connection = await self._connect(origin)
        except BaseException:
            self._next()
            raise
        finally:
            self._opening -= 1
        if connection.open:
            self._live.add(connection)
        else:
            self._next()
        return connection

    async def _connect(self, origin: Origin) -> Connection:
        """Tries the addresses of a name in turn; one that says nothing leaves time for the others."""
        addresses = [origin.host]
        if not _is_address(origin.host):
            found = await self._resolver.resolve(origin.host, origin.port, socket.AF_UNSPEC)
            addresses = [one["host"] for one in found]
        while True:
            address = addresses.pop(0)
            try:
                async with asyncio.timeout(_CONNECT_TIMEOUT_S / 4 if addresses else None):
                    _, connection = await asyncio.get_running_loop().create_connection(
                        lambda: Connection(self._forget),
                        address,
                        origin.port,
                        ssl=self._tls if origin.secure else None,
                        server_hostname=origin.host if origin.secure else None,
                    )
                    return connection
            except (OSError, TimeoutError):
                if not addresses:
                    raise

    def _make_room(self) -> bool:
        """Closes the connection that nobody has used for longest; tells whether there is one."""
        oldest = min((kept for kept in self._idle.values() if kept), key=lambda kept: kept[0][0], default=None)
        if oldest is None:
            return False
        self._forget(connection := oldest.pop(0)[1])
        connection.close()
        return True

    def _forget(self, connection: Connection) -> None:
        if connection in self._live:
            self._live.discard(connection)
            self._next()

    def _next(self) -> None:
        while self._waiting:
            turn = self._waiting.popleft()
            if not turn.done():
                turn.set_result(None)
                return

    def _close_idle(self) -> None:
        loop = asyncio.get_running_loop()
        self._sweep = None
        old = loop.time() - _IDLE_S
        for origin, kept in list(self._idle.items()):
            self._idle[origin] = [one for one in kept if one[0] > old and one[1].open]
            for since, connection in kept:
                if since <= old:
                    connection.close()
            if not self._idle[origin]:
                del self._idle[origin]
        if self._idle:
            self._sweep = loop.call_later(_IDLE_S / 2, self._close_idle)
