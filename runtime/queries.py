"""Loads named SQL statements from a `.sql` file."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

_HEADER = re.compile(r"^-- name: (?P<name>[a-z][a-z0-9_]*)\s*$", re.MULTILINE)


def load(path: Path) -> dict[str, str]:
    """Reads statements by name.

    A statement begins with a line `-- name: find_user`, then a comment line that says what it is for, then one statement.

    Raises: ValueError: a name comes twice, or a statement has no purpose line or no text.
    """
    pieces = _HEADER.split(path.read_text(encoding="utf-8"))
    queries: dict[str, str] = {}
    for name, body in zip(pieces[1::2], pieces[2::2], strict=True):
        lines = body.strip().splitlines()
        statement = "\n".join(line for line in lines if not line.startswith("--")).strip().rstrip(";")
        if name in queries:
            raise ValueError(f"{path.name}: {name} comes twice")
        if not lines or not lines[0].startswith("-- ") or not statement:
            raise ValueError(f"{path.name}: {name} needs a line that says its purpose, and a statement")
        queries[name] = statement
    return queries
