"""Reads secrets from HashiCorp Vault or OpenBao, key/value store version 2."""

from __future__ import annotations

import asyncio
import ssl
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import aiohttp
import msgspec
import structlog

from runtime.config import ConfigError
from services.gateway.providers.connections import proxy_for

if TYPE_CHECKING:
    from collections.abc import Mapping

log = structlog.stdlib.get_logger()

_TIMEOUT_S = 5.0
_MAX_BYTES = 1024 * 1024
_OK = 200
_DATA = "data"


class VaultError(Exception):
    """A secret could not be read; the text says why and holds nothing of it."""


class Vault:
    """One server.

    Args:
        environ: `VAULT_ADDR`; `VAULT_TOKEN`, or `VAULT_TOKEN_FILE`, which is read anew each time, since an agent may replace it; where they are
            used, `VAULT_NAMESPACE` and `VAULT_CACERT`.
        session: Connections.

    Raises: ConfigError: the certificates cannot be read.
    """

    def __init__(self, environ: Mapping[str, str], session: aiohttp.ClientSession) -> None:
        self._address = environ.get("VAULT_ADDR", "").rstrip("/")
        self._token = environ.get("VAULT_TOKEN", "")
        self._token_file = environ.get("VAULT_TOKEN_FILE", "")
        self._tls = _trusting(environ.get("VAULT_CACERT", ""))
        self._headers = {"X-Vault-Request": "true"}
        if namespace := environ.get("VAULT_NAMESPACE"):
            self._headers["X-Vault-Namespace"] = namespace
        self._session = session

    async def read(self, path: str, field: str) -> str:
        """Returns a field of the newest version of a secret.

        Args:
            path: With its mount first: `secret/providers/openai`, or as the HTTP API has it, `secret/data/providers/openai`.
            field: Name of the field.

        Raises: VaultError.
        """
        mount, _, rest = path.strip("/").partition("/")
        within = rest.removeprefix(f"{_DATA}/")
        answer = await self._ask("GET", f"{mount}/{_DATA}/{within}")
        outer = answer.get(_DATA)
        fields = outer.get(_DATA) if isinstance(outer, dict) else None
        value = fields.get(field) if isinstance(fields, dict) else None
        if not isinstance(value, str) or not value:
            raise VaultError("the vault has no such field")
        return value

    async def renew(self) -> None:
        """Renews our own token once half its life is over, where it can be; what cannot be is logged, since it will show soon enough."""
        try:
            answer = (await self._ask("GET", "auth/token/lookup-self")).get(_DATA)
            told = answer if isinstance(answer, dict) else {}
            ttl, whole = told.get("ttl"), told.get("creation_ttl")
            if (
                told.get("renewable") is True
                and isinstance(ttl, int)
                and isinstance(whole, int)
                and 0 < ttl < whole / 2
            ):
                await self._ask("POST", "auth/token/renew-self")
                log.info("vault_token_renewed")
        except VaultError as error:
            log.warning("vault_token_not_renewed", cause=str(error))

    async def _ask(self, method: str, path: str) -> dict[str, Any]:
        if not self._address:
            raise VaultError("VAULT_ADDR is not set")
        url = f"{self._address}/v1/{quote(path)}"
        try:
            async with self._session.request(
                method,
                url,
                headers={**self._headers, "X-Vault-Token": await asyncio.to_thread(self._read_token)},
                ssl=self._tls,
                proxy=proxy_for(self._address),
                allow_redirects=False,
                timeout=aiohttp.ClientTimeout(total=_TIMEOUT_S),
            ) as response:
                if response.status != _OK:
                    raise VaultError(f"the vault answered with status {response.status}")
                raw = await response.content.read(_MAX_BYTES)
                while len(raw) < _MAX_BYTES and (more := await response.content.read(_MAX_BYTES - len(raw))):
                    raw += more
        except (aiohttp.ClientError, TimeoutError, OSError, ValueError) as error:
            raise VaultError(f"the vault cannot be reached ({type(error).__name__})") from None
        try:
            return msgspec.json.decode(raw, type=dict[str, Any])
        except (msgspec.DecodeError, msgspec.ValidationError, RecursionError, UnicodeError):
            raise VaultError("the vault's answer is not JSON") from None

    def _read_token(self) -> str:
        if not self._token_file:
            return self._token
        try:
            return Path(self._token_file).read_text(encoding="utf-8").strip()
        except (OSError, UnicodeError):
            raise VaultError("the file with the vault's token cannot be read") from None


def _trusting(path: str) -> ssl.SSLContext | bool:
    try:
        return ssl.create_default_context(cafile=path) if path else True
    except (OSError, ssl.SSLError):
        raise ConfigError("VAULT_CACERT names no file with certificates.") from None
