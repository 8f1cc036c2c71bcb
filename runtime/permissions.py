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


class Forbidden(PermissionDenied):
    """The caller's role does not carry the permission."""

    reason = "PERMISSION_DENIED"

    def __init__(self, permission: str) -> None:
        super().__init__(f"This needs the permission {permission}.", permission=permission)


def require(permission: str) -> None:
    """Returns where the caller's role carries a permission.

    Raises: Unauthenticated: there is no caller; Forbidden.
    """
    if permission not in PERMISSIONS.get(current_identity().role, frozenset()):
        raise Forbidden(permission)
