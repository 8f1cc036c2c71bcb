"""What the environment tells the edge; every field is the variable `PARLEY_EDGE_<NAME>`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from runtime.config import at_least
from runtime.server import ServerConfig


@dataclass(frozen=True, kw_only=True)
class EdgeConfig(ServerConfig):
    """The edge's settings."""

    auth_address: str
    """`host:port` of auth, or `dns:///name:port` to spread calls over all instances."""
    data_address: str
    """The same of data."""
    chat_address: str
    """The same of chat."""
    gateway_address: str = ""
    """The same of the gateway, which OpenAI's dialect calls directly; without it that is not spoken."""
    cors_origins: tuple[str, ...] = ()
    """Origins whose pages may call the API from a browser, such as `https://app.example.com`; the edge's own page needs none."""
    trusted_proxies: tuple[str, ...] = ()
    """Addresses or networks (`10.0.0.0/8`) of proxies whose `X-Forwarded-For` is believed; it feeds the sign-in throttle."""
    web_root: str = str(Path(__file__).parents[2] / "web" / "dist")
    """Directory of the built page; read once, at start."""
    max_connections: int = at_least(1, default=20_000)
    """Connections that may be open at once, those of event streams included; more are answered 503 and closed."""
    head_timeout_s: float = at_least(0.1, default=15.0)
    """Longest wait for a request's line and headers, in seconds."""
    max_body_bytes: int = at_least(1, default=1024 * 1024)
    """Longest request body."""
    max_prompt_bytes: int = at_least(1, default=12 * 1024 * 1024)
    """Longest request body below `/openai/v1`, where it may hold pictures."""
    body_timeout_s: float = at_least(0.1, default=30.0)
    """Longest wait for a request body, in seconds."""
    call_timeout_s: float = at_least(0.1, default=15.0)
    """Longest wait for the answer of a service, in seconds; streams have no end."""
    max_streams: int = at_least(1, default=10_000)
    """Event streams that may be open at once; more are answered 503."""
    heartbeat_s: float = at_least(0.1, default=15.0)
    """Longest silence of an event stream, in seconds; a comment is sent before it is over."""
    reattach_s: float = at_least(0, default=30.0)
    """Time for which an open event stream looks for another instance when its own has gone, in seconds; then its client is sent back."""
    stalled_reader_s: float = at_least(1, default=60.0)
    """Time after which a client that reads nothing of its answer, event stream or not, loses its connection, in seconds."""
