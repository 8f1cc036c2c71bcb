"""What the service is told."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path

import pytest

from runtime.config import ConfigError, load
from services.chat.config import ChatConfig

README = Path(__file__).parents[3] / "services" / "chat" / "README.md"
NEEDED = {
    "PARLEY_CHAT_LISTEN": "127.0.0.1:0",
    "PARLEY_CHAT_AUTH_ADDRESS": "auth:1",
    "PARLEY_CHAT_DATA_ADDRESS": "data:1",
    "PARLEY_CHAT_GATEWAY_ADDRESS": "gateway:1",
    "PARLEY_CHAT_REDIS_URL": "redis://:secret@redis:1/0",
    "PARLEY_CHAT_ACTOR_KEY": "secret-key-of-chat",
}


def test_the_readme_lists_every_setting() -> None:
    listed = set(re.findall(r"`(PARLEY_CHAT_[A-Z_]+)`", README.read_text()))
    assert listed == {f"PARLEY_CHAT_{field.name.upper()}" for field in dataclasses.fields(ChatConfig)}


def test_addresses_and_secrets_have_no_default() -> None:
    with pytest.raises(ConfigError) as fault:
        load(ChatConfig, "PARLEY_CHAT_", {})
    assert set(re.findall(r"(PARLEY_CHAT_\w+) is not set", str(fault.value))) == set(NEEDED)


def test_secrets_are_not_shown() -> None:
    assert "secret" not in repr(load(ChatConfig, "PARLEY_CHAT_", NEEDED))


def test_an_empty_system_prompt_means_none() -> None:
    config = load(ChatConfig, "PARLEY_CHAT_", {**NEEDED, "PARLEY_CHAT_SYSTEM_PROMPT": ""})
    assert config.rules("me").system_prompt == ""
