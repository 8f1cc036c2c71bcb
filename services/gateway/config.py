"""The gateway's settings, read from `PARLEY_GATEWAY_…`; the providers' own variables keep their usual names."""

from __future__ import annotations

from dataclasses import dataclass, field

from runtime.config import Secret, at_least, parsed_by
from runtime.server import ServerConfig
from services.gateway import timeouts
from services.gateway.domain import Timeouts
from services.gateway.usage import domain as usage


@dataclass(frozen=True, kw_only=True)
class GatewayConfig(ServerConfig):
    """Settings of one gateway process."""

    auth_address: str
    """`host:port` of auth, whose keys prove access tokens."""
    direct_port: int = at_least(0, default=0)
    """Port of the same interface that shared connections of callers come to; 0: a free one. Where it cannot be reached, calls go the plain way."""
    database_url: Secret | None = None
    """URL of Postgres, as the role `parley_gateway`; none: nothing is kept, neither providers nor usage, and budgets hold nobody back."""
    redis_url: Secret | None = None
    """URL of Redis, which holds what instances share: running counters, cooldowns. It may be away."""
    pool_max_size: int = at_least(1, default=3)
    """Most connections to Postgres."""
    user_tokens_per_day: int | None = field(default=50_000, metadata=parsed_by(usage.limit))
    """Tokens that one user may use in an organization a day (UTC), where no other budget was set; 0: none, empty: no limit."""
    organization_tokens_per_day: int | None = field(default=1_000_000, metadata=parsed_by(usage.limit))
    """The same of an organization."""
    global_tokens_per_day: int | None = field(default=1_000_000, metadata=parsed_by(usage.limit))
    """The same of all together."""
    demo_base_url: str = ""
    """OpenAI-shaped base URL of the demo provider, used when no other is found; empty: none."""
    aliases: dict[str, str] = field(default_factory=dict)
    """Alias to `provider/model`; overrides and adds to `fast` and `power`."""
    default_model: str = "fast"
    """What a call uses that names nothing: an alias or a model."""
    models: tuple[str, ...] = ()
    """Further models to list, each as `provider/model`; any model of a found provider can be called without this."""
    compatible: dict[str, str] = field(default_factory=dict)
    """Further OpenAI-compatible servers, name to base URL; the key of `vllm` is read from `VLLM_API_KEY`."""
    ollama_probe: bool = True
    """Looks for an Ollama on this machine when `OLLAMA_API_BASE` does not name one."""
    discovery_timeout_s: float = at_least(0.01, default=2.0)
    """Longest wait, at start, for a server to list its models."""
    first_token_timeout_s: float = at_least(0.001, default=30.0)
    """Longest wait for the first delta, in seconds."""
    gap_timeout_s: float = at_least(0.001, default=30.0)
    """Longest wait between two deltas, in seconds."""
    total_timeout_s: float = at_least(0.001, default=600.0)
    """Longest call, in seconds."""
    timeouts: dict[str, Timeouts] = field(default_factory=dict, metadata=parsed_by(timeouts.parse))
    """Deadlines of single aliases and providers, as JSON; an alias's come before its provider's, and those before the three above."""
    tools: dict[str, bool] = field(default_factory=dict)
    """Whether models call tools, by provider or `provider/model`, where what is known of them is wrong: `vllm=true`."""
    retries: int = at_least(0, default=2)
    """Further attempts after the first, as long as nothing has been given out."""
    retry_backoff_s: float = at_least(0, default=0.5)
    """Wait before the first of them, in seconds; it doubles."""
    retry_after_max_s: float = at_least(0, default=5.0)
    """A provider that asks for a longer wait is not waited for."""
    max_output_tokens: int = at_least(1, default=4096)
    """Most tokens of an answer where the call does not say."""
    upstream_connections: int = at_least(1, default=2000)
    """Most connections to providers; further calls wait for one."""
    cooldown_failures: int = at_least(1, default=3)
    """Failures in a row after which a model is asked last for a while, where an alias has others."""
    cooldown_s: float = at_least(0, default=10.0)
    """How long, in seconds, where its provider does not say."""
    cooldown_max_s: float = at_least(0, default=300.0)
    """However long it says."""
    vector_cache_bytes: int = at_least(0, default=64 * 1024 * 1024)
    """Memory for vectors that were made before."""
    encryption_keys: Secret | None = None
    """Keys under which providers' keys are encrypted: 32 bytes in base64 each, apart by commas or lines. The first encrypts, all decrypt. None, or
    no database: providers and aliases are the environment's alone."""
    secret_variables: tuple[str, ...] = ("*_KEY",)
    """Patterns of the variables that `env:` may name; never one of `PARLEY_…`, `VAULT_…` or `PG…`."""
    secret_directories: tuple[str, ...] = ("/run/secrets",)
    """Directories beneath which the files are that `file:` may name; never one that tells the server something itself."""
    secrets_every_s: float = at_least(0.1, default=60.0)
    """Seconds between two readings of the keys that are kept elsewhere (`env:`, `file:`, `vault:`)."""


@dataclass(frozen=True, kw_only=True)
class SealConfig:
    """What putting stored keys under a newer encryption key needs."""

    database_url: Secret
    """URL of Postgres, as the role `parley_gateway`."""
    encryption_keys: Secret
    """The newest first."""
