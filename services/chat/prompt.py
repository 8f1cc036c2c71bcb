"""What a model is sent, and how much history fits."""

from __future__ import annotations

import itertools
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from services.chat.ports import PromptMessage, Role

if TYPE_CHECKING:
    from services.chat.ports import Model

SAFE_WINDOW_TOKENS = 8_192
"""What nearly every model takes; assumed of one that is not known."""
_REPLY_TOKENS = 4_096
_REPLY_SHARE = 4
_MARGIN = 0.9
"""Four bytes a token is an estimate: prose takes fewer tokens, code more."""
_BYTES_A_TOKEN = 4


@dataclass(frozen=True, slots=True)
class Prompt:
    """What a model is sent: the system's words, earlier messages oldest first, the new message."""

    system: str
    history: tuple[PromptMessage, ...]
    content: str

    def messages(self) -> list[PromptMessage]:
        """Returns it as messages. The user speaks first, wherever the history was cut: some providers refuse anything else."""
        opening = [PromptMessage(Role.SYSTEM, self.system)] if self.system else []
        return [*opening, *_from_user(self.history), PromptMessage(Role.USER, self.content)]

    def shortened(self) -> Prompt:
        """Returns it without the older half of the history, and what of the rest would not be sent."""
        return replace(self, history=_from_user(self.history[(len(self.history) + 1) // 2 :]))

    def tokens(self) -> int:
        """Returns an estimate of its length."""
        return sum(estimate_tokens(message.text) for message in self.messages())


def _from_user(history: tuple[PromptMessage, ...]) -> tuple[PromptMessage, ...]:
    return tuple(itertools.dropwhile(lambda message: message.role is not Role.USER, history))


def estimate_tokens(text: str) -> int:
    """Returns about how many tokens a text takes."""
    return -(-len(text.encode()) // _BYTES_A_TOKEN)


def history_budget(model: Model | None, *, system: str, content: str, most: int) -> int:
    """Returns how many tokens of history a model has room for beside the rest of the prompt and its answer.

    Args:
        model: None: not known.
        system: The system's words.
        content: The new message.
        most: Upper bound, whatever the model takes.
    """
    window = (model.context_window_tokens if model is not None else 0) or SAFE_WINDOW_TOKENS
    wanted = (model.max_output_tokens if model is not None else 0) or _REPLY_TOKENS
    reply = min(wanted, _REPLY_TOKENS, window // _REPLY_SHARE)
    room = window - reply - estimate_tokens(system) - estimate_tokens(content)
    return max(min(int(room * _MARGIN), most), 0)
