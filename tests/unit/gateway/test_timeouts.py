"""What the environment may say about deadlines and tools."""

from __future__ import annotations

import pytest

from runtime.config import ConfigError, load
from services.gateway.config import GatewayConfig
from services.gateway.domain import Timeouts

REQUIRED = {"PARLEY_GATEWAY_LISTEN": "127.0.0.1:0", "PARLEY_GATEWAY_AUTH_ADDRESS": "127.0.0.1:1"}


def config(**environ: str) -> GatewayConfig:
    return load(GatewayConfig, "PARLEY_GATEWAY_", {**REQUIRED, **environ})


def test_without_the_variable_nobody_has_deadlines_of_their_own() -> None:
    assert config().timeouts == {}


def test_each_deadline_may_be_given_by_itself() -> None:
    told = config(
        PARLEY_GATEWAY_TIMEOUTS='{"fast": {"first_token_s": 5, "gap_s": 2.5, "total_s": 60}, "openai": {"gap_s": 10}, "x": {}}'
    ).timeouts

    assert told == {"fast": Timeouts(5, 2.5, 60), "openai": Timeouts(0, 10, 0), "x": Timeouts()}


@pytest.mark.parametrize("text", ["", "fast", "[]", "5", '{"fast": ', "null"])
def test_what_is_no_table_is_refused_with_an_example(text: str) -> None:
    with pytest.raises(ConfigError, match=r'PARLEY_GATEWAY_TIMEOUTS: must be a JSON object such as \{"fast"'):
        config(PARLEY_GATEWAY_TIMEOUTS=text)


@pytest.mark.parametrize("value", ["0", "-1", "3600.5", "true", '"5"', "null", "[]", "NaN", "Infinity"])
def test_a_deadline_is_a_number_of_seconds_within_bounds(value: str) -> None:
    with pytest.raises(ConfigError, match=r"fast\.gap_s must be 0\.001-3600 seconds"):
        config(PARLEY_GATEWAY_TIMEOUTS=f'{{"fast": {{"gap_s": {value}}}}}')


def test_every_fault_is_reported_at_once_beside_those_of_other_variables() -> None:
    with pytest.raises(ConfigError) as raised:
        config(
            PARLEY_GATEWAY_TIMEOUTS='{"fast": {"gap": 1, "gap_s": 0, "total_s": "1"}, "power": 5}',
            PARLEY_GATEWAY_TOOLS="vllm=perhaps",
            PARLEY_GATEWAY_RETRIES="-1",
        )

    told = str(raised.value)
    for fault in ("fast.gap is none of", "fast.gap_s must", "fast.total_s must", "power must be an object"):
        assert fault in told
    assert "PARLEY_GATEWAY_TOOLS: 'perhaps' is neither true nor false" in told
    assert "PARLEY_GATEWAY_RETRIES" in told


def test_tools_are_told_by_provider_or_model() -> None:
    assert config(PARLEY_GATEWAY_TOOLS="vllm=true, openai/old=false").tools == {"vllm": True, "openai/old": False}


def test_what_is_not_given_comes_from_behind() -> None:
    assert Timeouts(1, 0, 0).before(Timeouts(2, 3, 0)).before(Timeouts(4, 5, 6)) == Timeouts(1, 3, 6)


def test_a_wish_shortens_and_never_lengthens() -> None:
    assert Timeouts(5, 5, 60).shortened(Timeouts(1, 9, 0)) == Timeouts(1, 5, 60)
