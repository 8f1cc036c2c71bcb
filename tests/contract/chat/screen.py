"""What a client makes of a run's events."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncGenerator
from dataclasses import dataclass, field
from typing import Any

from parley.chat.v1 import chat_pb2 as pb


@dataclass
class Screen:
    """What a client makes of a run's events, by the contract's rules."""

    events: list[pb.RunEvent] = field(default_factory=list)
    batches: list[list[pb.RunEvent]] = field(default_factory=list)
    run_id: str = ""
    text: str = ""
    reasoning: str = ""

    async def read(self, responses: Any, *, until: Any = None) -> Screen:
        """Takes batches until the stream ends, or until `until(screen)` says so; closes the stream then."""
        async with contextlib.aclosing(responses):
            async for response in responses:
                self.take(response)
                if until is not None and until(self):
                    break
        return self

    def take(self, response: Any) -> None:
        assert response.events
        self.run_id = response.run_id
        self.batches.append(list(response.events))
        for event in response.events:
            assert event.seq > self.seq
            self.events.append(event)
            match event.WhichOneof("kind"):
                case "text":
                    assert event.text.offset <= len(self.text)
                    self.text = self.text[: event.text.offset] + event.text.delta
                case "reasoning":
                    self.reasoning += event.reasoning.delta
                case "reset":
                    assert event.reset.offset <= len(self.text)
                    self.text = self.text[: event.reset.offset]

    @property
    def seq(self) -> int:
        return self.events[-1].seq if self.events else 0

    @property
    def kinds(self) -> list[str]:
        """Names of the events, neighbours of one name once."""
        names = [event.WhichOneof("kind") or "" for event in self.events]
        return [name for index, name in enumerate(names) if not index or names[index - 1] != name]

    @property
    def gapless(self) -> bool:
        """Whether the events' numbers are 1, 2, 3 and so on."""
        return [event.seq for event in self.events] == list(range(1, len(self.events) + 1))

    @property
    def last(self) -> pb.RunEvent:
        return self.events[-1]

    @property
    def conversation_id(self) -> str:
        return self.events[0].run.conversation_id


@dataclass(frozen=True)
class Live:
    """A run whose stream is open: what has been read of it, and the rest."""

    screen: Screen
    responses: AsyncGenerator[Any, None]

    @property
    def run_id(self) -> str:
        return self.screen.run_id

    async def rest(self) -> Screen:
        """Reads to the end."""
        return await self.screen.read(self.responses)

    async def leave(self) -> Screen:
        """Closes the stream."""
        await self.responses.aclose()
        return self.screen
