"""The environment becomes a typed configuration, or every fault at once."""

from dataclasses import dataclass, field
from pathlib import Path

import pytest

from runtime.config import ConfigError, Secret, at_least, load, one_of


@dataclass(frozen=True, kw_only=True)
class Example:
    address: str
    password: Secret
    pool_max_size: int = at_least(1, default=10)
    ratio: float = 0.5
    verbose: bool = False
    mode: str = one_of("fast", "slow", default="fast")
    origins: tuple[str, ...] = ()
    aliases: dict[str, str] = field(default_factory=dict)
    limit: int | None = None


GIVEN = {"X_ADDRESS": "a:1", "X_PASSWORD": "hunter2"}


def test_defaults_stand_where_nothing_is_set() -> None:
    config = load(Example, "X_", GIVEN)
    assert (config.pool_max_size, config.ratio, config.verbose, config.origins, config.limit) == (
        10,
        0.5,
        False,
        (),
        None,
    )


def test_every_type_is_read() -> None:
    config = load(
        Example,
        "X_",
        {
            **GIVEN,
            "X_POOL_MAX_SIZE": "3",
            "X_RATIO": "0.25",
            "X_VERBOSE": "true",
            "X_MODE": "slow",
            "X_ORIGINS": "http://a, http://b",
            "X_ALIASES": "fast=openai/small, power=openai/large",
            "X_LIMIT": "7",
        },
    )
    assert config == Example(
        address="a:1",
        password=Secret("hunter2"),
        pool_max_size=3,
        ratio=0.25,
        verbose=True,
        mode="slow",
        origins=("http://a", "http://b"),
        aliases={"fast": "openai/small", "power": "openai/large"},
        limit=7,
    )


def test_all_faults_are_reported_at_once_by_variable() -> None:
    with pytest.raises(ConfigError) as caught:
        load(
            Example,
            "X_",
            {"X_POOL_MAX_SIZE": "0", "X_RATIO": "half", "X_VERBOSE": "yes", "X_MODE": "odd", "X_ALIASES": "fast"},
        )
    lines = str(caught.value).splitlines()[1:]
    assert [line.split()[0].rstrip(":") for line in lines] == [
        "X_ADDRESS",
        "X_PASSWORD",
        "X_POOL_MAX_SIZE",
        "X_RATIO",
        "X_VERBOSE",
        "X_MODE",
        "X_ALIASES",
    ]


def test_a_secret_is_read_from_the_file_its_variable_names(tmp_path: Path) -> None:
    file = tmp_path / "password"
    file.write_text("from-file\n")
    config = load(Example, "X_", {"X_ADDRESS": "a:1", "X_PASSWORD_FILE": str(file)})
    assert config.password.reveal() == "from-file"


def test_a_missing_secret_file_is_a_fault_not_a_traceback(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="X_PASSWORD: cannot read the file"):
        load(Example, "X_", {"X_ADDRESS": "a:1", "X_PASSWORD_FILE": str(tmp_path / "none")})


def test_a_secret_does_not_show_itself() -> None:
    assert "hunter2" not in repr(load(Example, "X_", GIVEN))
