"""Operators of the platform: made and unmade by whoever runs it, from its command line and nowhere else."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from services.auth.domain import UserNotFound, normal_email

if TYPE_CHECKING:
    from services.auth.domain import Audit


class Store(Protocol):
    """Users."""

    async def set_operator(self, email: str, *, operator: bool) -> str | None:
        """Makes a user an operator, or none; returns their id, None where there is no such user."""


class Operators:
    """The use cases.

    Args:
        store: Where users are.
        audit: Where events go.
    """

    def __init__(self, store: Store, audit: Audit) -> None:
        self._store = store
        self._audit = audit

    async def grant(self, email: str) -> None:
        """Makes a user an operator: from their next access token on.

        Raises: InvalidArgument; UserNotFound.
        """
        await self._set(email, operator=True)

    async def revoke(self, email: str) -> None:
        """Makes a user an operator no longer: access tokens that say so end within a quarter of an hour.

        Raises: InvalidArgument; UserNotFound.
        """
        await self._set(email, operator=False)

    async def _set(self, email: str, *, operator: bool) -> None:
        user_id = await self._store.set_operator(normal_email(email), operator=operator)
        if user_id is None:
            raise UserNotFound("There is no such user.")
        self._audit("operator_granted" if operator else "operator_revoked", user_id=user_id)
