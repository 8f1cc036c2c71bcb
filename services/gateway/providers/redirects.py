"""Keeps litellm's clients from following redirects: they would carry prompts, and the keys of some, to wherever those point."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable


@functools.cache
def forbid(handlers: Any, openai: Any, made: Any) -> None:
    """Does so for all clients made from now on; once is enough.

    Args:
        handlers: litellm's class whose `create_client` makes clients.
        openai: The one whose `_get_async_http_client` does for providers that are spoken to by OpenAI's SDK.
        made: A handler that is there already.
    """
    handlers.create_client = _staying(handlers.create_client)
    openai._get_async_http_client = staticmethod(_staying(openai._get_async_http_client))  # noqa: SLF001 - no other way
    made.client.follow_redirects = False


def _staying(make: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(make)
    def made(*args: Any, **kwargs: Any) -> Any:
        client = make(*args, **kwargs)
        if client is not None:
            client.follow_redirects = False
        return client

    return made
