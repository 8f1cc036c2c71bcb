"""What a chaos user asks for, and the one right answer: both are in the message, so that nobody has to remember them."""

from __future__ import annotations

import re
from dataclasses import dataclass

_SPEC = re.compile(
    r"\[\[(?P<id>[a-z0-9-]+) words=(?P<words>\d+) every=(?P<every>\d+)ms effect=(?P<effect>\d) fault=(?P<fault>[a-z0-9:]*)\]\]"
)
_RARE = ("", "", "é", "", "", "🙂", "")


@dataclass(frozen=True)
class Task:
    """One turn.

    Attributes:
        id: No other task has it.
        words: Length of each step's text.
        every_ms: Pause between two words.
        effect: The first step calls the tool that has an effect, the second one says that it is done.
        fault: What the provider does at its first call: `` nothing, `429`, `500`, `cut:<words>`, `stall:<words>`.
    """

    id: str
    words: int = 30
    every_ms: int = 30
    effect: bool = False
    fault: str = ""

    @property
    def message(self) -> str:
        """What the user sends."""
        spec = f"{self.id} words={self.words} every={self.every_ms}ms effect={int(self.effect)} fault={self.fault}"
        return f"Say your words. [[{spec}]]"

    @property
    def steps(self) -> int:
        """How many model calls it takes."""
        return 2 if self.effect else 1

    @property
    def whole(self) -> str:
        """The only right answer; of a run that was cut short it is a beginning of this."""
        return "".join(word for step in range(1, self.steps + 1) for word in self.pieces(step))

    def pieces(self, step: int) -> list[str]:
        """Returns the words of a step. No word comes twice, so that one lost or repeated cannot hide."""
        first = 1 if step == 1 else 0  # no answer begins with a space, and none ends with one: either might be trimmed
        return [
            f"{'' if first and number == 0 else ' '}{self.id}/{step}.{number}{_RARE[number % len(_RARE)]}"
            for number in range(self.words)
        ]

    @classmethod
    def find(cls, text: str) -> Task | None:
        """Returns the task a message holds, if any."""
        found = _SPEC.search(text)
        if found is None:
            return None
        return cls(found["id"], int(found["words"]), int(found["every"]), found["effect"] == "1", found["fault"])
