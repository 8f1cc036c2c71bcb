"""Providers as operators keep them, and how they must look."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from runtime import errors
from runtime.validation import invalid, number
from services.gateway import rules
from services.gateway.admin import references
from services.gateway.domain import Timeouts
from services.gateway.providers.addresses import is_special
from services.gateway.providers.hashing import HASH_PROVIDER

if TYPE_CHECKING:
    from collections.abc import Callable

    from services.gateway.admin.references import Places

TYPES = ("openai", "azure", "ollama", "openrouter", "bedrock", "anthropic", "openai-compatible")
"""Those with a setting of their own; any other is litellm's name of a provider."""
NEEDS_BASE_URL = ("azure", "ollama", "openai-compatible")
PUBLIC_SETTINGS = (
    "api_version",
    "endpoint",
    "organization",
    "profile",
    "project",
    "region",
    "vertex_location",
    "vertex_project",
)
SECRET_SETTINGS = ("access_key_id", "secret_access_key", "session_token", "vertex_credentials")
MAX_MODELS = 500
MAX_KEY_CHARS = 8192
MAX_SETTING_CHARS = 16_384
MAX_URL_CHARS = 2000
MASK = "…"

_NAME = re.compile(r"[a-z0-9-]{1,64}")
_MODEL = re.compile(r"[A-Za-z0-9._:/@+-]{1,200}")
_SETTING = re.compile(r"[A-Za-z0-9._:-]{0,200}")
_METADATA_HOSTS = ("metadata.google.internal", "metadata")


@dataclass(frozen=True, kw_only=True)
class ProviderRecord:
    """A provider as it is kept; keys and secret settings are in clear text here, or references.

    Attributes:
        stored: It is in our own tables, not in the environment.
        lost: Its keys and secret settings cannot be decrypted, and stand empty here.
        created_at: None for the environment's.
        updated_at: None for the environment's.
    """

    name: str
    type: str
    base_url: str = ""
    api_key: str = ""
    settings: Mapping[str, str] = field(default_factory=dict)
    models: tuple[str, ...] = ()
    default_model: str = ""
    embedding_model: str = ""
    timeouts: Timeouts = field(default_factory=Timeouts)
    enabled: bool = True
    stored: bool = True
    lost: bool = False
    created_at: datetime | None = None
    updated_at: datetime | None = None


class ProviderExists(errors.AlreadyExists):
    """The name is taken."""

    reason = "PROVIDER_EXISTS"


class ProviderNotFound(errors.NotFound):
    """There is none of this name."""

    reason = "PROVIDER_NOT_FOUND"


class ProviderOfEnvironment(errors.FailedPrecondition):
    """The environment says what it is."""

    reason = "PROVIDER_OF_ENVIRONMENT"


class ProviderInUse(errors.FailedPrecondition):
    """An alias names it."""

    reason = "PROVIDER_IN_USE"


class ProviderLocked(errors.FailedPrecondition):
    """Its keys cannot be decrypted."""

    reason = "PROVIDER_LOCKED"


class NoDefaultModel(errors.FailedPrecondition):
    """It names no model that could be the default."""

    reason = "NO_DEFAULT_MODEL"


def check(record: ProviderRecord, knows: Callable[[str], bool], places: Places) -> None:
    """Checks a provider before it is kept.

    Args:
        record: As it shall be.
        knows: Tells whether litellm has a provider of a name.
        places: Where references may lead.

    Raises: InvalidArgument: metadata `field` names the first field that breaks a rule.
    """
    if not _NAME.fullmatch(record.name) or record.name == HASH_PROVIDER:
        raise invalid("name", f"must be 1-64 characters of a-z 0-9 -, and not {HASH_PROVIDER}.")
    if record.type not in TYPES and not knows(record.type):
        raise invalid("type", f"must be one of {', '.join(TYPES)}, or litellm's name of another provider.")
    check_base_url(record.base_url, needed=record.type in NEEDS_BASE_URL)
    _check_secret("api_key", record.api_key, MAX_KEY_CHARS, places)
    _check_settings(record.settings, places)
    if len(record.models) > MAX_MODELS:
        raise invalid("models", f"must hold at most {MAX_MODELS} models, this one has {len(record.models)}.")
    for place, model in enumerate(record.models):
        _check_model(f"models[{place}]", model)
    for name in ("default_model", "embedding_model"):
        if model := getattr(record, name):
            _check_model(name, model)
    check_timeouts(record.timeouts)


