"""What a role may do, and what only an operator of the platform may."""

from __future__ import annotations

import contextvars
from typing import Any

import pytest

from runtime import permissions
from runtime.context import Identity, set_identity
from runtime.errors import PermissionDenied, Unauthenticated


def may(permission: str, role: str, **claims: Any) -> bool:
    """Asks as a caller of this role whose token carries these claims."""

    def ask() -> bool:
        set_identity(Identity("u", "o", role, "s", None, claims, 0))
        try:
            permissions.require(permission)
        except PermissionDenied:
            return False
        return True

    return contextvars.copy_context().run(ask)


@pytest.mark.parametrize("permission", sorted(permissions.OPERATOR_PERMISSIONS))
@pytest.mark.parametrize("role", ["owner", "admin", "member", "nobody"])
def test_the_platform_is_an_operator_s_whatever_the_role(permission: str, role: str) -> None:
    assert may(permission, role, operator=True)
    assert not may(permission, role)


@pytest.mark.parametrize("claim", ["true", 1, None, {}])
def test_only_a_true_claim_makes_an_operator(claim: object) -> None:
    assert not may("gateway:admin", "owner", operator=claim)


def test_an_operator_gets_no_permission_that_a_role_carries() -> None:
    assert not may("run:admin", "member", operator=True)
    assert may("run:admin", "owner")


def test_nobody_may_nothing() -> None:
    def ask() -> None:
        set_identity(None)
        permissions.require("gateway:admin")

    with pytest.raises(Unauthenticated):
        contextvars.copy_context().run(ask)
