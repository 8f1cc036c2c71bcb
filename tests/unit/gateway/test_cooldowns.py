"""Who is to be left alone, for how long, and who is tried all the same."""

from __future__ import annotations

import pytest

from runtime import errors
from runtime.testing import Clock
from services.gateway.failures import (
    AttemptFailed,
    ContextTooLong,
    ProviderRateLimited,
    ProviderUnavailable,
    RequestRejected,
)
from services.gateway.routing.cooldowns import CooldownPolicy, Cooldowns

KEY = "openai/gpt#1"
POLICY = CooldownPolicy(failures=3, length_s=10, longest_s=300, try_every_s=5)


@pytest.fixture
def clock() -> Clock:
    return Clock(1000.0)


@pytest.fixture
def cooldowns(clock: Clock) -> Cooldowns:
    return Cooldowns(POLICY, clock)


def failure(kind: type[errors.ParleyError] = ProviderRateLimited, after_s: float | None = None) -> AttemptFailed:
    return AttemptFailed(kind("no"), retryable=True, cause="test", retry_after_s=after_s)


def test_who_names_a_time_is_asked_nothing_before_it(cooldowns: Cooldowns, clock: Clock) -> None:
    cooldowns.failed(KEY, failure(after_s=60))
    clock.advance(59)
    assert cooldowns.refusal_s(KEY, alone=False) == pytest.approx(1)
    clock.advance(1)
    assert cooldowns.refusal_s(KEY, alone=False) == 0


def test_no_time_that_is_named_counts_for_longer_than_the_longest(cooldowns: Cooldowns) -> None:
    cooldowns.failed(KEY, failure(after_s=86_400))
    assert cooldowns.refusal_s(KEY, alone=False) == POLICY.longest_s


@pytest.mark.parametrize("alone", [True, False])
def test_who_names_no_time_is_asked_last_and_never_refused(cooldowns: Cooldowns, alone: bool) -> None:
    cooldowns.failed(KEY, failure())
    assert cooldowns.of(KEY) == (POLICY.length_s, False)
    assert cooldowns.refusal_s(KEY, alone=alone) == 0


def test_where_nobody_else_could_answer_one_call_in_a_while_is_sent_all_the_same(
    cooldowns: Cooldowns, clock: Clock
) -> None:
    cooldowns.failed(KEY, failure(after_s=60))
    assert cooldowns.refusal_s(KEY, alone=True) == 60
    clock.advance(5)
    assert cooldowns.refusal_s(KEY, alone=True) == 0
    assert cooldowns.refusal_s(KEY, alone=True) == 55
    clock.advance(5)
    assert cooldowns.refusal_s(KEY, alone=False) == 50
    assert cooldowns.refusal_s(KEY, alone=True) == 0


def test_once_such_a_call_is_answered_all_are_sent_there(cooldowns: Cooldowns, clock: Clock) -> None:
    cooldowns.failed(KEY, failure(after_s=60))
    clock.advance(5)
    cooldowns.answers(KEY, clock())
    assert cooldowns.refusal_s(KEY, alone=True) == 0
    # Whoever has others to ask asks them.
    assert cooldowns.refusal_s(KEY, alone=False) == 55
    cooldowns.failed(KEY, failure(after_s=10))
    assert cooldowns.refusal_s(KEY, alone=True) == 55


def test_an_answer_that_was_asked_for_before_tells_nothing(cooldowns: Cooldowns, clock: Clock) -> None:
    asked_at = clock()
    clock.advance(1)
    cooldowns.failed(KEY, failure(after_s=60))
    cooldowns.answers(KEY, asked_at)
    assert cooldowns.refusal_s(KEY, alone=True) == 60


def test_what_comes_back_from_other_instances_is_no_news(cooldowns: Cooldowns, clock: Clock) -> None:
    """Its clock is a little off each time; the next try would never come."""
    cooldowns.failed(KEY, failure(after_s=60))
    for _ in range(10):
        clock.advance(0.5)
        cooldowns.learn(KEY, cooldowns.of(KEY)[0] + 0.002, asked=True)
    assert cooldowns.refusal_s(KEY, alone=True) == 0


def test_failures_in_a_row_count_and_those_between_do_not(cooldowns: Cooldowns) -> None:
    for _ in range(2):
        cooldowns.failed(KEY, failure(ProviderUnavailable))
    cooldowns.succeeded(KEY)
    for _ in range(2):
        cooldowns.failed(KEY, failure(ProviderUnavailable))
    assert cooldowns.of(KEY) == (0.0, False)
    cooldowns.failed(KEY, failure(ProviderUnavailable))
    assert cooldowns.of(KEY) == (POLICY.length_s, False)


@pytest.mark.parametrize("kind", [ContextTooLong, RequestRejected])
def test_what_is_about_the_call_is_not_about_the_deployment(
    cooldowns: Cooldowns, kind: type[errors.ParleyError]
) -> None:
    for _ in range(5):
        cooldowns.failed(KEY, failure(kind))
    assert cooldowns.of(KEY) == (0.0, False)
