"""Reads the environment into a frozen dataclass and reports every fault at once."""

from __future__ import annotations

import dataclasses
import os
import types
import typing
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

C = TypeVar("C")


class Secret(str):
    """A text that shows itself neither in logs nor in tracebacks; `reveal()` gives a plain str."""

    __slots__ = ()

    def __repr__(self) -> str:
        return "Secret('***')"

    def reveal(self) -> str:
        """Returns the plain text."""
        return str.__str__(self)


class ConfigError(Exception):
    """The environment does not describe a working service; the message lists every fault, one a line."""


def at_least(minimum: float, default: Any = dataclasses.MISSING) -> Any:
    """Declares a numeric field with a smallest value."""
    return dataclasses.field(default=default, metadata={"minimum": minimum})


def one_of(*choices: str, default: str) -> Any:
    """Declares a text field with a closed set of values."""
    return dataclasses.field(default=default, metadata={"choices": choices})


def parsed_by(parse: Callable[[str], Any]) -> dict[str, Any]:
    """Returns the metadata of a field whose text has a form of its own; `parse` raises ValueError, which names every fault it finds."""
    return {"parse": parse}


def load(cls: type[C], prefix: str, environ: Mapping[str, str] | None = None) -> C:
    """Builds `cls` from the environment.

    A field `pool_max_size` is read from `<prefix>POOL_MAX_SIZE`, or from the file that `<prefix>POOL_MAX_SIZE_FILE` names.
    Text, whole and decimal numbers, booleans (`true`/`false`), lists (`a,b`) and tables (`a=1,b=2`) are understood, and whatever a field
    declared with `parsed_by` understands.

    Args:
        cls: A frozen dataclass whose fields have these types; a field without default is required.
        prefix: Such as `PARLEY_DATA_`.
        environ: The environment; the process's own by default.

    Raises: ConfigError: with every missing, malformed and out-of-bounds variable.
    """
    environ = os.environ if environ is None else environ
    hints = typing.get_type_hints(cls)
    values: dict[str, Any] = {}
    faults: list[str] = []
    for field in dataclasses.fields(cls):  # type: ignore[arg-type]
        name = prefix + field.name.upper()
        try:
            raw = _read(name, environ)
            if raw is None:
                if field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING:
                    faults.append(f"{name} is not set (nor {name}_FILE)")
                continue
            value = field.metadata["parse"](raw) if "parse" in field.metadata else _parse(raw, hints[field.name])
            _check(value, field.metadata)
            values[field.name] = value
        except ValueError as fault:
            faults.append(f"{name}: {fault}")
    if faults:
        raise ConfigError("The configuration has faults:\n" + "\n".join(f"  {fault}" for fault in faults))
    return cls(**values)


def _read(name: str, environ: Mapping[str, str]) -> str | None:
    path = environ.get(name + "_FILE")
    if path:
        try:
            return Path(path).read_text(encoding="utf-8").strip()
        except OSError as error:
            raise ValueError(f"cannot read the file {path} ({error.strerror})") from None
    return environ.get(name)


def _parse(raw: str, hint: Any) -> Any:
    if isinstance(hint, types.UnionType):
        hint = next(arm for arm in hint.__args__ if arm is not type(None))
    if hint is bool:
        if raw.lower() not in {"true", "false"}:
            raise ValueError(f"{raw!r} is neither true nor false")
        return raw.lower() == "true"
    if hint is int or hint is float:
        try:
            return hint(raw)
        except ValueError:
            raise ValueError(f"{raw!r} is not a {'whole ' if hint is int else ''}number") from None
    if hint is Secret:
        return Secret(raw)
    items = [item.strip() for item in raw.split(",") if item.strip()]
    if typing.get_origin(hint) is tuple:
        return tuple(items)
    if typing.get_origin(hint) is dict:
        if any("=" not in item for item in items):
            raise ValueError("needs pairs such as a=1,b=2")
        of = typing.get_args(hint)[1]
        return {key.strip(): _parse(value.strip(), of) for key, value in (item.split("=", 1) for item in items)}
    return raw


def _check(value: Any, rules: Mapping[str, Any]) -> None:
    if "minimum" in rules and value < rules["minimum"]:
        raise ValueError(f"{value} is below {rules['minimum']}")
    if "choices" in rules and value not in rules["choices"]:
        raise ValueError(f"{value!r} is none of {', '.join(rules['choices'])}")
