"""A person with an account, as the API meets them: over HTTP, reading event streams by the book."""

from __future__ import annotations

import asyncio
import contextlib
import json
import secrets
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Self

import httpx

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

PASSWORD = "correct horse battery"


@dataclass(frozen=True)
class Frame:
    """One server-sent event."""

    id: str
    event: str
    data: dict[str, Any]

    @property
    def seq(self) -> int:
        return int(self.id.rpartition(":")[2])


@dataclass
class Stream:
    """An event stream as far as it has been read.

    Attributes:
        response: Its status and headers.
        raw: Every byte so far.
        frames: Every event so far.
        comments: Every comment so far.
        retry_ms: The server's wish, once it has one.
    """

    response: httpx.Response
    raw: bytes = b""
    frames: list[Frame] = field(default_factory=list)
    comments: list[str] = field(default_factory=list)
    retry_ms: int | None = None
    _rest: bytes = b""
    _bytes: AsyncIterator[bytes] | None = None

    async def read(self) -> bool:
        """Reads what comes next; False: the stream has ended."""
        if self._bytes is None:
            self._bytes = aiter(self.response.aiter_raw())
        try:
            data = await anext(self._bytes)
        except StopAsyncIteration:
            return False
        self.raw += data
        *blocks, self._rest = (self._rest + data).split(b"\n\n")
        for block in blocks:
            self._take(block.decode())
        return True

    async def whole(self) -> Self:
        """Reads to the end."""
        while await self.read():
            pass
        return self

    async def until(self, event: str) -> Frame:
        """Reads until an event of this name has come."""
        while True:
            for frame in self.frames:
                if frame.event == event:
                    return frame
            assert await self.read(), f"the stream ended without {event}: {self.names}"

    @property
    def names(self) -> list[str]:
        return [frame.event for frame in self.frames]

    @property
    def run_id(self) -> str:
        return str(self.frames[0].data["run_id"])

    @property
    def last(self) -> Frame:
        return self.frames[-1]

    @property
    def text(self) -> str:
        """The answer as a client shows it: each delta at its offset, and nothing that a reset has voided."""
        answer = ""
        for frame in self.frames:
            if frame.event == "reset":
                answer = answer[: frame.data["offset"]]
            if frame.event == "text":
                assert frame.data["offset"] <= len(answer), "a hole in the answer"
                answer = answer[: frame.data["offset"]] + frame.data["delta"]
        return answer

    def of(self, event: str) -> list[Frame]:
        """Returns the events of one name."""
        return [frame for frame in self.frames if frame.event == event]

    def _take(self, block: str) -> None:
        fields: dict[str, str] = {}
        for line in block.split("\n"):
            if line.startswith(":"):
                self.comments.append(line[1:].strip())
                continue
            name, _, value = line.partition(": ")
            assert name not in fields, "a field twice in one frame"
            fields[name] = value
        if "retry" in fields:
            self.retry_ms = int(fields.pop("retry"))
        if fields:
            assert fields.keys() == {"id", "event", "data"}, block
            self.frames.append(Frame(fields["id"], fields["event"], json.loads(fields["data"])))


class Person:
    """A signed-up user with a client of their own."""

    def __init__(self, edge_url: str) -> None:
        self.http = httpx.AsyncClient(base_url=edge_url, timeout=30)
        self.email = f"{secrets.token_hex(8)}@example.com"
        self.password = PASSWORD
        self.session: dict[str, Any] = {}

    @classmethod
    async def sign_up(cls, edge_url: str) -> Self:
        """Returns a new person."""
        person = cls(edge_url)
        answer = await person.http.post("/auth/v1/signup", json={"email": person.email, "password": person.password})
        assert answer.status_code == 200, answer.text
        person.take(answer.json())
        return person

    def take(self, session: dict[str, Any]) -> None:
        """Goes on with a session."""
        self.session = session
        self.http.headers["authorization"] = f"Bearer {self.access_token}"

    @property
    def access_token(self) -> str:
        return str(self.session["access_token"])

    async def close(self) -> None:
        """Hangs up."""
        await self.http.aclose()

    @contextlib.asynccontextmanager
    async def stream(
        self, path: str, body: dict[str, Any] | None = None, *, headers: dict[str, str] | None = None
    ) -> AsyncIterator[Stream]:
        """Opens an event stream: POST with a body, GET without; leaving the block hangs up."""
        method = "GET" if body is None else "POST"
        async with self.http.stream(method, path, json=body, headers=headers) as response:
            if response.status_code != 200:
                await response.aread()
            assert response.status_code == 200, response.text
            yield Stream(response)

    async def say(self, message: str, **more: Any) -> Stream:
        """Sends a message and reads the answer to its end."""
        async with self.stream("/v1/chat", {"message": message, **more}) as stream:
            return await stream.whole()

    async def submit(self, message: str = "", *, conversation: str = "", **more: Any) -> dict[str, Any]:
        """Sends a message to be answered in the background and returns what stands for the run."""
        body = {**({"message": message} if message else {}), **more}
        path = f"/v1/conversations/{conversation}/runs" if conversation else "/v1/chat"
        answer = await self.http.post(path, json=body, headers={"prefer": "respond-async"})
        assert answer.status_code == 202, answer.text
        submitted: dict[str, Any] = answer.json()
        return submitted

    async def turn(self, conversation_id: str, **body: Any) -> Stream:
        """Starts a run in a conversation and reads it to its end."""
        async with self.stream(f"/v1/conversations/{conversation_id}/runs", body) as stream:
            return await stream.whole()

    async def run(self, run_id: str) -> dict[str, Any]:
        """Returns where a run stands."""
        answer = await self.http.get(f"/v1/runs/{run_id}")
        assert answer.status_code == 200, answer.text
        found: dict[str, Any] = answer.json()
        return found

    async def events(self, run_id: str, *, after: int | None = None, last_event_id: str = "") -> Stream:
        """Reads a run's events after a place to their end."""
        path = f"/v1/runs/{run_id}/events" + (f"?after={after}" if after is not None else "")
        headers = {"last-event-id": last_event_id} if last_event_id else None
        async with self.stream(path, headers=headers) as stream:
            return await stream.whole()

    async def conversation(self, **body: Any) -> str:
        """Creates a conversation and returns its id."""
        answer = await self.http.post("/v1/conversations", json=body)
        assert answer.status_code == 201, answer.text
        return str(answer.json()["id"])

    async def titled(self) -> str:
        """Creates a conversation for which the model is not asked for a title, so that it is asked for answers only."""
        return await self.conversation(title="A conversation")

    async def messages(self, conversation_id: str) -> list[dict[str, Any]]:
        """Returns the messages of a conversation."""
        answer = await self.http.get(f"/v1/conversations/{conversation_id}/messages")
        assert answer.status_code == 200, answer.text
        found: list[dict[str, Any]] = answer.json()["messages"]
        return found

    async def usage(self, calls: int) -> dict[str, Any]:
        """Returns today's usage once it holds as many calls."""
        async with asyncio.timeout(10):
            while True:
                answer = await self.http.get("/v1/usage")
                assert answer.status_code == 200, answer.text
                told: dict[str, Any] = answer.json()
                if sum(row["calls"] for row in told["rows"]) >= calls:
                    return told
                await asyncio.sleep(0.05)
