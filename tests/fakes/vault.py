"""A server that speaks as much of Vault's key/value store, version 2, as is read of it."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from tests.fakes.http_server import Exchange, HttpServer

if TYPE_CHECKING:
    from typing import Self


class FakeVault:
    """The server in this process; an async context manager.

    Attributes:
        secrets: Fields by path, the mount first.
        token: The one that is let in.
        ttl: Seconds our token has left, of a hundred.
        renewed: How often it was renewed.
        reads: Paths that were read.
        broken: Answers 503 to everything.
    """

    def __init__(self) -> None:
        self.secrets: dict[str, dict[str, Any]] = {}
        self.token = "hvs.root"
        self.ttl = 100
        self.renewed = 0
        self.reads: list[str] = []
        self.broken = False
        self._server = HttpServer(self._handle, port=0, changed=lambda: None)

    async def __aenter__(self) -> Self:
        await self._server.__aenter__()
        return self

    async def __aexit__(self, *error: object) -> None:
        await self._server.__aexit__(*error)

    @property
    def environ(self) -> dict[str, str]:
        """What a client is told."""
        return {"VAULT_ADDR": f"http://127.0.0.1:{self._server.port}", "VAULT_TOKEN": self.token}

    async def _handle(self, exchange: Exchange) -> None:
        request = exchange.request
        path = request.path.removeprefix("/v1/")
        if self.broken:
            await _reply(exchange, 503, {"errors": ["sealed"]})
        elif request.headers.get("x-vault-token") != self.token:
            await _reply(exchange, 403, {"errors": ["permission denied"]})
        elif path == "auth/token/lookup-self":
            await _reply(exchange, 200, {"data": {"ttl": self.ttl, "creation_ttl": 100, "renewable": True}})
        elif path == "auth/token/renew-self" and request.method == "POST":
            self.renewed += 1
            self.ttl = 100
            await _reply(exchange, 200, {"auth": {"lease_duration": 100, "renewable": True}})
        else:
            mount, _, rest = path.partition("/data/")
            self.reads.append(path)
            fields = self.secrets.get(f"{mount}/{rest}")
            if fields is None:
                await _reply(exchange, 404, {"errors": []})
            else:
                await _reply(exchange, 200, {"data": {"data": fields, "metadata": {"version": 1}}})


async def _reply(exchange: Exchange, status: int, body: object) -> None:
    await exchange.reply(status, json.dumps(body).encode(), "application/json")
