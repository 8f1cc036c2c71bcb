"""Who is calling: the request id, the identity and the credential of the work at hand, carried by context variables."""

from __future__ import annotations

import os
import re
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

from runtime.errors import Unauthenticated


@dataclass(frozen=True, slots=True)
class Identity:
    """A verified caller.

    Attributes:
        user_id: UUID of the user; the nil UUID for a service that speaks for itself.
        org_id: UUID of the organization the session acts in.
        role: Role in it: `owner`, `admin` or `member`; `service` for a service that speaks for itself.
        session_id: UUID of the session; the nil UUID where there is none.
        actor: Name of the service that acts for the user, or speaks for itself; None when it is the user itself.
        claims: All claims of the token, as they were signed.
        expires_at: When the token ends, seconds since the epoch.
    """

    user_id: str
    org_id: str
    role: str
    session_id: str
    actor: str | None
    claims: dict[str, Any]
    expires_at: float


request_id: ContextVar[str] = ContextVar("request_id", default="")
"""Id of the request at hand: given by the caller's `x-request-id` or made at the first hop; in every log line and error."""

credential: ContextVar[str] = ContextVar("credential", default="")
"""The access token calls to other services are made with; empty: none."""

_identity: ContextVar[Identity | None] = ContextVar("identity", default=None)


_REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")


def accepted_request_id(given: str) -> str:
    """Returns the request id a caller sent where it is well formed, since it goes into logs and headers; otherwise a new one."""
    return given if given and _REQUEST_ID.fullmatch(given) else os.urandom(16).hex()


def bearer_token(authorization: str) -> str:
    """Returns the access token of an `authorization` header.

    Raises: Unauthenticated: there is none.
    """
    scheme, _, token = authorization.partition(" ")
    token = token.strip()
    if scheme.lower() != "bearer" or not token:
        raise Unauthenticated("An access token is needed: send `authorization: Bearer <access token>`.")
    return token


def set_identity(identity: Identity | None) -> None:
    """Makes `identity` the caller of the work at hand."""
    _identity.set(identity)


def current_identity() -> Identity:
    """Returns the verified caller.

    Raises: Unauthenticated: the call carried no access token.
    """
    identity = _identity.get()
    if identity is None:
        raise Unauthenticated("This call needs a caller who is signed in.")
    return identity
