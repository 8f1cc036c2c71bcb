"""When a run's checkpoint is due: about once a period, together with those of other runs."""

import pytest

from services.chat.keeping import BEATS, Pace

PACE = Pace(6, 1.0, finish_patience_s=2, finish_retry_for_s=600)


@pytest.mark.parametrize("now", [0.0, 0.03, 12.345, 98_765.4321])
def test_a_run_is_due_after_its_period_and_a_twentieth_of_it_later_at_the_most(now: float) -> None:
    assert 1.0 < PACE.checkpoint_in_s(now) <= 1.05 + 1e-6


def test_runs_that_look_within_the_same_beat_are_due_at_the_same_moment() -> None:
    moments = [now + PACE.checkpoint_in_s(now) for now in (7.001, 7.02, 7.049)]
    assert moments == pytest.approx([8.05] * 3)


@pytest.mark.parametrize("now", [0.0, 0.03, 12.345])
def test_the_first_checkpoint_comes_before_the_lease_has_to_be_renewed(now: float) -> None:
    assert PACE.first_beats == BEATS
    assert 1.0 < PACE.checkpoint_in_s(now, PACE.first_beats - 1) <= PACE.renew_every_s + 1e-6


def test_where_the_lease_is_short_the_first_checkpoint_is_not_put_off() -> None:
    assert Pace(3, 1.0, finish_patience_s=2, finish_retry_for_s=600).first_beats == 1
