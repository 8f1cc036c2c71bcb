"""Finds providers in the environment, by the variables their own tools use."""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from runtime.config import ConfigError, Secret
from services.gateway.providers.provider import Provider, Wire
from services.gateway.providers.vendors import AZURE_API_VERSION, KNOWN

if TYPE_CHECKING:
    from collections.abc import Mapping

OLLAMA_DEFAULT_URL = "http://127.0.0.1:11434"
DEMO = "demo"


# Providers that litellm reads, by the variable of their key.
_TAIL = {
    "GEMINI_API_KEY": "gemini",
    "MISTRAL_API_KEY": "mistral",
    "DEEPSEEK_API_KEY": "deepseek",
    "XAI_API_KEY": "xai",
    "GROQ_API_KEY": "groq",
}


def find(environ: Mapping[str, str], *, compatible: Mapping[str, str], ollama_probe: bool) -> list[Provider]:
    """Returns the providers the environment describes, the preferred ones first.

    A local Ollama is only a guess until it has answered; see `discovery`.

    Args:
        environ: The environment.
        compatible: Further OpenAI-compatible servers, name to base URL.
        ollama_probe: Whether to guess.

    Raises: ConfigError: with every URL that is none.
    """
    found = [
        *_openai(environ),
        *_anthropic(environ),
        *_azure(environ),
        *_openrouter(environ),
        *_bedrock(environ),
        *_tail(environ),
        *_compatible(environ, compatible),
        *_ollama(environ, probe=ollama_probe),
    ]
    _check(found)
    return found


def demo(base_url: str) -> Provider:
    """Returns the demo provider, which stands in when there is no other."""
    provider = Provider(
        name=DEMO,
        system=DEMO,
        dialect="openai",
        wire=Wire.OPENAI,
        base_url=_url(base_url),
        models=(DEMO,),
        discovers=True,
        tools=True,
    )
    _check([provider])
    return provider


def _openai(environ: Mapping[str, str]) -> list[Provider]:
    key = environ.get("OPENAI_API_KEY", "")
    base = environ.get("OPENAI_BASE_URL") or environ.get("OPENAI_API_BASE") or ""
    if not key and not base:
        return []
    vendor = KNOWN["openai"]
    elsewhere = bool(base) and _url(base) != vendor.base_url
    return [
        Provider(
            name="openai",
            system="openai",
            dialect="openai",
            wire=Wire.OPENAI,
            base_url=_url(base or vendor.base_url),
            api_key=Secret(key),
            models=(vendor.fast, vendor.power),
            fast=vendor.fast,
            power=vendor.power,
            embedding_model="" if elsewhere else vendor.embedding_model,
            # OpenAI's own list is long and full of models that do not chat; another server's says what there is.
            discovers=elsewhere,
            # Offering tools to a server that takes none fails every answer; not offering them costs only the tools.
            tools=not elsewhere,
        )
    ]


def _anthropic(environ: Mapping[str, str]) -> list[Provider]:
    key = environ.get("ANTHROPIC_API_KEY", "")
    if not key:
        return []
    vendor = KNOWN["anthropic"]
    base = _url(environ.get("ANTHROPIC_BASE_URL") or environ.get("ANTHROPIC_API_BASE") or vendor.base_url)
    return [
        Provider(
            name="anthropic",
            system="anthropic",
            dialect="anthropic",
            wire=Wire.ANTHROPIC,
            base_url=base.removesuffix("/v1"),
            api_key=Secret(key),
            models=(vendor.fast, vendor.power),
            fast=vendor.fast,
            power=vendor.power,
            tools=True,
        )
    ]


def _azure(environ: Mapping[str, str]) -> list[Provider]:
    key, base = environ.get("AZURE_API_KEY", ""), environ.get("AZURE_API_BASE", "")
    if not key or not base:
        return []
    named = tuple(part.strip() for part in environ.get("AZURE_DEPLOYMENT", "").split(",") if part.strip())
    models = named or ("gpt-4o-mini", "gpt-4o")
    return [
        Provider(
            name="azure",
            system="azure.ai.openai",
            dialect="azure",
            wire=Wire.OPENAI,
            base_url=_url(base),
            api_key=Secret(key),
            options={"api_version": environ.get("AZURE_API_VERSION") or AZURE_API_VERSION},
            models=models,
            fast=models[0],
            power=models[-1],
            # A deployment may be called anything, and behind it stands a model of OpenAI's.
            tools=True,
        )
    ]


