"""Secrets that are kept elsewhere: `env:NAME`, `file:PATH`, `vault:PATH#FIELD`."""

from __future__ import annotations

import asyncio
import re
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import TYPE_CHECKING

import structlog

from services.gateway.admin.vault import VaultError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from services.gateway.admin.vault import Vault

log = structlog.stdlib.get_logger()

_SCHEMES = ("env:", "file:", "vault:")
_ENV = re.compile(r"env:[A-Za-z_][A-Za-z0-9_]{0,127}")
_FILE = re.compile(r"file:/[^\x00-\x1f]{1,1000}")
_VAULT = re.compile(r"vault:[A-Za-z0-9._-]+(?:/[A-Za-z0-9._ -]+)+#[A-Za-z0-9._-]{1,128}")
_MAX_FILE_BYTES = 16 * 1024
# Not keys of providers: what the gateway itself is told, and what the kernel shows as files.
_OWN = ("PARLEY_", "VAULT_", "PG")
_NO_FILES = ("/proc/", "/sys/", "/dev/")
# Beneath it Kubernetes puts the pod's own credential.
_CLUSTER = "kubernetes.io"
_SHOWN = 4
_LONG = 20


class SecretUnavailable(Exception):
    """A reference leads to nothing; the text says why, in words for an operator."""


def is_reference(value: str) -> bool:
    """Tells whether a value says where a secret is, not what it is."""
    return value.startswith(_SCHEMES)


@dataclass(frozen=True)
class Places:
    """Where references may lead. Operators decide where keys are sent, so whatever else the process can read must be out of their reach.

    Attributes:
        variables: Patterns of the variables that `env:` may name; `PARLEY_…`, `VAULT_…` and `PG…` are none.
        directories: Beneath which the files are that `file:` may name.
        own: Files with what the server itself is told. They and their neighbours are none, but neighbours in one of `directories`.
    """

    variables: tuple[str, ...]
    directories: tuple[Path, ...]
    own: tuple[Path, ...] = ()

    def fault(self, value: str) -> str | None:
        """Returns what is wrong with a reference, or None."""
        scheme, _, place = value.partition(":")
        if scheme == "env":
            allowed = not place.startswith(_OWN) and any(fnmatchcase(place, one) for one in self.variables)
            if not _ENV.fullmatch(value) or not allowed:
                return f"must be env:NAME with a name like {' or '.join(self.variables)}, and none of the server's own."
        elif scheme == "file":
            if not _FILE.fullmatch(value) or ".." in value.split("/") or not self.holds(Path(place)):
                return f"must be file:/path of a file beneath {' or '.join(map(str, self.directories))}, and none of the server's own."
        elif not _VAULT.fullmatch(value) or ".." in value.split("/"):
            return "must be vault:MOUNT/PATH#FIELD."
        return None

    def holds(self, path: Path) -> bool:
        """Tells whether a file is where one may be, wherever links lead."""
        real = path.resolve()
        directories = [one.resolve() for one in self.directories]
        own = [one.resolve() for one in self.own]
        return (
            any(real.is_relative_to(one) for one in directories)
            and not f"{real}/".startswith(_NO_FILES)
            and _CLUSTER not in real.parts
            and real not in own
            and not any(real.is_relative_to(one.parent) for one in own if one.parent not in directories)
        )


def places_of(variables: Sequence[str], directories: Sequence[str], environ: Mapping[str, str]) -> Places:
    """Returns where references may lead in a process with such an environment."""
    own = tuple(Path(path) for name, path in environ.items() if name.startswith("PARLEY_") and name.endswith("_FILE"))
    return Places(tuple(variables), tuple(map(Path, directories)), own)


def masked(value: str) -> str:
    """Returns what may be shown of a value: a reference as it is, of a key its ends."""
    if not value or is_reference(value):
        return value
    return f"{value[:3]}…{value[-_SHOWN:]}" if len(value) >= _LONG else "…"


class Secrets:
    """Reads references. What was read once is what is used while it cannot be read again.

    Args:
        environ: Where `env:` looks.
        vault: Where `vault:` looks.
        places: Where references may lead.
    """

    def __init__(self, environ: Mapping[str, str], vault: Vault, places: Places) -> None:
        self._environ = environ
        self.places = places
        self._vault = vault
        self._known: dict[str, str] = {}

    async def read(self, value: str) -> str:
        """Returns a secret: the value itself where it is no reference.

        Raises: SecretUnavailable: it cannot be read and never was.
        """
        if not is_reference(value):
            return value
        try:
            self._known[value] = secret = await self._fetch(value)
        except SecretUnavailable as error:
            log.warning("secret_not_read", reference=value.partition(":")[0], cause=str(error))
            if value in self._known:
                return self._known[value]
            raise
        return secret

    async def renew(self) -> None:
        """Keeps the credential alive that secrets are read with."""
        if any(value.startswith("vault:") for value in self._known):
            await self._vault.renew()

    async def _fetch(self, value: str) -> str:
        if self.places.fault(value):
            # It was kept when it still was.
            raise SecretUnavailable("the server's settings do not let it be read")
        scheme, _, place = value.partition(":")
        if scheme == "env":
            secret = self._environ.get(place, "")
            if not secret:
                raise SecretUnavailable("the variable is not set")
            return secret
        if scheme == "file":
            return await asyncio.to_thread(self._from_file, Path(place))
        path, _, field = place.partition("#")
        try:
            return await self._vault.read(path, field)
        except VaultError as error:
            raise SecretUnavailable(str(error)) from None

    def _from_file(self, path: Path) -> str:
        try:
            if not path.is_file() or not self.places.holds(path):
                raise SecretUnavailable("there is no such file")
            with path.open("rb") as file:
                raw = file.read(_MAX_FILE_BYTES + 1)
        except OSError as error:
            raise SecretUnavailable(f"the file cannot be read ({error.strerror})") from None
        if len(raw) > _MAX_FILE_BYTES:
            raise SecretUnavailable("the file is too long to be a key")
        try:
            secret = raw.decode().strip()
        except UnicodeError:
            raise SecretUnavailable("the file is no text") from None
        if not secret:
            raise SecretUnavailable("the file is empty")
        return secret
