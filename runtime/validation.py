"""Rules of single fields; each refusal names the field and the fix."""

from __future__ import annotations

import base64
import binascii
import re
import uuid

from runtime.errors import InvalidArgument

_CANONICAL = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")


def invalid(field: str, problem: str) -> InvalidArgument:
    """Builds the refusal of one field: `field` in the metadata, the problem as its sentence."""
    return InvalidArgument(f"{field}: {problem}", field=field)


def text(field: str, value: str, *, max_chars: int, min_chars: int = 0) -> str:
    """Returns `value` when its length in code points is within bounds and it holds no NUL, which Postgres cannot store.

    Raises: InvalidArgument: naming the field and the bound.
    """
    if not min_chars <= len(value) <= max_chars:
        bounds = f"{min_chars}-{max_chars}" if min_chars else f"at most {max_chars}"
        raise invalid(field, f"must have {bounds} characters, this one has {len(value)}.")
    if "\x00" in value:
        raise invalid(field, "must not hold the character U+0000.")
    return value


def identifier(field: str, value: str) -> str:
    """Returns `value` in canonical form when it is a UUID.

    Raises: InvalidArgument: naming the field.
    """
    if _CANONICAL.fullmatch(value):
        return value
    try:
        return str(uuid.UUID(value))
    except ValueError:
        raise invalid(field, "must be a UUID.") from None


def number(field: str, value: float, *, minimum: float, maximum: float) -> None:
    """Checks that `value` lies within the bounds.

    Raises: InvalidArgument: naming the field and the bounds.
    """
    if not minimum <= value <= maximum:
        raise invalid(field, f"must be within {minimum:g}-{maximum:g}.")


def page_size(value: int, *, default: int) -> int:
    """Returns the size of a page: `default` for 0, otherwise 1-100.

    Raises: InvalidArgument. Source: AIP-158.
    """
    number("page_size", value, minimum=0, maximum=100)
    return value or default


def encode_page_token(*parts: str) -> str:
    """Packs the place where the next page begins into an opaque token; no part may hold a newline."""
    return base64.urlsafe_b64encode("\n".join(parts).encode()).decode().rstrip("=")


def decode_page_token(token: str, *, parts: int) -> list[str]:
    """Unpacks a token made by `encode_page_token`.

    Raises: InvalidArgument: it is not one, or has another number of parts.
    """
    try:
        padded = (token + "=" * (-len(token) % 4)).encode("ascii")
        found = base64.b64decode(padded, altchars=b"-_", validate=True).decode().split("\n")
    except (ValueError, binascii.Error, UnicodeError):
        found = []
    if len(found) != parts:
        raise invalid("page_token", "is not a token this list gave out; leave it empty for the first page.")
    return found
