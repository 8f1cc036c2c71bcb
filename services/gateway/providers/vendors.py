"""Where vendors are and which of their models stand for `fast` and `power`, unless somebody says otherwise."""

from __future__ import annotations

from dataclasses import dataclass

AZURE_API_VERSION = "2024-10-21"


@dataclass(frozen=True, slots=True)
class Vendor:
    """A vendor's own address, empty where litellm knows it, and models."""

    base_url: str
    fast: str
    power: str
    embedding_model: str = ""


KNOWN = {
    "openai": Vendor("https://api.openai.com/v1", "gpt-4o-mini", "gpt-5.2", "text-embedding-3-small"),
    "anthropic": Vendor("https://api.anthropic.com", "claude-haiku-4-5", "claude-sonnet-5"),
    "openrouter": Vendor("https://openrouter.ai/api/v1", "openai/gpt-4o-mini", "anthropic/claude-sonnet-4.5"),
    "bedrock": Vendor("", "amazon.nova-lite-v1:0", "amazon.nova-pro-v1:0"),
    "gemini": Vendor("", "gemini-2.5-flash", "gemini-2.5-pro"),
    "mistral": Vendor("", "mistral-small-latest", "mistral-large-latest"),
    "deepseek": Vendor("", "deepseek-chat", "deepseek-reasoner"),
    "xai": Vendor("", "grok-4.3", "grok-4.5"),
    "groq": Vendor("", "openai/gpt-oss-20b", "openai/gpt-oss-120b"),
}
"""By litellm's name."""
