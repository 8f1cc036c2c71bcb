"""Private keys open only under the key and the name they were closed with; one key signs at a time."""

from datetime import UTC, datetime, timedelta

import pytest

from runtime.config import ConfigError
from services.auth.signing import Seal, StoredKey, signing_key

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)


def key(kid: str, activates_at: datetime) -> StoredKey:
    return StoredKey(kid, b"", "{}", NOON, activates_at, None)


def test_what_is_closed_opens_again() -> None:
    seal = Seal(b"k" * 32)
    assert Seal(b"k" * 32).open("kid", seal.close("kid", b"private")) == b"private"


def test_closing_twice_gives_two_texts_without_the_secret() -> None:
    seal = Seal(b"k" * 32)
    first, second = seal.close("kid", b"private"), seal.close("kid", b"private")
    assert first != second
    assert b"private" not in first


def test_another_key_another_name_or_a_changed_byte_opens_nothing() -> None:
    sealed = Seal(b"k" * 32).close("kid", b"private")
    changed = sealed[:-1] + bytes([sealed[-1] ^ 1])
    for seal, kid, text in (
        (Seal(b"x" * 32), "kid", sealed),
        (Seal(b"k" * 32), "other", sealed),
        (Seal(b"k" * 32), "kid", changed),
        (Seal(b"k" * 32), "kid", b"short"),
        (Seal(b"k" * 32), "kid", b""),
    ):
        with pytest.raises(ConfigError):
            seal.open(kid, text)


@pytest.mark.parametrize(
    ("now", "expected"),
    [
        (NOON - timedelta(seconds=1), "first"),  # this instance's clock is behind the one that made the first key
        (NOON, "first"),
        (NOON + timedelta(days=1) - timedelta(seconds=1), "first"),
        (NOON + timedelta(days=1), "second"),
        (NOON + timedelta(days=9), "second"),
    ],
)
def test_the_youngest_active_key_signs(now: datetime, expected: str) -> None:
    keys = [key("second", NOON + timedelta(days=1)), key("first", NOON)]
    assert signing_key(keys, now).kid == expected
    assert signing_key(keys[::-1], now).kid == expected
