"""What a run is asked for with, and which of it goes together."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from runtime import validation
from services.chat.domain import CLIENT_MESSAGE_ID_MAX_CHARS, MODEL_MAX_CHARS
from services.chat.ports import Branch, BranchKind, OnConflict

if TYPE_CHECKING:
    from runtime.errors import InvalidArgument


@dataclass(frozen=True, slots=True)
class Ask:
    """What a run is started with; empty texts where nothing was given, no branch: after the newest message."""

    conversation_id: str
    message: str
    client_message_id: str
    model: str
    on_conflict: OnConflict = OnConflict.REJECT
    branch: Branch | None = None


def check(ask: Ask, *, message_max_chars: int) -> None:
    """Returns where every field is well formed and goes with the others.

    Raises: InvalidArgument: naming the field and the fix.
    """
    if ask.conversation_id:
        validation.identifier("conversation_id", ask.conversation_id)
    if ask.branch is not None:
        field = f"{ask.branch.kind}_message_id"
        validation.identifier(field, ask.branch.message_id)
        if not ask.conversation_id:
            raise validation.invalid("conversation_id", f"is needed with {field}: the conversation the message is in.")
    if ask.branch is None or ask.branch.kind is BranchKind.EDIT:
        validation.text("message", ask.message, min_chars=1, max_chars=message_max_chars)
        if ask.message.isspace():
            raise validation.invalid("message", "must not be white space alone.")
    elif ask.message:
        raise _superfluous(ask.branch.kind)
    validation.text("client_message_id", ask.client_message_id, max_chars=CLIENT_MESSAGE_ID_MAX_CHARS)
    validation.text("model", ask.model, max_chars=MODEL_MAX_CHARS)


def _superfluous(kind: BranchKind) -> InvalidArgument:
    what = "anew" if kind is BranchKind.REGENERATE else "further"
    return validation.invalid(
        "message",
        f"must be empty with {kind}_message_id, which answers the same question {what}; to ask another, use edit_message_id.",
    )
