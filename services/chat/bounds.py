"""How long an answer becomes: what is sent to a model with it, stored of it and read back must fit into one message each."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

    from services.chat.domain import Part

ANSWER_MAX_BYTES = 5 * 1024 * 1024 // 2
"""No model is asked to go on with a longer one: the gateway takes 4 MiB with all the rest. It writes up to 2 MiB, and less than 5 are stored."""
_RESULTS_UNTIL_BYTES = 2 * 1024 * 1024
_RESULT_LEAST_BYTES = 1_000
"""What a tool may always say: enough for a failure, or for where to look."""


def size_of(parts: Iterable[Part]) -> int:
    """Returns the length of parts in UTF-8."""
    return sum(len(part.text.encode()) for part in parts)


def is_full(parts: Iterable[Part]) -> bool:
    """Says whether an answer is so long that no model can be asked to go on with it."""
    return size_of(parts) >= ANSWER_MAX_BYTES


def room_for_result(parts: Iterable[Part]) -> int:
    """Returns how much a tool may say into an answer, in bytes, however much more it may by itself."""
    return max(_RESULTS_UNTIL_BYTES - size_of(parts), _RESULT_LEAST_BYTES)
