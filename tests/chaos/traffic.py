"""What the people of a round do, by a seed: they ask, drop off and come back, send twice, stop, and open second tabs."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import re
from dataclasses import replace
from random import Random
from typing import TYPE_CHECKING, Any

from tests.chaos.client import Client, Refused
from tests.chaos.history import FINAL, Turn, now
from tests.chaos.task import Task

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from tests.chaos.history import Event, History

_SETTLE_S = 60.0
_ACTIVE = ("concurrent_request", "queue_full", "message_not_finished")
"""What is in the way until the answer before is stored: while data is away its end is told two seconds after it came, stored or not."""


class User:
    """A person with a conversation and a second tab in which it is open too.

    Args:
        number: Of the person.
        seed: Decides all that they do.
        edges: Base URLs of the edges.
        history: Where everything is written down.
        faults: What the provider may do at the first call for a task.
        slower: How many times more slowly words come: many people are more than a small machine can serve at full speed.
    """

    def __init__(
        self,
        number: int,
        seed: str,
        edges: Sequence[str],
        history: History,
        *,
        faults: Sequence[str] = (),
        slower: int = 1,
    ) -> None:
        self._random = Random(f"{seed}/{number}")
        self._name = f"user{number}"
        self._prefix = re.sub(r"[^a-z0-9-]", "-", f"{seed}-{number}".lower())
        self._client = Client(self._name, edges, history, self._random)
        self._history = history
        self._faults = faults
        self._slower = slower
        self._numbers = itertools.count(1)
        self._conversation = ""
        self._watching: asyncio.Task[None] | None = None
        self._last: Turn | None = None

    async def arrive(self) -> None:
        """Signs up and opens a conversation, in a second tab too."""
        await self._client.sign_up()
        self._conversation = (await self._client.insist("POST", "/v1/conversations", {}))["id"]
        self._watching = asyncio.create_task(self._watch(f"{self._name}/tab"))

    async def live(self, enough: asyncio.Event) -> None:
        """Does one thing after another until it is enough, each to its end."""
        kinds: list[tuple[Callable[[], Awaitable[None]], int]] = [
            (self._ask, 4),
            (self._ask_for_effect, 3),
            (self._drop_off_and_come_back, 4),
            (self._send_twice, 2),
            (self._stop, 2),
            (self._ask_in_background, 3),
            (self._ask_while_busy, 2),
            (self._walk_away, 2),
            (self._ask_again, 1),
        ]
        while not enough.is_set():
            (act,) = self._random.choices([kind for kind, _ in kinds], [weight for _, weight in kinds])
            try:
                await act()
            except Refused as refused:
                self._history.unserved.append(f"{self._name}: {act.__name__.strip('_')} ended with {refused}")
            await asyncio.sleep(self._random.uniform(0, 0.3))

    async def say_farewell(self) -> None:
        """Asks once more, which nothing may be in the way of by now."""
        try:
            end = await self._send_and_follow(replace(self._task(words=5), fault=""))
        except Refused as refused:
            self._history.unserved.append(f"{self._name}: the last message was refused: {refused}")
            return
        if end is None or end.name != "done" or end.data["status"] != "completed":
            self._history.unserved.append(f"{self._name}: the last message ended with {end and end.data}")

    async def leave(self) -> None:
        """Closes the tabs, once the second one has seen the end of the last run."""
        if self._watching is not None:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(10):
                    await self._caught_up()
            self._watching.cancel()
            await asyncio.wait({self._watching})

    async def look(self, history: History) -> None:
        """Reads what is stored."""
        stored = history.stored
        # Also what only the second tab has seen: a message may be stored after its sender was told, by a deadline, to try again.
        for run_id in history.runs_of(self._name):
            with contextlib.suppress(Refused):
                stored.runs[run_id] = await self._client.insist("GET", f"/v1/runs/{run_id}")
        found = await self._messages()
        for run in list(stored.runs.values()):
            if run["conversation_id"] == self._conversation and run["message_id"] not in found:
                # It is on another branch, since an answer was given anew.
                body = {"head_message_id": run["message_id"]}
                with contextlib.suppress(Refused):
                    await self._client.insist("PATCH", f"/v1/conversations/{self._conversation}", body)
                    found |= await self._messages()
        stored.messages[self._conversation] = list(found.values())
        await self._client.close()

    async def _messages(self) -> dict[str, dict[str, Any]]:
        """Returns the messages of the branch the conversation is on."""
        found: dict[str, dict[str, Any]] = {}
        page_token = ""
        while True:
            path = f"/v1/conversations/{self._conversation}/messages?page_size=100&page_token={page_token}"
            page = await self._client.insist("GET", path)
            found |= {message["id"]: message for message in page["messages"]}
            if not (page_token := page["next_page_token"]):
                return found

    # What people do.

    async def _ask(self) -> None:
        await self._send_and_follow(self._task())

    async def _ask_for_effect(self) -> None:
        await self._send_and_follow(self._task(effect=True, words=15))

    async def _drop_off_and_come_back(self) -> None:
        await self._send_and_follow(self._task(effect=self._random.random() < 0.3), drops=self._random.randint(1, 3))

    async def _send_twice(self) -> None:
        """At once from two tabs, over two edges, and once more when it is answered."""
        task, key = self._task(), self._key()
        await asyncio.gather(*(self._send_and_follow(task, key=key, edge=edge) for edge in range(2)))
        await self._send_and_follow(task, key=key)

    async def _stop(self) -> None:
        """From another tab, somewhere in the middle."""
        task, words = self._task(words=60), self._random.randint(1, 20)
        stopping: asyncio.Task[None] | None = None

        def on_event(event: Event) -> None:
            nonlocal stopping
            if stopping is None and event.name == "text" and event.data["offset"] > words * 10:
                stopping = asyncio.create_task(self._cancel(event.run_id))

        await self._send_and_follow(task, on_event=on_event)
        if stopping is not None:
            await stopping

    async def _ask_in_background(self) -> None:
        task, key = self._task(effect=self._random.random() < 0.3), self._key()
        answer = await self._client.insist(
            *("POST", self._runs, {"message": task.message, "client_message_id": key}),
            headers={"prefer": "respond-async"},
            despite=_ACTIVE,
        )
        tab = self._tab()
        self._acknowledged(tab, task, key, answer["run_id"], "background")
        if self._random.random() < 0.5:
            await asyncio.sleep(self._random.uniform(0, 1))
        await self._to_the_end(tab, answer["run_id"])

    async def _ask_while_busy(self) -> None:
        """A second message while the first is answered: refused, queued, or in its place."""
        choice = self._random.choice(["reject", "enqueue", "interrupt"])
        begun = asyncio.Event()
        first = asyncio.create_task(self._send_and_follow(self._task(words=40), on_event=lambda _: begun.set()))
        waiting = asyncio.create_task(begun.wait())
        await asyncio.wait({first, waiting}, return_when=asyncio.FIRST_COMPLETED)
        waiting.cancel()
        if choice == "reject":
            task = self._task()
            body = {"message": task.message, "client_message_id": self._key()}
            with contextlib.suppress(Refused):
                await self._client.ask("POST", self._runs, body, headers={"prefer": "respond-async"})
                # It was not busy any more, or this was not seen: then it is a message like any other.
                await self._send_and_follow(task, key=body["client_message_id"])
        else:
            await self._send_and_follow(self._task(), on_conflict=choice)
        await first

    async def _walk_away(self) -> None:
        """Leaves in the middle, and another day reads the answer from its beginning."""
        turn = await self._send(self._task(), self._key(), self._tab(), read=self._random.randint(1, 12))
        if turn is None:
            return
        await asyncio.sleep(self._random.uniform(0, 1.5))
        await self._to_the_end(turn.client, turn.run_id, self._cursor(turn))
        await self._to_the_end(self._tab(), turn.run_id)

    async def _ask_again(self) -> None:
        """Has the last answer given anew, or gone on with where it was cut short."""
        last = self._last
        if last is None or last.task.effect:
            return
        run = await self._client.insist("GET", f"/v1/runs/{last.run_id}")
        kind = "regenerate_message_id" if run["status"] == "completed" else "continue_message_id"
        if run["status"] in {"failed", "queued", "running"}:
            return
        await self._send_and_follow(last.task, **{kind: run["message_id"]})

    # How they do it.

    @property
    def _runs(self) -> str:
        return f"/v1/conversations/{self._conversation}/runs"

    def _task(self, *, words: int = 0, effect: bool = False) -> Task:
        number = next(self._numbers)
        fault = self._random.choice([*self._faults, ""]) if self._faults else ""
        return Task(
            f"{self._prefix}-{number}",
            words or self._random.randint(10, 60),
            self._random.choice([10, 30, 60]) * self._slower,
            effect,
            fault,
        )

    def _key(self) -> str:
        return f"{self._prefix}-key-{next(self._numbers)}"

    def _tab(self) -> str:
        return f"{self._name}/{next(self._numbers)}"

    async def _send_and_follow(
        self,
        task: Task,
        *,
        key: str = "",
        edge: int | None = None,
        drops: int = 0,
        on_event: Callable[[Event], None] = lambda _: None,
        **more: str,
    ) -> Event | None:
        """Sends a message and watches it to its end, dropping off and coming back on the way as often as said."""
        tab = self._tab()
        read = self._random.randint(1, 15) if drops else 0
        turn = await self._send(task, key or self._key(), tab, edge=edge, read=read, on_event=on_event, **more)
        if turn is None:
            return None
        for _ in range(drops - 1):
            cursor, count = self._cursor(turn), self._random.randint(1, 15)
            with contextlib.suppress(Refused):
                async with contextlib.aclosing(
                    self._client.events(tab, "GET", f"/v1/runs/{turn.run_id}/events", after=cursor)
                ) as events:
                    async for event in events:
                        count -= 1
                        if count <= 0 or event.name in FINAL:
                            break
        return await self._to_the_end(tab, turn.run_id, self._cursor(turn))

    async def _send(
        self,
        task: Task,
        key: str,
        tab: str,
        *,
        edge: int | None = None,
        read: int = 0,
        on_event: Callable[[Event], None] = lambda _: None,
        **more: str,
    ) -> Turn | None:
        """Sends a message until it is acknowledged and reads its stream as far as it goes; returns None where it never was.

        Args:
            task: What is asked.
            key: The client's own id of the message.
            tab: Which tab.
            edge: Which edge is asked first; None: any.
            read: Leaves after so many events; 0: reads all.
            on_event: Told of each event.
            more: Further fields of the body.
        """
        again = bool({"regenerate_message_id", "continue_message_id"} & more.keys())
        body = {"client_message_id": key} | more | ({} if again else {"message": task.message})
        turn: Turn | None = None
        until = now() + _SETTLE_S * self._slower
        while turn is None:
            try:
                async with contextlib.aclosing(self._client.events(tab, "POST", self._runs, body, edge=edge)) as events:
                    async for event in events:
                        if turn is None:
                            turn = self._acknowledged(tab, task, key, event.run_id, "stream", again=again)
                        on_event(event)
                        read -= 1
                        if read == 0 or event.name in FINAL:
                            return turn
            except Refused as refused:
                if not (refused.passes or refused.code in _ACTIVE) or now() > until:
                    raise
                await asyncio.sleep(min(refused.retry_after_s or 0.3, 2.0))
            if turn is None:
                if now() > until:
                    self._history.unserved.append(f"{tab}: {key} was never acknowledged")
                    return None
                await asyncio.sleep(self._random.uniform(0.05, 0.3))
            edge = None
        return turn

    def _acknowledged(self, tab: str, task: Task, key: str, run_id: str, how: str, *, again: bool = False) -> Turn:
        turn = Turn(now(), tab, task, key, self._conversation, run_id, how, again)
        self._history.turns.append(turn)
        self._last = turn
        return turn

    def _cursor(self, turn: Turn) -> str:
        """Returns the id of the last event the turn's tab has seen of it."""
        for event in reversed(self._history.events):
            if event.client == turn.client and event.run_id == turn.run_id:
                return f"{turn.run_id}:{event.seq}"
        return ""

    async def _to_the_end(self, tab: str, run_id: str, last: str = "") -> Event | None:
        seen = next(
            (event for event in reversed(self._history.events) if event.client == tab and event.run_id == run_id), None
        )
        if seen is not None and seen.name in FINAL:
            return seen
        return await self._client.follow(tab, run_id, last, for_s=_SETTLE_S * self._slower)

    async def _cancel(self, run_id: str) -> None:
        try:
            await self._client.insist("POST", f"/v1/runs/{run_id}/cancel")
        except Refused as refused:
            self._history.unserved.append(f"{self._name}: run {run_id} could not be stopped: {refused}")
            return
        self._history.cancels[run_id] = now()

    async def _watch(self, tab: str) -> None:
        """The second tab: it follows the conversation and comes back with its last id whenever it is cut off."""
        self._history.watchers[tab] = self._conversation
        last = ""
        while True:
            try:
                path = f"/v1/conversations/{self._conversation}/events"
                async with contextlib.aclosing(self._client.events(tab, "GET", path, after=last)) as events:
                    async for event in events:
                        last = f"{event.run_id}:{event.seq}"
            except Refused as refused:
                if not refused.passes:
                    self._history.refused_cursors.append(f"{tab} came back with {last!r}: {refused}")
                    return
                await asyncio.sleep(min(refused.retry_after_s or 0.3, 2.0))
            await asyncio.sleep(self._random.uniform(0.05, 0.3))

    async def _caught_up(self) -> None:
        tab, last = f"{self._name}/tab", self._last
        while last is not None and not self._has_seen_the_end(tab, last.run_id):  # noqa: ASYNC110 - another task sees it
            await asyncio.sleep(0.05)

    def _has_seen_the_end(self, tab: str, run_id: str) -> bool:
        return any(
            event.client == tab and event.run_id == run_id and event.name in FINAL
            for event in reversed(self._history.events)
        )
