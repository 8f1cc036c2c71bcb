"""What a run has used: added up over its model calls, estimated where nobody has said it, and counted once however often the run changes hands."""

from __future__ import annotations

from typing import TYPE_CHECKING

from services.chat.domain import PartKind, Usage
from services.chat.ports import ClaimKind
from services.chat.prompt import estimate_tokens

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from services.chat.answer import Answer
    from services.chat.domain import Part
    from services.chat.ports import Begun
    from services.chat.prompt import Prompt

NOTHING = Usage(0, 0, cost_usd=0.0)
"""Of no model call, which is known."""


def estimated(input_tokens: int, parts: Sequence[Part]) -> Usage:
    """Returns about what it took to write these parts."""
    written = sum(estimate_tokens(part.text) for part in parts if part.kind is not PartKind.TOOL_RESULT)
    thought = sum(estimate_tokens(part.text) for part in parts if part.kind is PartKind.REASONING)
    return Usage(input_tokens, written, reasoning_tokens=thought, estimated=True)


def added(one: Usage | None, other: Usage) -> Usage:
    """Returns what two calls have used; the price is known where both prices are."""
    if one is None:
        return other
    known = one.cost_usd is not None and other.cost_usd is not None
    return Usage(
        one.input_tokens + other.input_tokens,
        one.output_tokens + other.output_tokens,
        one.cached_tokens + other.cached_tokens,
        one.reasoning_tokens + other.reasoning_tokens,
        (one.cost_usd or 0) + (other.cost_usd or 0) if known else None,
        one.estimated or other.estimated,
    )


def inherited(begun: Begun, answer: Answer, prompt: Prompt) -> Usage | None:
    """Returns what a run has used before this owner goes on with it; None: nothing.

    What is stored beside the stored answer holds every call that had ended by then: that is exact. What the log tells beyond it, and a
    call that was cut off with its owner, can only be estimated. An answer that an earlier one is gone on with was not this run's to pay.

    Args:
        begun: The run as it begins here.
        answer: What its log tells, before anything is added to it.
        prompt: What its model is sent.
    """
    usage = begun.usage
    nothing_since = not begun.last_seq
    if usage is None and nothing_since and begun.answer:
        usage = NOTHING
    if begun.claim is None:
        return usage
    told = answer.parts()
    stored = sum(1 for _ in _called(begun.answer)) if usage is not None or nothing_since else 0
    for index, (first, behind) in enumerate(_called(told)):
        if index >= stored:
            usage = added(usage, estimated(prompt.tokens(told[:first]), told[first:behind]))
    cut_off = answer.step_parts()
    # A try that failed was counted with its failure, whatever had become of it.
    if begun.claim is not ClaimKind.QUEUED and not any(part.kind is PartKind.TOOL_USE for part in cut_off) and cut_off:
        usage = added(usage, estimated(prompt.tokens(answer.finished_parts()), cut_off))
    return usage


def _called(parts: Sequence[Part]) -> Iterator[tuple[int, int]]:
    """Yields where the steps that have called tools begin and end: each was a model call that had ended by then."""
    first, called = 0, False
    for index, part in enumerate(parts):
        before = parts[index - 1].kind if index else None
        if part.kind is not PartKind.TOOL_RESULT and before is PartKind.TOOL_RESULT:
            if called:
                yield first, index
            first, called = index, False
        elif part.kind is before and part.kind in (PartKind.TEXT, PartKind.REASONING):
            first = index  # text that was kept, and the first of a step of its own
        called = called or part.kind is PartKind.TOOL_USE
    if called:
        yield first, len(parts)
