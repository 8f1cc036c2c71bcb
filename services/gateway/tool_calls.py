"""Makes the tool calls of providers what callers are promised."""

from __future__ import annotations

import re
import secrets
from typing import TYPE_CHECKING

from services.gateway.domain import FinishReason, ToolCallPiece

if TYPE_CHECKING:
    from collections.abc import Sequence

    from services.gateway.domain import Call

_MAX_ID_CHARS = 256
_MAX_NAME_CHARS = 64
_NOT_IN_A_NAME = re.compile(r"[^A-Za-z0-9_-]")


class ToolCalls:
    """The tool calls of one answer.

    Every call has an id that the prompt has not used, also where a server counts from 0 in each answer or gives none; a name that a prompt
    may hold; and arguments, if only an empty object. What a model writes as arguments is passed on as it is, but for U+0000, which nobody
    can store. A model that was offered no tools calls none, whatever its provider says: the answer to such a call ends.

    Args:
        call: What was asked.
    """

    def __init__(self, call: Call) -> None:
        self._offered = bool(call.tools)
        self._used = {made.id for message in call.messages for made in message.tool_calls}
        self._written: dict[int, bool] = {}

    def take(self, piece: ToolCallPiece) -> ToolCallPiece | None:
        """Returns what to pass on of a piece, if anything."""
        if not self._offered:
            return None
        arguments = piece.arguments.replace("\x00", "")
        begun = piece.index in self._written
        self._written[piece.index] = self._written.get(piece.index, False) or bool(arguments)
        if begun:
            return ToolCallPiece(piece.index, arguments=arguments) if arguments else None
        return ToolCallPiece(piece.index, self._id(piece.id), _name(piece.name), arguments)

    def end(self, reason: FinishReason) -> tuple[Sequence[ToolCallPiece], FinishReason]:
        """Returns what the calls still lack, and why the model stopped in the light of what was passed on."""
        if not self._offered and reason is FinishReason.TOOL_CALLS:
            return (), FinishReason.STOP
        if reason is FinishReason.LENGTH:
            # The last call was cut off: nobody knows what its arguments would have been.
            return (), reason
        return [ToolCallPiece(index, arguments="{}") for index, has in self._written.items() if not has], reason

    def _id(self, given: str) -> str:
        told = given.replace("\x00", "")[:_MAX_ID_CHARS]
        if not told or told in self._used:
            told = f"call_{secrets.token_hex(12)}"
        self._used.add(told)
        return told


def _name(given: str) -> str:
    return _NOT_IN_A_NAME.sub("_", given)[:_MAX_NAME_CHARS] or "unnamed"
