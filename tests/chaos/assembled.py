"""What a client has on its screen: the events of a run put together by the rules that clients are told, and no others."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from tests.chaos.history import FINAL

if TYPE_CHECKING:
    from collections.abc import Iterable

    from tests.chaos.history import Event


@dataclass
class Screen:
    """An answer as a client shows it.

    Attributes:
        text: The answer.
        tools: Each call of a tool by its id: name, input, and once they are there its result and whether it failed.
        faults: Where the events broke the rules.
        end: The event that ended the run; None: none has.
        usages: The `usage` events.
        content: The user's message.
    """

    text: str = ""
    tools: dict[str, dict[str, Any]] = field(default_factory=dict)
    faults: list[str] = field(default_factory=list)
    end: Event | None = None
    usages: list[dict[str, Any]] = field(default_factory=list)
    content: str | None = None
    _places: dict[str, int] = field(default_factory=dict)

    def show(self, event: Event) -> None:
        """Takes the next event."""
        if self.end is not None:
            self.faults.append(f"{event.name} {event.seq} after the end")
        if event.name in {"text", "reset"} and event.data["offset"] > len(self.text):
            self.faults.append(
                f"{event.name} {event.seq} at {event.data['offset']}, but there are {len(self.text)} characters"
            )
        taken = getattr(self, f"_{event.name}", None)
        if taken is not None:
            taken(event.data)
        elif event.name in FINAL:
            self.end = event

    def _user_message(self, data: dict[str, Any]) -> None:
        self.content = data["content"]

    def _text(self, data: dict[str, Any]) -> None:
        self.text = self.text[: data["offset"]] + data["delta"]

    def _reset(self, data: dict[str, Any]) -> None:
        self.text = self.text[: data["offset"]]
        # The calls of the step that begins anew: a finished step's have their results, and stand before what still counts.
        for call, at in list(self._places.items()):
            if at >= data["offset"] and "content" not in self.tools[call]:
                del self.tools[call], self._places[call]

    def _tool_use(self, data: dict[str, Any]) -> None:
        self.tools[data["tool_call_id"]] = {"name": data["name"], "input": data["input"]}
        self._places[data["tool_call_id"]] = len(self.text)

    def _tool_result(self, data: dict[str, Any]) -> None:
        if data["tool_call_id"] not in self.tools:
            self.faults.append(f"the result of {data['tool_call_id']}, which was not shown")
        self.tools.setdefault(data["tool_call_id"], {}).update(content=data["content"], is_error=data["is_error"])

    def _usage(self, data: dict[str, Any]) -> None:
        self.usages.append(data)


def assemble(events: Iterable[Event]) -> Screen:
    """Puts a run's events together."""
    screen = Screen()
    for event in events:
        screen.show(event)
    return screen
