"""Secrets made once and kept in 0600 files of a 0700 directory."""

from __future__ import annotations

import base64
import os
import secrets
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


def password() -> str:
    """Returns a new password that needs no quoting in a URL."""
    return secrets.token_urlsafe(24)


def key_32() -> str:
    """Returns 32 new random bytes in base64."""
    return base64.b64encode(secrets.token_bytes(32)).decode()


def read_or_make(path: Path, make: Callable[[], str] = password) -> str:
    """Returns the secret in `path`, made and stored on first use."""
    try:
        return path.read_text(encoding="utf-8").strip()
    except FileNotFoundError:
        secret = make()
        write(path, secret)
        return secret


def write(path: Path, secret: str) -> Path:
    """Stores a secret whole or not at all, readable by its owner alone, and returns its path."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    unfinished = path.with_name(path.name + ".new")
    unfinished.unlink(missing_ok=True)
    descriptor = os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write(secret)
        file.flush()
        os.fsync(file.fileno())
    return unfinished.replace(path)