def _openrouter(environ: Mapping[str, str]) -> list[Provider]:
    key = environ.get("OPENROUTER_API_KEY", "")
    if not key:
        return []
    vendor = KNOWN["openrouter"]
    return [
        Provider(
            name="openrouter",
            system="openrouter",
            dialect="openrouter",
            wire=Wire.OPENAI,
            base_url=_url(environ.get("OPENROUTER_API_BASE") or vendor.base_url),
            api_key=Secret(key),
            models=(vendor.fast, vendor.power),
            fast=vendor.fast,
            power=vendor.power,
        )
    ]


def _bedrock(environ: Mapping[str, str]) -> list[Provider]:
    by_key = environ.get("AWS_ACCESS_KEY_ID") and environ.get("AWS_SECRET_ACCESS_KEY")
    region = environ.get("AWS_REGION_NAME") or environ.get("AWS_REGION") or environ.get("AWS_DEFAULT_REGION")
    if not region or not (by_key or environ.get("AWS_PROFILE") or environ.get("AWS_BEARER_TOKEN_BEDROCK")):
        return []
    vendor = KNOWN["bedrock"]
    options = {"aws_region_name": region}
    for option in ("aws_access_key_id", "aws_secret_access_key", "aws_session_token", "aws_bedrock_runtime_endpoint"):
        if value := environ.get(option.upper()):
            options[option] = Secret(value)
    if profile := environ.get("AWS_PROFILE"):
        options["aws_profile_name"] = profile
    return [
        Provider(
            name="bedrock",
            system="aws.bedrock",
            dialect="bedrock",
            wire=Wire.LITELLM,
            options=options,
            models=(vendor.fast, vendor.power),
            fast=vendor.fast,
            power=vendor.power,
        )
    ]


def _tail(environ: Mapping[str, str]) -> list[Provider]:
    return [
        Provider(
            name=name,
            system=_SYSTEMS.get(name, name),
            dialect=name,
            wire=Wire.LITELLM,
            api_key=Secret(environ[variable]),
            models=(vendor.fast, vendor.power),
            fast=vendor.fast,
            power=vendor.power,
        )
        for variable, name in _TAIL.items()
        for vendor in (KNOWN[name],)
        if environ.get(variable)
    ]


_SYSTEMS = {"gemini": "gcp.gemini", "mistral": "mistral_ai", "xai": "x_ai"}


def _compatible(environ: Mapping[str, str], compatible: Mapping[str, str]) -> list[Provider]:
    return [
        Provider(
            name=name,
            system=name,
            dialect="openai",
            wire=Wire.OPENAI,
            base_url=_url(base),
            api_key=Secret(environ.get(f"{name.upper().replace('-', '_')}_API_KEY", "")),
            discovers=True,
            priced=False,
        )
        for name, base in compatible.items()
    ]


def _ollama(environ: Mapping[str, str], *, probe: bool) -> list[Provider]:
    base = environ.get("OLLAMA_API_BASE") or (OLLAMA_DEFAULT_URL if probe else "")
    if not base:
        return []
    return [
        Provider(
            name="ollama",
            system="ollama",
            dialect="ollama_chat",
            wire=Wire.OLLAMA,
            base_url=_url(base),
            api_key=Secret(environ.get("OLLAMA_API_KEY", "")),
            discovers=True,
        )
    ]


def _url(text: str) -> str:
    return text.strip().rstrip("/")


def _check(found: list[Provider]) -> None:
    faults = []
    for provider in found:
        parts = urlsplit(provider.base_url)
        if provider.base_url and (parts.scheme not in {"http", "https"} or not parts.netloc):
            faults.append(f"  the base URL of the provider {provider.name} is no http(s) URL")
    names = [provider.name for provider in found]
    faults += [f"  there are two providers named {name}" for name in sorted({n for n in names if names.count(n) > 1})]
    if faults:
        raise ConfigError("The configuration has faults:\n" + "\n".join(faults))
