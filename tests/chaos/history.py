"""What happened, as the clients saw it: every request, every acknowledgement, every event, and what was stored in the end."""

from __future__ import annotations

import dataclasses
import json
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.chaos.effects import Effect
    from tests.chaos.provider import Call
    from tests.chaos.task import Task

FINAL = ("done", "error")
"""The events that end a run."""


@dataclass(frozen=True)
class Event:
    """One event that a client got.

    Attributes:
        at: `time.monotonic()`.
        client: One tab: it keeps its cursor through every reconnect.
        run_id: The run.
        seq: Its number.
        name: Such as `text`.
        data: Its data.
    """

    at: float
    client: str
    run_id: str
    seq: int
    name: str
    data: dict[str, Any]


@dataclass(frozen=True)
class Exchange:
    """One request and how it was answered.

    Attributes:
        at: When it was sent, `time.monotonic()`.
        client: Who sent it.
        what: Such as `POST /v1/conversations/{id}/runs`.
        status: Of the answer; 0: there was none.
        code: Of the problem, if it was one.
        retry_after: Whether the answer said when to come back.
        detail: What else helps to understand it.
        took_s: How long the answer, or its beginning, took.
    """

    at: float
    client: str
    what: str
    status: int
    code: str = ""
    retry_after: bool = False
    detail: str = ""
    took_s: float = 0.0


@dataclass(frozen=True)
class Turn:
    """A message that was acknowledged: the client was told the run's id.

    Attributes:
        at: When, `time.monotonic()`.
        client: Who sent it.
        task: What was asked.
        client_message_id: Under which id.
        conversation_id: Where.
        run_id: The run.
        how: `stream` or `background`.
        again: The task was asked before: the same answer is given anew.
    """

    at: float
    client: str
    task: Task
    client_message_id: str
    conversation_id: str
    run_id: str
    how: str
    again: bool = False


@dataclass
class Stored:
    """What was stored in the end.

    Attributes:
        runs: By id, as `GET /v1/runs/{id}` gives them; a run that was not found is missing.
        messages: By conversation, as `GET …/messages` gives them, whatever their branch.
        unfinished: Rows of runs that have no final status.
    """

    runs: dict[str, dict[str, Any]] = field(default_factory=dict)
    messages: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    unfinished: int = 0


@dataclass
class History:
    """Everything of one round.

    Attributes:
        events: In the order in which they came.
        exchanges: In the order in which they ended.
        turns: Acknowledged messages.
        cancels: Runs whose stop was acknowledged, and when.
        watchers: Clients that follow a conversation: it, by client.
        refused_cursors: What a client was told that came back with an id it had been given.
        unserved: What was never answered, in words.
        hit: When the fault began and when all was whole again, `time.monotonic()`.
        calls: What the provider was asked.
        effects: What tools did.
        stored: What was stored in the end.
        interrupts: As the fault says, and so are the next three.
    """

    events: list[Event] = field(default_factory=list)
    exchanges: list[Exchange] = field(default_factory=list)
    turns: list[Turn] = field(default_factory=list)
    cancels: dict[str, float] = field(default_factory=dict)
    watchers: dict[str, str] = field(default_factory=dict)
    refused_cursors: list[str] = field(default_factory=list)
    unserved: list[str] = field(default_factory=list)
    hit: tuple[float, float] = (0.0, 0.0)
    calls: list[Call] = field(default_factory=list)
    effects: list[Effect] = field(default_factory=list)
    stored: Stored = field(default_factory=Stored)
    interrupts: bool = False
    interrupts_effects: bool = False
    fails: bool = False
    longest_pause_s: float | None = None

    def views(self) -> Iterator[tuple[str, str, list[Event]]]:
        """Yields each client and run with the events it got of it, in order."""
        found: dict[tuple[str, str], list[Event]] = {}
        for event in self.events:
            found.setdefault((event.client, event.run_id), []).append(event)
        for (client, run_id), events in found.items():
            yield client, run_id, events

    def runs_of(self, person: str) -> set[str]:
        """Returns the runs that any tab of a person has heard of."""
        heard = [(turn.client, turn.run_id) for turn in self.turns] + [(one.client, one.run_id) for one in self.events]
        return {run_id for client, run_id in heard if run_id and client.startswith(f"{person}/")}

    def turns_of(self, run_id: str) -> list[Turn]:
        """Returns what was acknowledged with this run."""
        return [turn for turn in self.turns if turn.run_id == run_id]

    def task_of(self, run_id: str) -> Task | None:
        """Returns what a run was asked."""
        return next((turn.task for turn in self.turns if turn.run_id == run_id), None)

    def write(self, path: Path) -> None:
        """Writes everything down, a line of JSON each."""
        with path.open("w", encoding="utf-8") as file:
            for kind in dataclasses.fields(self):
                value = getattr(self, kind.name)
                for one in value if isinstance(value, list) else [value]:
                    file.write(json.dumps({kind.name: _plain(one)}, ensure_ascii=False, default=str) + "\n")


def now() -> float:
    """Returns the time by which all of this is told, `time.monotonic()`."""
    return time.monotonic()


def _plain(value: object) -> object:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return dataclasses.asdict(value)
    return value
