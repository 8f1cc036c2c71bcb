"""What row-level security reads of a caller."""

from __future__ import annotations

import json
from functools import lru_cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from runtime.context import Identity


def claims_of(caller: Identity) -> dict[str, str]:
    """Returns the claims that policies are keyed on, and no others: what a statement holds may end up in a server's log."""
    return {"org": caller.org_id, "sub": caller.user_id, "role": caller.role}


def claims_json(caller: Identity) -> str:
    """Returns the same as functions take it."""
    return _spelt(caller.org_id, caller.user_id, caller.role)


@lru_cache(maxsize=4096)
def _spelt(org_id: str, user_id: str, role: str) -> str:
    return json.dumps({"org": org_id, "sub": user_id, "role": role})
