"""How a failed answer is told to the person who waits for it."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING

from runtime.errors import Internal, Unavailable
from services.chat.domain import Limit

if TYPE_CHECKING:
    from runtime.errors import ParleyError

_SENTENCES = {
    "CONTENT_FILTERED": "The provider withheld the rest of this answer. Rephrase the message and try again.",
    "CONTEXT_TOO_LONG": "This conversation is too long for the model. Start a new one or choose a model with a larger context.",
    "EMPTY_ANSWER": "The model answered with nothing. Try again.",
    "FIRST_TOKEN_TIMEOUT": "The model did not begin to answer in time. Try again.",
    "INTERNAL": "Something went wrong on our side. Try again; if it stays, report the request id.",
    "MODEL_NOT_FOUND": "There is no model or alias of this name.",
    "NO_PROVIDER_CONFIGURED": "No model provider is configured on this server.",
    "PROVIDER_AUTH_FAILED": "The model's provider refused this server's key. Tell whoever runs the server.",
    "PROVIDER_PROTOCOL_ERROR": "The model's provider sent something that could not be read. Try again.",
    "PROVIDER_RATE_LIMITED": "The model's provider is busy. Wait a moment and try again.",
    "PROVIDER_UNAVAILABLE": "The model's provider is not reachable right now. Try again.",
    "REQUEST_REJECTED": "The model's provider refused this request. Rephrase the message or choose another model.",
    "RUN_TIMEOUT": "The answer took longer than it may. Ask for something shorter, or go on from here.",
    "STREAM_STALLED": "The model stopped in the middle of its answer. Try again.",
    "UNAVAILABLE": "The model gateway is not reachable right now. Try again.",
}
# Whoever raises these has better words, which are not stored.
_UNSAID = {"TOKEN_BUDGET_EXCEEDED": "There were not enough tokens left on that day for this answer. Try again."}

RETRYABLE = frozenset(
    {
        "EMPTY_ANSWER",
        "FIRST_TOKEN_TIMEOUT",
        "INTERNAL",
        "PROVIDER_PROTOCOL_ERROR",
        "PROVIDER_RATE_LIMITED",
        "PROVIDER_UNAVAILABLE",
        "RUN_TIMEOUT",
        "STREAM_STALLED",
        "UNAVAILABLE",
    }
)
"""Reasons that another try, a little later, may not meet again."""


class EmptyAnswer(Internal):
    """The model has ended without a word."""

    reason = "EMPTY_ANSWER"


class ContentFiltered(Internal):
    """The provider has withheld the rest."""

    reason = "CONTENT_FILTERED"


class AnswerCut(Unavailable):
    """The gateway's stream ended without its end."""

    reason = "PROVIDER_UNAVAILABLE"


def sentence(reason: str, message: str = "") -> str:
    """Returns what a person is told about a reason; `message` where there are no words for it here."""
    return _SENTENCES.get(reason) or message or _UNSAID.get(reason, "This answer ended with an error. Try again.")


def limit_of(error: ParleyError) -> Limit | None:
    """Returns the limit that an error tells of; None: it tells of none, or not in the words for it."""
    told = error.metadata
    try:
        resets_at = datetime.fromisoformat(told["resets_at"])
        return Limit(told["limit_type"], int(told["current"]), int(told["limit"]), resets_at)
    except (KeyError, ValueError):
        return None
