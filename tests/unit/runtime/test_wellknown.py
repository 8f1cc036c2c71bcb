"""What a caller can send as a well-known type becomes a plain value or a refusal that names the field."""

from datetime import UTC, datetime, timedelta, timezone

import pytest
from google.protobuf.duration_pb2 import Duration

from runtime.errors import InvalidArgument
from runtime.wellknown import seconds, timestamp

MOST_S = 315_576_000_000


@pytest.mark.parametrize(
    ("duration", "length_s"),
    [
        (Duration(), 0),
        (Duration(seconds=1, nanos=500_000_000), 1.5),
        (Duration(seconds=-1, nanos=-500_000_000), -1.5),
        (Duration(nanos=-250_000_000), -0.25),
        (Duration(seconds=MOST_S), MOST_S),
        (Duration(seconds=-MOST_S), -MOST_S),
    ],
)
def test_a_duration_is_its_length_in_seconds(duration: Duration, length_s: float) -> None:
    assert seconds("ttl", duration) == length_s


@pytest.mark.parametrize(
    "duration",
    [
        Duration(seconds=MOST_S + 1),
        Duration(seconds=-MOST_S - 1),
        Duration(seconds=2**63 - 1),
        Duration(seconds=-(2**63)),
        Duration(nanos=1_000_000_000),
        Duration(nanos=-(2**31)),
        Duration(seconds=1, nanos=-1),
        Duration(seconds=-1, nanos=1),
    ],
    ids=lambda duration: f"{duration.seconds}s {duration.nanos}ns",
)
def test_what_is_no_duration_is_refused_by_the_name_of_its_field(duration: Duration) -> None:
    with pytest.raises(InvalidArgument) as refused:
        seconds("timeouts.gap", duration)
    assert refused.value.metadata == {"field": "timeouts.gap"}


def test_a_moment_is_the_same_in_every_zone() -> None:
    moment = datetime(2024, 2, 29, 12, 0, 0, 250_000, UTC)
    elsewhere = moment.astimezone(timezone(timedelta(hours=5, minutes=30)))
    assert timestamp(moment) == timestamp(elsewhere)
    assert timestamp(elsewhere).ToDatetime(UTC) == moment
