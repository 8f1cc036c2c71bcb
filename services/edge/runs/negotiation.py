"""What a caller of a run wants back: the headers `Accept` and `Prefer`."""

from __future__ import annotations

_RANGES = {"*/*": 0, "text/*": 1, "text/event-stream": 2}


def accepts(header: str) -> bool:
    """Says whether an `Accept` header takes `text/event-stream`; the most specific range decides, as RFC 9110 has it."""
    found: tuple[int, bool] = (-1, True)
    for item in header.split(","):
        media_range, *parameters = (part.strip().lower() for part in item.split(";"))
        specificity = _RANGES.get(media_range)
        if specificity is None:
            continue
        refused = any(_weight(parameter) == 0 for parameter in parameters)
        found = max(found, (specificity, not refused))
    return found[1] if found[0] >= 0 else not header.strip()


def prefers_async(header: str) -> bool:
    """Says whether a `Prefer` header wishes an answer before the work is done, as RFC 7240 has it."""
    return any(wish.partition(";")[0].strip().lower() == "respond-async" for wish in header.split(","))


def _weight(parameter: str) -> float | None:
    name, _, value = parameter.partition("=")
    if name.strip() != "q":
        return None
    try:
        return float(value)
    except ValueError:
        return None
