"""Counts what goes in and out of a call, for providers that do not say."""

from __future__ import annotations

from typing import TYPE_CHECKING

from services.gateway.domain import Counts, Logprobs, ToolCallPiece, Usage

if TYPE_CHECKING:
    from services.gateway.domain import Call, Deployment, Piece

# Across languages a token is about four bytes of UTF-8: four English letters, or one Chinese character and a third.
_BYTES_PER_TOKEN = 4
# Providers count a picture by its size in pixels; this is about what one of a thousand pixels square costs.
_TOKENS_PER_IMAGE = 1000


MAX_ANSWER_BYTES = 2 * 1024 * 1024
"""Longest answer: text, reasoning and arguments of tool calls together, as UTF-8; no model writes as much, a faulty provider may."""


class Tally:
    """What one attempt has written, and what that means in tokens.

    Args:
        call: What was asked.

    Attributes:
        written_bytes: Text, reasoning and arguments so far, as UTF-8.
        settled: The usage was told.
    """

    def __init__(self, call: Call) -> None:
        self._call = call
        self.written_bytes = 0
        self.settled = False

    def add(self, piece: Piece) -> None:
        """Counts a piece."""
        self.written_bytes += size_bytes(piece)

    def settle(self, counts: Counts | None, deployment: Deployment) -> Usage:
        """Returns the usage as reported, or as estimated."""
        self.settled = True
        estimated = counts is None
        if counts is None:
            counts = Counts(input_tokens(self._call), tokens(self.written_bytes))
        cost = counts.cost_usd if counts.cost_usd is not None else deployment.price(counts)
        return Usage(counts, cost, estimated)


def size_bytes(piece: Piece) -> int:
    """Returns the size of what a model has written with a piece, as UTF-8."""
    if type(piece) is Logprobs:
        return 0
    text: str = piece.arguments if type(piece) is ToolCallPiece else piece.text  # type: ignore[union-attr]
    return len(text) if text.isascii() else len(text.encode())


def input_tokens(call: Call) -> int:
    """Estimates the tokens of a prompt."""
    size = images = 0
    for message in call.messages:
        text = message.text
        size += len(text) if text.isascii() else len(text.encode())
        for made in message.tool_calls:
            size += len(made.name.encode()) + len(made.arguments_json.encode())
        images += len(message.images)
    for tool in call.tools:
        size += len(f"{tool.name}{tool.description}{tool.parameters_json}".encode())
    return tokens(size) + images * _TOKENS_PER_IMAGE


def tokens(size_bytes: int) -> int:
    """Estimates the tokens of a text of so many bytes of UTF-8."""
    return -(-size_bytes // _BYTES_PER_TOKEN)
