"""Which providers an environment describes."""

from __future__ import annotations

import pytest

from runtime.config import ConfigError
from services.gateway.providers import environment
from services.gateway.providers.provider import Provider, Wire

AWS = {"AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": "s3cret", "AWS_REGION": "eu-central-1"}


def find(environ: dict[str, str], *, probe: bool = False, **compatible: str) -> list[Provider]:
    return environment.find(environ, compatible=compatible, ollama_probe=probe)


def test_an_empty_environment_has_no_provider() -> None:
    assert find({}) == []


@pytest.mark.parametrize(
    ("environ", "name", "system", "wire"),
    [
        ({"OPENAI_API_KEY": "k"}, "openai", "openai", Wire.OPENAI),
        ({"OPENAI_BASE_URL": "http://localhost:1/v1"}, "openai", "openai", Wire.OPENAI),
        ({"ANTHROPIC_API_KEY": "k"}, "anthropic", "anthropic", Wire.ANTHROPIC),
        ({"AZURE_API_KEY": "k", "AZURE_API_BASE": "https://x.example"}, "azure", "azure.ai.openai", Wire.OPENAI),
        ({"OPENROUTER_API_KEY": "k"}, "openrouter", "openrouter", Wire.OPENAI),
        (AWS, "bedrock", "aws.bedrock", Wire.LITELLM),
        ({"AWS_PROFILE": "work", "AWS_DEFAULT_REGION": "us-east-1"}, "bedrock", "aws.bedrock", Wire.LITELLM),
        ({"MISTRAL_API_KEY": "k"}, "mistral", "mistral_ai", Wire.LITELLM),
        ({"OLLAMA_API_BASE": "http://localhost:11434"}, "ollama", "ollama", Wire.OLLAMA),
    ],
)
def test_a_provider_is_known_by_its_variables(environ: dict[str, str], name: str, system: str, wire: Wire) -> None:
    [provider] = find(environ)

    assert (provider.name, provider.system, provider.wire) == (name, system, wire)


@pytest.mark.parametrize(
    "environ",
    [
        {"OPENAI_API_KEY": ""},
        {"AZURE_API_KEY": "k"},
        {"AZURE_API_BASE": "https://x.example"},
        {"AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": "s"},
        {"AWS_REGION": "eu-central-1"},
        {"ANTHROPIC_BASE_URL": "https://x.example"},
    ],
)
def test_half_a_description_is_none(environ: dict[str, str]) -> None:
    assert find(environ) == []


def test_the_preferred_provider_comes_first() -> None:
    everything = {"OLLAMA_API_BASE": "http://o.example", "OPENROUTER_API_KEY": "k", "ANTHROPIC_API_KEY": "k"}

    names = [p.name for p in find({**everything, "OPENAI_API_KEY": "k", **AWS}, vllm="http://v.example/v1")]

    assert names == ["openai", "anthropic", "openrouter", "bedrock", "vllm", "ollama"]


def test_ollama_is_guessed_on_this_machine_only_when_asked_to() -> None:
    [guess] = find({}, probe=True)

    assert guess.base_url == "http://127.0.0.1:11434"


def test_azure_deployments_are_fast_first_and_power_last() -> None:
    azure = {"AZURE_API_KEY": "k", "AZURE_API_BASE": "https://x.example", "AZURE_DEPLOYMENT": "small, middle,large"}

    [provider] = find(azure)

    assert (provider.models, provider.fast, provider.power) == (("small", "middle", "large"), "small", "large")


def test_a_compatible_server_has_its_own_key_and_never_openai_s() -> None:
    environ = {"OPENAI_API_KEY": "openai-key", "MY_VLLM_API_KEY": "vllm-key"}

    keys = {p.name: p.api_key.reveal() for p in find(environ, my_vllm="http://v/v1", other="http://o/v1")}

    assert keys == {"openai": "openai-key", "my_vllm": "vllm-key", "other": ""}


def test_only_a_server_that_is_not_openai_s_own_is_asked_for_its_models() -> None:
    [own] = find({"OPENAI_API_KEY": "k", "OPENAI_BASE_URL": "https://api.openai.com/v1/"})
    [other] = find({"OPENAI_API_KEY": "k", "OPENAI_BASE_URL": "http://localhost:1/v1"})

    assert (own.discovers, other.discovers) == (False, True)


def test_no_secret_shows_in_what_is_printed() -> None:
    providers = find({**AWS, "OPENAI_API_KEY": "sk-s3cret", "ANTHROPIC_API_KEY": "s3cret"})

    assert "s3cret" not in repr(providers)


def test_every_bad_url_is_reported_at_once() -> None:
    with pytest.raises(ConfigError) as raised:
        find({"OPENAI_BASE_URL": "localhost:8000"}, vllm="ftp://v.example")

    assert "openai" in str(raised.value)
    assert "vllm" in str(raised.value)


def test_a_compatible_server_may_not_take_a_provider_s_name() -> None:
    with pytest.raises(ConfigError, match="two providers named openai"):
        find({"OPENAI_API_KEY": "k"}, openai="http://v.example/v1")
