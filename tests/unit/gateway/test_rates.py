"""A price that is so much a token is found out once; any other is asked for each time."""

from __future__ import annotations

import pytest

from services.gateway.domain import Counts
from services.gateway.providers import rates

CALL = Counts(1_234, 567, 89, 10)


class Teller:
    """Tells prices, and counts how often."""

    def __init__(self, *, above: int = 0, floor_usd: float = 0.0, known: bool = True) -> None:
        self._above = above
        self._floor_usd = floor_usd
        self._known = known
        self.asked = 0

    def __call__(self, counts: Counts) -> float | None:
        self.asked += 1
        if not self._known:
            return None
        factor = 2 if self._above and counts.input_tokens > self._above else 1
        fresh = counts.input_tokens - counts.cached_tokens - counts.cache_write_tokens
        usd = 3e-6 * fresh + 3e-7 * counts.cached_tokens + 3.75e-6 * counts.cache_write_tokens
        return max(self._floor_usd, factor * (usd + 1.5e-5 * counts.output_tokens))


def test_so_much_a_token_is_found_out_once() -> None:
    teller = Teller()
    price = rates.find(teller)
    asked = teller.asked

    assert price(CALL) == pytest.approx(Teller()(CALL), rel=1e-12)
    assert teller.asked == asked


@pytest.mark.parametrize("teller", [Teller(above=200_000), Teller(above=128_000), Teller(floor_usd=0.001)])
def test_a_price_that_changes_with_size_is_asked_for(teller: Teller) -> None:
    price = rates.find(teller)
    large = Counts(300_000, 5)

    assert price(large) == teller(large)
    assert price(CALL) == teller(CALL)


def test_what_is_not_known_is_not_asked_for_again() -> None:
    teller = Teller(known=False)
    price = rates.find(teller)
    asked = teller.asked

    assert price(CALL) is None
    assert teller.asked == asked
