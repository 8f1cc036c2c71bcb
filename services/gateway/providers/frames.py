"""What requests to one deployment have in common: litellm spells it once for all calls that ask for the same, and the prompt for each."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Hashable

    from services.gateway.domain import Call

_MAX_KEPT = 16


@dataclass(frozen=True, slots=True)
class Frame:
    """All of a request but the prompt.

    Attributes:
        url: Where it goes.
        headers: As litellm wants them.
        mapped: The parameters, in the provider's words.
        sent: All headers, where they are the same for every prompt.
        as_said: A prompt that is nothing but texts stands in the body as it is.
    """

    url: str
    headers: dict[str, Any]
    mapped: Mapping[str, Any]
    sent: Mapping[str, str] | None = None
    as_said: bool = False


class Frames:
    """The frames of one deployment, by what they depend on; a few, since most callers ask for the same.

    Nobody changes what is in one that is kept.
    """

    def __init__(self) -> None:
        self._kept: dict[Hashable, Frame] = {}

    def get(self, key: Hashable) -> Frame | None:
        """Returns the frame that is kept."""
        return self._kept.get(key)

    def keep(self, key: Hashable, frame: Frame) -> None:
        """Keeps a frame."""
        if len(self._kept) >= _MAX_KEPT:
            self._kept.clear()
        self._kept[key] = frame


def key_of(call: Call, params: Mapping[str, Any]) -> Hashable | None:
    """Returns all that a call's frame depends on; None where that is more than a few numbers and words.

    Args:
        call: What is asked.
        params: As `spelling.params` returns them.
    """
    if call.tools or call.stop or call.response_format is not None:
        return None
    return tuple(params.items())
