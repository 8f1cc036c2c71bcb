"""What a model is sent, and how much history fits."""

from __future__ import annotations

import itertools
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from services.chat.asking import Earlier, PromptMessage, Role, ToolCall
from services.chat.domain import Part, PartKind

if TYPE_CHECKING:
    from collections.abc import Sequence

    from services.chat.asking import Model

SAFE_WINDOW_TOKENS = 8_192
"""What nearly every model takes; assumed of one that is not known."""
_REPLY_TOKENS = 4_096
_REPLY_SHARE = 4
_MARGIN = 0.9
"""Four bytes a token is an estimate: prose takes fewer tokens, code more."""
_BYTES_A_TOKEN = 4
_MAX_MESSAGES = 1_000
"""As many as the gateway takes."""
_MAX_BYTES = 3 * 1024 * 1024
"""The gateway takes 4 MiB in all, tools and names included."""


UNKNOWN_OUTCOME = "It is not known whether this call took effect; the run was cut off before it was answered. Find out before calling it again."
"""What a model is told of a tool's call that has no result."""
_GO_ON = (
    "Your answer above was cut off in mid-sentence. Go on with it exactly where it stops, with the next character: "
    "repeat nothing, explain nothing, and do not mention that it was cut off."
)


@dataclass(frozen=True, slots=True)
class Prompt:
    """What a model is sent: the system's words, earlier messages oldest first, the new message."""

    system: str
    history: tuple[Earlier, ...]
    content: str

    def messages(self, parts: Sequence[Part] = (), *, tools: bool = True) -> list[PromptMessage]:
        """Returns it as messages, with what has been written of the answer so far.

        The user speaks first, wherever the history was cut: some providers refuse anything else. A tool's call and its result come
        together or not at all. Where the answer so far ends in text, the model is told to go on with it. Of a history that is longer
        than the gateway takes, the newer half is sent, or the newer half of that.

        Args:
            parts: The answer so far.
            tools: The model knows tools; one that does not is told the texts alone, since many of them refuse anything else.
        """
        told = _Told(tools=tools)
        messages = told.messages
        if self.system:
            messages.append(PromptMessage(Role.SYSTEM, self.system))
        for role, said in _from_user(self.history):
            if len(said) == 1 and said[0].kind is PartKind.TEXT:  # nearly always
                if text := said[0].text:
                    messages.append(PromptMessage(role, text))
            else:
                told.take(role, said)
        messages.append(PromptMessage(Role.USER, self.content))
        if parts:
            told.take(Role.ASSISTANT, parts)
            if messages[-1].role is Role.ASSISTANT:
                messages.append(PromptMessage(Role.USER, _GO_ON))
        if self.history and _too_much(messages):
            return self.shortened().messages(parts, tools=tools)
        return messages

    def shortened(self) -> Prompt:
        """Returns it without the older half of the history, and what of the rest would not be sent."""
        return replace(self, history=_from_user(self.history[(len(self.history) + 1) // 2 :]))

    def tokens(self, parts: Sequence[Part] = ()) -> int:
        """Returns an estimate of its length."""
        return sum(
            estimate_tokens(message.text) + sum(estimate_tokens(call.arguments_json) for call in message.tool_calls)
            for message in self.messages(parts)
        )


class _Told:
    """Messages of a prompt, made of the parts that are stored."""

    def __init__(self, *, tools: bool) -> None:
        self.messages: list[PromptMessage] = []
        self._tools = tools
        self._ids: set[str] = set()

    def take(self, role: Role, parts: Sequence[Part]) -> None:
        """Adds one stored message; an answer with tools becomes several, one for each step and one for each result."""
        texts: list[str] = []
        calls: list[Part] = []
        results: dict[str, Part] = {}
        for part in parts:
            if part.kind in _OF_TOOLS and not self._tools:
                continue
            if part.kind is PartKind.TOOL_RESULT:
                results[part.tool_call_id] = part
                continue
            if results and part.kind is not PartKind.REASONING:
                self._add(role, texts, calls, results)
                texts, calls, results = [], [], {}
            if part.kind is PartKind.TEXT:
                texts.append(part.text)
            elif part.kind is PartKind.TOOL_USE:
                calls.append(part)
        self._add(role, texts, calls, results)

    def _add(self, role: Role, texts: list[str], calls: list[Part], results: dict[str, Part]) -> None:
        text = "".join(texts)
        ids = [self._own(call.tool_call_id) for call in calls]
        if text or calls:
            made = tuple(ToolCall(own, call.name, call.text) for own, call in zip(ids, calls, strict=True))
            self.messages.append(PromptMessage(role, text, made))
        for own, call in zip(ids, calls, strict=True):
            result = results.get(call.tool_call_id)
            said = UNKNOWN_OUTCOME if result is None else result.text
            self.messages.append(PromptMessage(Role.TOOL, said, tool_call_id=own))

    def _own(self, tool_call_id: str) -> str:
        """Returns an id that no other call of the prompt has: those of two answers may be the same."""
        own, number = tool_call_id, 1
        while own in self._ids:
            number += 1
            own = f"{tool_call_id}-{number}"
        self._ids.add(own)
        return own


_OF_TOOLS = (PartKind.TOOL_USE, PartKind.TOOL_RESULT)


def _from_user(history: tuple[Earlier, ...]) -> tuple[Earlier, ...]:
    if not history or history[0].role is Role.USER:  # nearly always
        return history
    return tuple(itertools.dropwhile(lambda earlier: earlier.role is not Role.USER, history))


def _too_much(messages: list[PromptMessage]) -> bool:
    # Characters take up to four bytes, and most prompts are told by them to be short enough.
    if len(messages) > _MAX_MESSAGES:
        return True
    texts = [message.text for message in messages]
    texts += [call.arguments_json for message in messages for call in message.tool_calls]
    return sum(map(len, texts)) * 4 > _MAX_BYTES and sum(len(text.encode()) for text in texts) > _MAX_BYTES


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
