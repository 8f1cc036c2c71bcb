"""What the data service is told."""

from __future__ import annotations

from dataclasses import dataclass

from runtime.config import Secret, at_least
from runtime.server import ServerConfig


@dataclass(frozen=True, kw_only=True)
class DataConfig(ServerConfig):
    """Environment of the data service; the prefix is `PARLEY_DATA_`."""

    database_url: Secret
    """URL of the database as the role `parley_data`."""
    auth_address: str
    """`host:port` of auth, which publishes the keys that prove access tokens."""
    direct_port: int = at_least(0, default=0)
    """Port of the same interface that shared connections of callers come to; 0: a free one. Where it cannot be reached, calls go the plain way."""
    pool_max_size: int = at_least(1, default=4)
    """Most connections to the database, beside those of searches; further calls wait up to five seconds for one."""
    message_max_chars: int = at_least(1, default=10_000)
    """Longest message of a user, in characters."""