def check_timeouts(timeouts: Timeouts) -> None:
    """Checks deadlines. Raises: InvalidArgument."""
    for name in ("first_token", "gap", "total"):
        number(f"timeouts.{name}", getattr(timeouts, f"{name}_s"), minimum=0, maximum=rules.MAX_TIMEOUT_S)


def check_base_url(url: str, *, needed: bool, field: str = "base_url") -> None:
    """Checks where a provider shall be: over HTTP, and not at the address where clouds tell machines their credentials.

    Private networks are allowed, since that is where people run models of their own.

    Raises: InvalidArgument.
    """
    if not url:
        if needed:
            raise invalid(field, "must be given for this type.")
        return
    try:
        parts = urlsplit(url)
        host = (parts.hostname or "").rstrip(".")
        bad = parts.scheme not in {"http", "https"} or not host or parts.port == 0
    except ValueError:
        raise invalid(field, "must be an http(s) URL.") from None
    if bad or len(url) > MAX_URL_CHARS or not url.isprintable() or any(c in url for c in " \\"):
        raise invalid(field, "must be an http(s) URL.")
    if parts.username is not None or parts.password is not None or parts.query or parts.fragment:
        raise invalid(field, "must hold neither user, query nor fragment.")
    if host.lower() in _METADATA_HOSTS or is_special(host):
        raise invalid(field, "must not lead to a link-local, multicast or unspecified address.")


def _check_settings(settings: Mapping[str, str], places: Places) -> None:
    for name, value in settings.items():
        if name not in PUBLIC_SETTINGS and name not in SECRET_SETTINGS:
            known = ", ".join(sorted((*PUBLIC_SETTINGS, *SECRET_SETTINGS)))
            raise invalid("settings", f"may hold {known}.")
        field = f"settings.{name}"
        _check_secret(field, value, MAX_SETTING_CHARS, places)
        if references.is_reference(value):
            continue
        if name == "endpoint":
            check_base_url(value, needed=False, field=field)
        elif name == "vertex_credentials":
            _check_google(field, value)
        elif name in PUBLIC_SETTINGS and not _SETTING.fullmatch(value):
            # Some become a part of an address.
            raise invalid(field, "must be at most 200 characters of A-Z a-z 0-9 . _ : -.")


def _check_google(field: str, value: str) -> None:
    """Refuses what is no service account's key: other kinds make whoever reads them open files or run programs."""
    try:
        told = json.loads(value) if value else {"type": "service_account"}
    except (ValueError, RecursionError):
        told = None
    if not isinstance(told, dict) or told.get("type") != "service_account":
        raise invalid(field, "must be the key of a service account, as JSON.")
    check_base_url(str(told.get("token_uri", "")), needed=False, field=field)


def _check_secret(name: str, value: str, most: int, places: Places) -> None:
    if len(value) > most:
        raise invalid(name, f"must have at most {most} characters.")
    if MASK in value:
        raise invalid(name, "is masked: give the whole of it.")
    lines = "\n\r\t" if name == "settings.vertex_credentials" else ""
    if any(not (c.isprintable() or c in lines) for c in value):
        raise invalid(name, "must not hold line breaks or other control characters.")
    if references.is_reference(value) and (wrong := places.fault(value)):
        raise invalid(name, wrong)


def _check_model(name: str, model: str) -> None:
    if not _MODEL.fullmatch(model):
        raise invalid(name, "must be 1-200 characters of A-Z a-z 0-9 . _ : / @ + -.")
