"""Ids of responses, which are ids of runs, and what is told where there is no such response."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING
from uuid import UUID

from runtime.errors import NotFound

if TYPE_CHECKING:
    from collections.abc import Iterator


class ResponseNotFound(NotFound):
    """There is no such response, or it is not the caller's."""

    reason = "RESPONSE_NOT_FOUND"

    def __init__(self) -> None:
        super().__init__("There is no such response.")


def response_id(run_id: str) -> str:
    """Returns the id of a run's response."""
    return f"resp_{UUID(run_id).hex}"


def run_id_of(name: str) -> str:
    """Returns the id of a response's run.

    Raises: ResponseNotFound: no response has such an id.
    """
    try:
        return str(UUID(name.removeprefix("resp_")))
    except ValueError:
        raise ResponseNotFound from None


@contextlib.contextmanager
def told_as_response() -> Iterator[None]:
    """Tells of a run that there is not as of a response that there is not."""
    try:
        yield
    except NotFound:
        raise ResponseNotFound from None
