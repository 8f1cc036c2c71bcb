"""What is known of a provider before it is asked anything."""

from __future__ import annotations

import enum
import functools
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field

from runtime.config import Secret
from services.gateway.domain import Timeouts

_NO_KEY = Secret("")


class Wire(enum.Enum):
    """How a provider's stream is read."""

    OPENAI = "openai"
    ANTHROPIC = "anthropic"
    OLLAMA = "ollama"
    LITELLM = "litellm"
    """By litellm: every provider whose wire we do not speak."""


@dataclass(frozen=True, kw_only=True)
class Provider:
    """A provider this process may call.

    Attributes:
        name: What calls say before the slash.
        system: Its name in OpenTelemetry's `gen_ai.provider.name`.
        dialect: litellm's name of it, which decides how requests are spelt and what they cost.
        wire: How its stream is read.
        base_url: Where it is, without the path of the call; empty where litellm knows.
        api_key: Empty where it wants none.
        options: What litellm needs besides, by litellm's names.
        headers: Sent along where we read the stream ourselves.
        models: The models to list, the first one being used where nothing better is known.
        fast: Model behind the alias `fast`.
        power: Model behind the alias `power`.
        discovers: Its server can be asked which models it has.
        tools: Its models call tools, where neither litellm nor its own server says so of one.
        embedding_model: The one that makes vectors; empty: none is known.
        default_model: Of calls that name nothing, while this is the default; empty: `fast`.
        timeouts: How long to wait for it; 0 where that is the gateway's own.
        priced: The dialect's prices and limits hold for it; a compatible server may call any model anything.
    """

    name: str
    system: str
    dialect: str
    wire: Wire
    base_url: str = ""
    api_key: Secret = _NO_KEY
    options: Mapping[str, str] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)
    models: tuple[str, ...] = ()
    fast: str = ""
    power: str = ""
    discovers: bool = False
    tools: bool = False
    embedding_model: str = ""
    default_model: str = ""
    timeouts: Timeouts = field(default_factory=Timeouts)
    priced: bool = True

    @functools.cached_property
    def account(self) -> str:
        """Eight digits that change with the key or the address: what one account is refused another may have."""
        return hashlib.sha256(f"{self.base_url}\n{self.api_key.reveal()}".encode()).hexdigest()[:8]


def makes_vectors(model: str) -> bool:
    """Tells by its name whether a model makes embeddings: servers list those beside the ones that chat, and say nothing about it."""
    return "embed" in model.lower()
