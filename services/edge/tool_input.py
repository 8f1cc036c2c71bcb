"""The arguments of a tool call, as the API gives them: always a JSON object."""

from __future__ import annotations

from typing import Any

import msgspec


def parsed(input_json: str) -> dict[str, Any]:
    """Returns the object that a model wrote as JSON text; `{}` where it is none, for a model can write anything."""
    try:
        value = msgspec.json.decode(input_json)
    except (ValueError, RecursionError):
        return {}
    return value if isinstance(value, dict) else {}
