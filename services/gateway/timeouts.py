"""Deadlines of single providers and aliases, as the environment describes them."""

from __future__ import annotations

import json
from dataclasses import fields
from typing import Any

from services.gateway.domain import Timeouts
from services.gateway.rules import MAX_TIMEOUT_S

MIN_TIMEOUT_S = 0.001
_FIELDS = tuple(field.name for field in fields(Timeouts))
_EXAMPLE = '{"fast": {"first_token_s": 5, "gap_s": 5, "total_s": 60}}'


def parse(text: str) -> dict[str, Timeouts]:
    """Returns timeouts by the name of an alias or a provider; a field that is not given is 0, which leaves it to what stands behind.

    Args:
        text: A JSON object such as `{"fast": {"first_token_s": 5, "gap_s": 5, "total_s": 60}, "openai": {"gap_s": 10}}`.

    Raises: ValueError: naming every fault.
    """
    try:
        given = json.loads(text)
    except ValueError:
        given = None
    if faults := _faults(given):
        raise ValueError("; ".join(faults))
    return {name: Timeouts(*(float(waits.get(field, 0)) for field in _FIELDS)) for name, waits in given.items()}


def _faults(given: Any) -> list[str]:
    if not isinstance(given, dict):
        return [f"must be a JSON object such as {_EXAMPLE}"]
    return [fault for name, waits in given.items() for fault in _faults_of(name, waits)]


def _faults_of(name: str, waits: Any) -> list[str]:
    if not isinstance(waits, dict):
        return [f"{name} must be an object with any of {', '.join(_FIELDS)}"]
    faults = [f"{name}.{field} is none of {', '.join(_FIELDS)}" for field in waits if field not in _FIELDS]
    for field in _FIELDS:
        value = waits.get(field, MIN_TIMEOUT_S)
        number = isinstance(value, int | float) and not isinstance(value, bool)
        if not number or not MIN_TIMEOUT_S <= value <= MAX_TIMEOUT_S:
            faults.append(f"{name}.{field} must be {MIN_TIMEOUT_S}-{MAX_TIMEOUT_S} seconds")
    return faults
