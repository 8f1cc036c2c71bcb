"""What a role may do beyond its own things: `resource:action`, asked for by the methods that need it."""

from __future__ import annotations

from runtime.context import current_identity
from runtime.errors import PermissionDenied

SERVICE_ROLE = "service"
"""Role of a service that speaks for itself, not for a user."""

_ADMIN = frozenset({"chatbot:use", "run:admin"})
PERMISSIONS = {
    "owner": _ADMIN,
    "admin": _ADMIN,
    "member": frozenset({"chatbot:use"}),
    SERVICE_ROLE: frozenset({"run:claim", "run:admin"}),
}
"""By role. An unknown role may nothing."""

OPERATOR_CLAIM = "operator"
"""Claim of an access token whose user operates the platform, whatever their role in an organization; a delegated token never has it."""
OPERATOR_PERMISSIONS = frozenset({"gateway:admin", "usage:admin"})
"""What concerns all organizations together."""


class Forbidden(PermissionDenied):
    """The caller's role does not carry the permission."""

    reason = "PERMISSION_DENIED"

    def __init__(self, permission: str) -> None:
        super().__init__(f"This needs the permission {permission}.", permission=permission)


def require(permission: str) -> None:
    """Returns where the caller's role carries a permission, or the caller is an operator and it is one of theirs.

    Raises: Unauthenticated: there is no caller; Forbidden.
    """
    identity = current_identity()
    if permission in PERMISSIONS.get(identity.role, frozenset()):
        return
    if permission in OPERATOR_PERMISSIONS and identity.claims.get(OPERATOR_CLAIM) is True:
        return
    raise Forbidden(permission)
