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
        step: The model call that is under way, from 1.
    """

    text: str = ""
    tools: dict[str, dict[str, Any]] = field(default_factory=dict)
    faults: list[str] = field(default_factory=list)
    end: Event | None = None
    usages: list[dict[str, Any]] = field(default_factory=list)
    content: str | None = None
    step: int = 1
    _steps: dict[str, int] = field(default_factory=dict)
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
        # Whatever stands from there on gives way to it; a tool that was called at the very place stands before it.
        for call in [call for call, at in self._places.items() if at > data["offset"]]:
            self._drop(call)
        self.text = self.text[: data["offset"]] + data["delta"]

    def _reset(self, data: dict[str, Any]) -> None:
        self.text = self.text[: data["offset"]]
        for call in [call for call, step in self._steps.items() if step >= data["step"]]:
            self._drop(call)

    def _drop(self, call: str) -> None:
        self.step = min(self.step, self._steps[call])
        del self.tools[call], self._steps[call], self._places[call]

    def _tool_use(self, data: dict[str, Any]) -> None:
        if data["tool_call_id"] in self.tools:
            return  # told again by a snapshot: it stands where it stood
        self.tools[data["tool_call_id"]] = {"name": data["name"], "input": data["input"]}
        self._steps[data["tool_call_id"]] = data.get("step") or self.step
        self._places.setdefault(data["tool_call_id"], len(self.text))

    def _tool_result(self, data: dict[str, Any]) -> None:
        call = self.tools.get(data["tool_call_id"])
        if call is None:
            self.faults.append(f"the result of {data['tool_call_id']}, which was not shown")
            return
        call.update(content=data["content"], is_error=data["is_error"])
        if all("content" in call for call in self.tools.values()):
            # The step is over with the last of its results.
            self.step = max(self.step, self._steps[data["tool_call_id"]] + 1)

    def _usage(self, data: dict[str, Any]) -> None:
        self.usages.append(data)


def assemble(events: Iterable[Event]) -> Screen:
    """Puts a run's events together."""
    screen = Screen()
    for event in events:
        screen.show(event)
    return screen
