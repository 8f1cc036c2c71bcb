"""What is configured, documented and written in SQL is what is used."""

import base64
import dataclasses
import re
from pathlib import Path

import pytest

from runtime.config import ConfigError, Secret, load
from runtime.queries import load as load_queries
from services.auth.config import AuthConfig

SERVICE = Path(__file__).resolve().parents[3] / "services" / "auth"
GOOD = {
    "PARLEY_AUTH_LISTEN": "127.0.0.1:0",
    "PARLEY_AUTH_DATABASE_URL": "postgresql://parley_auth@127.0.0.1/parley",
    "PARLEY_AUTH_ENCRYPTION_KEY": base64.b64encode(b"k" * 32).decode(),
    "PARLEY_AUTH_CHAT_KEY": "sixteen-or-more-characters",
}


def test_every_query_is_used_and_every_used_one_exists() -> None:
    known = set(load_queries(SERVICE / "queries.sql"))
    used = set(re.findall(r'(?:fetch|fetch_row|_remove)\(\s*"([a-z_]+)"', (SERVICE / "store.py").read_text()))
    assert used == known


def test_the_readme_lists_every_variable() -> None:
    readme = (SERVICE / "README.md").read_text()
    told = {line.split("`")[1] for line in readme.splitlines() if line.startswith("| `PARLEY_AUTH_")}
    fields = {f"PARLEY_AUTH_{field.name.upper()}" for field in dataclasses.fields(AuthConfig)}
    assert told == fields | {"PARLEY_AUTH_MIGRATION_DATABASE_URL"}


def test_four_variables_are_enough() -> None:
    config = load(AuthConfig, "PARLEY_AUTH_", GOOD)
    assert config.encryption_key_bytes() == b"k" * 32
    assert config.actor_keys() == {"chat": "sixteen-or-more-characters"}


@pytest.mark.parametrize("missing", sorted(GOOD))
def test_each_of_them_is_needed(missing: str) -> None:
    with pytest.raises(ConfigError, match=missing):
        load(AuthConfig, "PARLEY_AUTH_", {name: value for name, value in GOOD.items() if name != missing})


@pytest.mark.parametrize("key", ["", "c2hvcnQ=", "not base64!", base64.b64encode(b"k" * 33).decode(), "k" * 32])
def test_an_encryption_key_is_32_bytes_in_base64(key: str) -> None:
    config = dataclasses.replace(load(AuthConfig, "PARLEY_AUTH_", GOOD), encryption_key=Secret(key))
    with pytest.raises(ConfigError, match="PARLEY_AUTH_ENCRYPTION_KEY"):
        config.encryption_key_bytes()


def test_a_short_actor_key_is_refused() -> None:
    config = dataclasses.replace(load(AuthConfig, "PARLEY_AUTH_", GOOD), chat_key=Secret("short"))
    with pytest.raises(ConfigError, match="PARLEY_AUTH_CHAT_KEY"):
        config.actor_keys()


def test_a_key_signs_only_after_every_verifier_has_asked_again() -> None:
    with pytest.raises(ConfigError, match="PARLEY_AUTH_KEY_OVERLAP_S"):
        load(AuthConfig, "PARLEY_AUTH_", {**GOOD, "PARLEY_AUTH_KEY_OVERLAP_S": "300"})


def test_a_configuration_shows_no_secret() -> None:
    shown = repr(load(AuthConfig, "PARLEY_AUTH_", GOOD))
    assert GOOD["PARLEY_AUTH_CHAT_KEY"] not in shown
    assert GOOD["PARLEY_AUTH_ENCRYPTION_KEY"] not in shown
