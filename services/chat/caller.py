"""Who asks for something."""

from __future__ import annotations

from dataclasses import dataclass

from runtime.context import Identity


@dataclass(frozen=True, slots=True)
class Caller:
    """Who asks, and with what.

    Attributes:
        identity: Who.
        token: Their access token.
        request_id: Id of the request.
    """

    identity: Identity
    token: str
    request_id: str

    def is_same_as(self, other: Identity) -> bool:
        """Says whether this is the same user in the same organization."""
        return (self.identity.org_id, self.identity.user_id) == (other.org_id, other.user_id)
