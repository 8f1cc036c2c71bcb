"""Page tokens: what a list gives out for its next page, and takes back from nobody but itself."""

from __future__ import annotations

import uuid
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from runtime import validation

if TYPE_CHECKING:
    from collections.abc import Sequence

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
_SCORE_MAX = 1000


def seal(place: Sequence[str], *parts: str) -> str:
    """Returns a token for the list at `place`: its name and whose it is."""
    return validation.encode_page_token(*place, *parts)


def seal_moment(place: Sequence[str], moment: datetime, identifier: str) -> str:
    """Returns a token for a list in the order of time and id."""
    return seal(place, *moment_parts(moment, identifier))


def moment_parts(moment: datetime, identifier: str) -> tuple[str, str]:
    """Returns a moment and an id as parts of a token."""
    return str((moment - _EPOCH) // _MICROSECOND), identifier


def unseal(token: str, place: Sequence[str], *, parts: int) -> list[str]:
    """Returns what a token holds beside the list it belongs to.

    Raises: InvalidArgument: it belongs to another list, or is none.
    """
    found = validation.decode_page_token(token, parts=len(place) + parts)
    if found[: len(place)] != list(place):
        raise _foreign()
    return found[len(place) :]


def unseal_moment(token: str, place: Sequence[str]) -> tuple[datetime, str]:
    """Returns the moment and the id that a token holds.

    Raises: InvalidArgument: it belongs to another list, or is none.
    """
    return moment_of(*unseal(token, place, parts=2))


def moment_of(micros: str, identifier: str) -> tuple[datetime, str]:
    """Returns two parts of a token as a moment and an id.

    Raises: InvalidArgument.
    """
    try:
        moment = _EPOCH + timedelta(microseconds=_number_of(micros))
    except OverflowError:
        raise _foreign() from None
    return moment, identifier_of(identifier)


def score_of(value: str) -> int:
    """Returns a part of a token as a small number.

    Raises: InvalidArgument.
    """
    score = _number_of(value)
    if abs(score) > _SCORE_MAX:
        raise _foreign()
    return score


def identifier_of(value: str) -> str:
    """Returns a part of a token as an id.

    Raises: InvalidArgument.
    """
    try:
        return str(uuid.UUID(value))
    except ValueError:
        raise _foreign() from None


def _number_of(value: str) -> int:
    if not (value.isascii() and value.removeprefix("-").isdigit() and len(value) <= len(str(2**62))):
        raise _foreign()
    return int(value)


def _foreign() -> Exception:
    return validation.invalid("page_token", "is not a token this list gave out; leave it empty for the first page.")
