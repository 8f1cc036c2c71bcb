"""What the chat service is told: `PARLEY_CHAT_…`."""

from __future__ import annotations

from dataclasses import dataclass

from runtime.config import ConfigError, Secret, at_least
from runtime.server import ServerConfig
from services.chat.domain import MESSAGE_MAX_CHARS
from services.chat.ports import ActiveLimits, RequestLimits
from services.chat.rules import Rules
from services.chat.tools.registry import Registry
from services.chat.turn import Pace

_SYSTEM_PROMPT = (
    "You are a helpful assistant. Answer in the language of the question, and format with Markdown where it helps."
)


@dataclass(frozen=True, kw_only=True)
class ChatConfig(ServerConfig):
    """Environment of the chat service; the prefix is `PARLEY_CHAT_`."""

    auth_address: str
    """`host:port` of auth."""
    data_address: str
    """`host:port` of data."""
    gateway_address: str
    """`host:port` of the gateway."""
    redis_url: Secret
    """URL of Redis, which holds the tails of live runs. It may be away."""
    actor_key: Secret
    """The key by which this service proves itself to auth when it exchanges a user's token."""
    direct_port: int = at_least(0, default=0)
    """Port of the same interface that shared connections of callers come to; 0: a free one. Where it cannot be reached, calls go the plain way."""
    system_prompt: str = _SYSTEM_PROMPT
    """Instructions before every conversation; empty: none."""
    title_model: str = "fast"
    """Model or alias that gives new conversations a title; empty: none, a title is the first words."""
    tools: tuple[str, ...] = ("services.chat.tools.current_time:CURRENT_TIME",)
    """Tools that models may call, as `package.module:attribute`, with commas between them; empty: none."""
    message_max_chars: int = at_least(1, default=MESSAGE_MAX_CHARS)
    """Longest message of a user, in characters; data has a bound of its own."""
    history_max_messages: int = at_least(0, default=50)
    """Most messages of history a model is sent, up to 200."""
    history_max_tokens: int = at_least(0, default=100_000)
    """Most tokens of history a model is sent, however large its context; the gateway takes 4 MiB in all."""
    max_live_runs: int = at_least(1, default=2_000)
    """Most runs started here at once; further ones are refused with RESOURCE_EXHAUSTED. With as many live ones none is claimed."""
    max_background_runs: int = at_least(1, default=32)
    """Most runs out of the queue here at once; further ones wait. What an instance that is gone has left behind does not count."""
    max_runs_per_user: int = at_least(0, default=1)
    """Most active runs of one user; 0: no bound."""
    max_runs_per_conversation: int = at_least(0, default=1)
    """Most active runs of one conversation; 0: no bound."""
    queued_per_user: int = at_least(0, default=50)
    """Most queued runs of one user; 0: no bound."""
    requests_per_minute: int = at_least(0, default=10)
    """Most turns that a user may begin in a minute, up to 10,000; 0: no bound."""
    requests_per_hour: int = at_least(0, default=60)
    """As before, in an hour."""
    requests_per_day: int = at_least(0, default=100)
    """As before, in 24 hours."""
    background_tries: int = at_least(1, default=3)
    """How often a background run is tried before it becomes a dead letter, up to 10."""
    max_watchers: int = at_least(1, default=10_000)
    """Most streams at once that follow a run; further ones are refused with RESOURCE_EXHAUSTED."""
    call_timeout_s: float = at_least(0.1, default=5.0)
    """Longest wait for an answer of auth, data and the gateway's list of models."""
    lease_s: float = at_least(1, default=6.0)
    """How long an instance owns a run without renewing its lease, seconds."""
    suspicion_s: float = at_least(0, default=3.0)
    """How long a lapsed lease must have been seen lapsed before another instance takes the run, seconds."""
    claim_every_s: float = at_least(0.05, default=1.0)
    """Seconds between two looks for runs that nobody owns."""
    checkpoint_every_s: float = at_least(0.05, default=1.0)
    """Seconds between two checkpoints of a growing answer."""
    finish_patience_s: float = at_least(0, default=2.0)
    """Seconds a run's last event waits for the answer to be stored."""
    finish_retry_for_s: float = at_least(0, default=600.0)
    """Seconds a finished answer is kept and tried again while data is away."""
    tail_flush_every_s: float = at_least(0.001, default=0.03)
    """Seconds between two flushes of live logs to Redis."""
    tail_ttl_s: int = at_least(1, default=3_600)
    """Seconds a log stays in Redis."""

    def load_tools(self) -> Registry:
        """Returns the tools named.

        Raises: ConfigError: names the entry that is no tool, and why.
        """
        try:
            return Registry.load(self.tools)
        except ValueError as fault:
            raise ConfigError(f"PARLEY_CHAT_TOOLS: {fault}") from None

    def rules(self, owner: str) -> Rules:
        """Returns what an instance of this name does."""
        return Rules(
            owner=owner,
            system_prompt=self.system_prompt,
            message_max_chars=self.message_max_chars,
            history_max_messages=self.history_max_messages,
            history_max_tokens=self.history_max_tokens,
            max_live_runs=self.max_live_runs,
            max_background_runs=self.max_background_runs,
            max_watchers=self.max_watchers,
            background_tries=self.background_tries,
            limits=ActiveLimits(
                per_user=self.max_runs_per_user,
                per_conversation=self.max_runs_per_conversation,
                queued_per_user=self.queued_per_user,
            ),
            request_limits=RequestLimits(
                per_minute=self.requests_per_minute,
                per_hour=self.requests_per_hour,
                per_day=self.requests_per_day,
            ),
            claim_every_s=self.claim_every_s,
            suspicion_s=self.suspicion_s,
            pace=Pace(
                lease_s=self.lease_s,
                checkpoint_every_s=self.checkpoint_every_s,
                finish_patience_s=self.finish_patience_s,
                finish_retry_for_s=self.finish_retry_for_s,
            ),
        )
