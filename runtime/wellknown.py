"""Converts protobuf's well-known types, of which a caller can send what their own conversions do not bear."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

from google.protobuf.timestamp_pb2 import Timestamp

from runtime.validation import invalid

if TYPE_CHECKING:
    from google.protobuf.duration_pb2 import Duration

_MAX_DURATION_S = 315_576_000_000
"""Ten thousand years, the longest that the type's contract allows. Source: google/protobuf/duration.proto."""
_NANOS = 1_000_000_000
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def timestamp(moment: datetime) -> Timestamp:
    """Returns a moment as contracts spell it; one without a zone is taken as UTC."""
    since = (moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)) - _EPOCH
    return Timestamp(seconds=since.days * 86_400 + since.seconds, nanos=since.microseconds * 1000)


def seconds(field: str, duration: Duration) -> float:
    """Returns a duration's length in seconds, negative where it is; 0 for one that is not set.

    Raises: InvalidArgument: naming the field: more than the type is allowed to hold, or two signs.
    """
    whole, nanos = duration.seconds, duration.nanos
    if not (abs(whole) <= _MAX_DURATION_S and abs(nanos) < _NANOS and whole * nanos >= 0):
        raise invalid(field, "must be a duration of at most 10,000 years, its seconds and nanos of one sign.")
    return whole + nanos / _NANOS
