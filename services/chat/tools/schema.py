"""JSON schemas: whether one is well formed, and in what a value breaks it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from jsonschema import Draft202012Validator  # type: ignore[import-untyped]
from jsonschema.exceptions import SchemaError, best_match  # type: ignore[import-untyped]
from referencing import Registry
from referencing.exceptions import Unresolvable

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

_FAULT_MAX_CHARS = 500
_NOTHING_ELSE: Registry[Any] = Registry()
"""A schema refers to itself alone: what it names elsewhere is never fetched."""


def checker(schema: Mapping[str, Any]) -> Callable[[Any], str]:
    """Returns what says, in words for a model, in what a value breaks a schema; empty: in nothing.

    Raises: ValueError: it is no JSON schema of an object.
    """
    if schema.get("type") != "object":
        raise ValueError("its parameters must be a JSON schema of type object")
    try:
        Draft202012Validator.check_schema(schema)
    except SchemaError as error:
        raise ValueError(f"its parameters are no JSON schema ({error.message})") from None
    validator = Draft202012Validator(schema, registry=_NOTHING_ELSE)
    try:
        validator.is_valid({})
    except Unresolvable as error:
        raise ValueError(f"its parameters refer to what is not in them ({error.ref})") from None

    def fault(value: Any) -> str:
        error = best_match(validator.iter_errors(value))
        if error is None:
            return ""
        place = "/".join(str(step) for step in error.absolute_path)
        return f"{place}: {error.message}"[:_FAULT_MAX_CHARS] if place else str(error.message)[:_FAULT_MAX_CHARS]

    return fault
