"""Cross-origin requests: which pages of other origins may call the API from a browser."""

from __future__ import annotations

from typing import TYPE_CHECKING

from starlette.responses import Response

if TYPE_CHECKING:
    from collections.abc import Mapping

# The second line is what supabase-js sends, the others what OpenAI's package sends of its own accord.
_REQUEST_HEADERS = (
    "accept, authorization, content-type, idempotency-key, last-event-id, prefer, traceparent, tracestate, x-request-id, "
    "apikey, x-client-info, x-supabase-api-version, "
    "openai-organization, openai-project, x-stainless-arch, x-stainless-custom-poll-interval, x-stainless-helper-method, "
    "x-stainless-lang, x-stainless-os, x-stainless-package-version, x-stainless-poll-helper, x-stainless-retry-count, "
    "x-stainless-runtime, x-stainless-runtime-version, x-stainless-timeout"
)
_RESPONSE_HEADERS = "location, preference-applied, retry-after, www-authenticate, x-request-id, x-should-retry"
_METHODS = "GET, POST, PUT, PATCH, DELETE"
_MAX_AGE_S = "600"


class Cors:
    """An allow-list of origins. Callers prove themselves by a token they send on purpose, never by cookies, so `*` is safe.

    Args:
        origins: Such as `https://app.example.com`; `*`: all; empty: none.
    """

    def __init__(self, origins: tuple[str, ...]) -> None:
        self._origins = frozenset(origins)

    def headers(self, origin: str) -> list[tuple[bytes, bytes]]:
        """Returns what an answer carries for the page that asks; `origin` may be empty."""
        if not self._origins:
            return []
        vary = [(b"vary", b"origin")]
        if not self._allows(origin):
            return vary
        return [
            *vary,
            (b"access-control-allow-origin", origin.encode("latin-1")),
            (b"access-control-expose-headers", _RESPONSE_HEADERS.encode()),
        ]

    def preflight(self, method: str, headers: Mapping[str, str]) -> Response | None:
        """Answers a browser that asks before it calls; None: this is no such question, or nothing to be allowed."""
        if method != "OPTIONS" or "access-control-request-method" not in headers:
            return None
        if not self._allows(headers.get("origin", "")):
            return None
        allowed = {
            "access-control-allow-methods": _METHODS,
            "access-control-allow-headers": _REQUEST_HEADERS,
            "access-control-max-age": _MAX_AGE_S,
        }
        return Response(status_code=204, headers=allowed)

    def _allows(self, origin: str) -> bool:
        return bool(origin) and (origin in self._origins or "*" in self._origins)
