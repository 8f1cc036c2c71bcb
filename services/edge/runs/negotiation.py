"""What a caller of a run wants back: the headers `Accept` and `Prefer`."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from starlette.types import Scope

_REMEMBERED = 128  # of what callers say, which is nearly always the same
_RANGES = {"*/*": 0, "text/*": 1, "text/event-stream": 2}


def header(scope: Scope, name: bytes) -> str:
    """Returns a request's header that is a list: several lines of it are one, as RFC 9110 has it."""
    given = [value for key, value in scope["headers"] if key == name]
    return ", ".join([str(value, "latin-1") for value in given]) if given else ""


@functools.lru_cache(_REMEMBERED)
def accepts(accept: str) -> bool:
    """Says whether an `Accept` header takes `text/event-stream`; the most specific range decides, as RFC 9110 has it."""
    found: tuple[int, bool] = (-1, True)
    for item in accept.split(","):
        media_range, *parameters = (part.strip().lower() for part in item.split(";"))
        specificity = _RANGES.get(media_range)
        if specificity is None:
            continue
        refused = any(_weight(parameter) == 0 for parameter in parameters)
        found = max(found, (specificity, not refused))
    return found[1] if found[0] >= 0 else not accept.strip()


@functools.lru_cache(_REMEMBERED)
def prefers_async(prefer: str) -> bool:
    """Says whether a `Prefer` header wishes an answer before the work is done, as RFC 7240 has it."""
    return any(wish.partition(";")[0].strip().lower() == "respond-async" for wish in prefer.split(","))


def _weight(parameter: str) -> float | None:
    name, _, value = parameter.partition("=")
    if name.strip() != "q":
        return None
    try:
        return float(value)
    except ValueError:
        return None
