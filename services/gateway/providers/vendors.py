"""Where vendors are and which of their models stand for `fast` and `power`, unless somebody says otherwise."""

from __future__ import annotations

from dataclasses import dataclass

AZURE_API_VERSION = "2024-10-21"


@dataclass(frozen=True, slots=True)
class Vendor:
    """A vendor's own address, empty where litellm knows it, and models; `families` are what names of further ones begin with."""

    base_url: str
    fast: str
    power: str
    embedding_model: str = ""
    families: tuple[str, ...] = ()


KNOWN = {
    "openai": Vendor(
        "https://api.openai.com/v1",
        "gpt-4o-mini",
        "gpt-5.2",
        "text-embedding-3-small",
        families=("gpt-", "chatgpt-", "o1", "o3", "o4", "text-embedding-"),
    ),
    "anthropic": Vendor("https://api.anthropic.com", "claude-haiku-4-5", "claude-sonnet-5", families=("claude-",)),
    "openrouter": Vendor("https://openrouter.ai/api/v1", "openai/gpt-4o-mini", "anthropic/claude-sonnet-4.5"),
    "bedrock": Vendor("", "amazon.nova-lite-v1:0", "amazon.nova-pro-v1:0"),
    "gemini": Vendor("", "gemini-2.5-flash", "gemini-2.5-pro", families=("gemini-",)),
    "mistral": Vendor(
        "",
        "mistral-small-latest",
        "mistral-large-latest",
        families=("mistral-", "ministral-", "codestral-", "magistral-"),
    ),
    "deepseek": Vendor("", "deepseek-chat", "deepseek-reasoner", families=("deepseek-",)),
    "xai": Vendor("", "grok-4.3", "grok-4.5", families=("grok-",)),
    "groq": Vendor("", "openai/gpt-oss-20b", "openai/gpt-oss-120b"),
}
"""By litellm's name."""


def makes(vendor: str, base_url: str, model: str) -> bool:
    """Tells by its name whether a model is made by a vendor, and is to be had at an address: its own, for a compatible server has what it has."""
    known = KNOWN.get(vendor)
    return known is not None and base_url == known.base_url and model.startswith(known.families or ("/",))
