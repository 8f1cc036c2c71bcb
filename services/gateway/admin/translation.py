"""Kept providers to callable ones, and the environment's to what an operator reads."""

from __future__ import annotations

from typing import TYPE_CHECKING

from runtime.config import Secret
from services.gateway.admin.records import ProviderRecord
from services.gateway.admin.references import SecretUnavailable
from services.gateway.providers import environment
from services.gateway.providers.provider import Provider, Wire
from services.gateway.providers.vendors import AZURE_API_VERSION, KNOWN

if TYPE_CHECKING:
    from collections.abc import Mapping

    from services.gateway.admin.references import Secrets

_SYSTEMS = {
    "azure": "azure.ai.openai",
    "bedrock": "aws.bedrock",
    "gemini": "gcp.gemini",
    "mistral": "mistral_ai",
    "xai": "x_ai",
}
_DIALECTS = {"ollama": "ollama_chat", "openai-compatible": "openai"}
_TYPES = {"ollama_chat": "ollama"}
_WIRES = {
    "openai": Wire.OPENAI,
    "azure": Wire.OPENAI,
    "openrouter": Wire.OPENAI,
    "openai-compatible": Wire.OPENAI,
    "anthropic": Wire.ANTHROPIC,
    "ollama": Wire.OLLAMA,
}
# litellm's names of settings.
_OPTIONS = {
    "access_key_id": "aws_access_key_id",
    "endpoint": "aws_bedrock_runtime_endpoint",
    "profile": "aws_profile_name",
    "region": "aws_region_name",
    "secret_access_key": "aws_secret_access_key",
    "session_token": "aws_session_token",
}
_SETTINGS = {option: setting for setting, option in _OPTIONS.items()}
_HEADERS = {"organization": "openai-organization", "project": "openai-project"}


async def callable_provider(record: ProviderRecord, secrets: Secrets) -> Provider:
    """Returns a provider as calls use it.

    Raises: SecretUnavailable: a reference leads to nothing, or to what no header can hold; or the record could not be decrypted.
    """
    if record.lost:
        raise SecretUnavailable("the encryption key it was encrypted under is not here")
    kind = record.type
    known = KNOWN.get(kind) if not (kind == "openai" and record.base_url) else None
    settings = {name: await secrets.read(value) for name, value in record.settings.items()}
    fast = record.default_model or (known.fast if known else "") or (record.models[0] if record.models else "")
    power = (known.power if known and not record.default_model else "") or fast
    key = await secrets.read(record.api_key)
    if not key.isprintable():
        raise SecretUnavailable("it holds line breaks or other control characters")
    base = record.base_url.rstrip("/") or (known.base_url if known else "")
    return Provider(
        name=record.name,
        system=_SYSTEMS.get(kind, record.name if kind == "openai-compatible" else kind),
        dialect=_DIALECTS.get(kind, kind),
        wire=_WIRES.get(kind, Wire.LITELLM),
        base_url=base.removesuffix("/v1") if kind == "anthropic" else base,
        api_key=Secret(key),
        options=_options(kind, settings),
        headers={_HEADERS[name]: value for name, value in settings.items() if name in _HEADERS and kind == "openai"},
        models=record.models or (tuple(dict.fromkeys((fast, power))) if fast else ()),
        fast=fast,
        power=power if not record.models or power in record.models else fast,
        discovers=not record.models
        and (kind in {"openai-compatible", "ollama"} or (kind == "openai" and bool(base) and known is None)),
        tools=kind in {"anthropic", "azure"} or (kind == "openai" and not record.base_url),
        embedding_model=record.embedding_model or (known.embedding_model if known else ""),
        default_model=record.default_model,
        timeouts=record.timeouts,
        priced=kind != "openai-compatible",
    )


def described(provider: Provider) -> ProviderRecord:
    """Returns a provider of the environment as an operator reads it."""
    kind = _TYPES.get(provider.dialect, provider.dialect)
    if (provider.wire is Wire.OPENAI and not provider.priced) or provider.name == environment.DEMO:
        kind = "openai-compatible"
    return ProviderRecord(
        name=provider.name,
        type=kind,
        base_url=provider.base_url,
        api_key=provider.api_key.reveal(),
        settings={_SETTINGS.get(name, name): str(value) for name, value in provider.options.items()},
        models=provider.models,
        default_model=provider.default_model or provider.fast,
        embedding_model=provider.embedding_model,
        timeouts=provider.timeouts,
        stored=False,
    )


def _options(kind: str, settings: Mapping[str, str]) -> dict[str, str]:
    options: dict[str, str] = {
        _OPTIONS.get(name, name): Secret(value) for name, value in settings.items() if name not in _HEADERS
    }
    if kind == "azure":
        options.setdefault("api_version", AZURE_API_VERSION)
    return options
