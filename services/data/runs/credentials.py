"""Credentials that come within a request, beside the one the call was made with."""

from __future__ import annotations

from typing import TYPE_CHECKING

from runtime.errors import Unauthenticated

if TYPE_CHECKING:
    from runtime.context import Identity
    from runtime.identity import Verifier


class Credentials:
    """Knows callers by their access tokens.

    Args:
        verifier: The server's own; None where it knows no callers.
    """

    def __init__(self, verifier: Verifier | None) -> None:
        self._verifier = verifier

    async def known(self, token: str) -> Identity | None:
        """Returns who a token speaks for; None: it is not valid.

        Raises: Unavailable: auth is away and its keys are not known.
        """
        if self._verifier is None:
            return None
        try:
            return await self._verifier.verify(token)
        except Unauthenticated:
            return None
