"""A client of the edge that keeps to the book: it comes back with its last id, waits as it is told, and writes everything down."""

from __future__ import annotations

import asyncio
import contextlib
import json
import secrets
from typing import TYPE_CHECKING, Any

import httpx

from tests.chaos.history import FINAL, Event, Exchange, now

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Sequence
    from random import Random

    from tests.chaos.history import History

_SILENCE_S = 20.0
_CONNECT_S = 5.0
_PAUSE_S = 0.3
_OK = range(200, 300)


class Refused(Exception):
    """The edge said no.

    Attributes:
        status: Of the answer; 0: there was none.
        code: Of the problem.
        body: The problem.
        retry_after_s: When to come back; None: it did not say.
    """

    def __init__(self, status: int, body: dict[str, Any], retry_after_s: float | None) -> None:
        super().__init__(f"{status} {body.get('code', '')}")
        self.status = status
        self.code = str(body.get("code", ""))
        self.body = body
        self.retry_after_s = retry_after_s

    @property
    def passes(self) -> bool:
        """Whether trying again makes sense."""
        return self.status in {0, 502, 503, 504}


class Client:
    """One person's connection to all edges.

    Args:
        name: Of the person.
        edges: Base URLs.
        history: Where everything is written down.
        random: Decides which edge is asked.
    """

    def __init__(self, name: str, edges: Sequence[str], history: History, random: Random) -> None:
        self.name = name
        self.history = history
        self.random = random
        self._edges = edges
        self._http = httpx.AsyncClient(timeout=httpx.Timeout(_SILENCE_S, connect=_CONNECT_S))
        self._credentials: dict[str, str] = {}

    async def close(self) -> None:
        """Hangs up."""
        await self._http.aclose()

    async def sign_up(self) -> None:
        """Becomes somebody."""
        self._credentials = {
            "email": f"{self.name}-{secrets.token_hex(6)}@example.com",
            "password": secrets.token_hex(8),
        }
        self._take(await self.ask("POST", "/auth/v1/signup", self._credentials))

    async def ask(
        self,
        method: str,
        path: str,
        body: dict[str, Any] | None = None,
        *,
        edge: int | None = None,
        headers: dict[str, str] | None = None,
    ) -> dict[str, Any]:
        """Asks once.

        Raises: Refused.
        """
        sent = now()
        try:
            answer = await self._http.request(method, self._url(path, edge), json=body, headers=headers)
        except httpx.HTTPError as error:
            self._note(sent, f"{method} {path}", Refused(0, {"code": type(error).__name__}, None))
            raise Refused(0, {"code": type(error).__name__}, None) from None
        if answer.status_code not in _OK:
            refused = _refusal(answer)
            self._note(sent, f"{method} {path}", refused)
            if refused.status == httpx.codes.UNAUTHORIZED and self._credentials and not path.startswith("/auth"):
                self._take(await self.ask("POST", "/auth/v1/token?grant_type=password", self._credentials))
                return await self.ask(method, path, body, edge=edge, headers=headers)
            raise refused
        took_s = now() - sent
        self.history.exchanges.append(Exchange(sent, self.name, f"{method} {path}", answer.status_code, took_s=took_s))
        return _object(answer)

    async def insist(
        self,
        method: str,
        path: str,
        body: dict[str, Any] | None = None,
        *,
        for_s: float = 40.0,
        headers: dict[str, str] | None = None,
        despite: tuple[str, ...] = (),
    ) -> dict[str, Any]:
        """Asks until there is an answer; for what may be repeated.

        Args:
            method: Of HTTP.
            path: Of the URL.
            body: JSON.
            for_s: How long.
            headers: Further ones.
            despite: Codes of refusals that pass, besides those that say so themselves.

        Raises: Refused: for good, or still after all this time.
        """
        until = now() + for_s
        while True:
            try:
                return await self.ask(method, path, body, headers=headers)
            except Refused as refused:
                if not (refused.passes or refused.code in despite) or now() > until:
                    raise
                await asyncio.sleep(min(refused.retry_after_s or _PAUSE_S, 2.0))

    async def events(
        self,
        tab: str,
        method: str,
        path: str,
        body: dict[str, Any] | None = None,
        *,
        after: str = "",
        edge: int | None = None,
    ) -> AsyncGenerator[Event, None]:
        """Opens an event stream and yields what comes until it ends or breaks off; leaving it hangs up.

        Raises: Refused.
        """
        headers = {"accept": "text/event-stream"} | ({"last-event-id": after} if after else {})
        sent, what = now(), f"{method} {path}" + (f" after {after}" if after else "")
        try:
            async with self._http.stream(method, self._url(path, edge), json=body, headers=headers) as answer:
                if answer.status_code not in _OK:
                    await answer.aread()
                    raise _refusal(answer)
                self.history.exchanges.append(Exchange(sent, tab, what, answer.status_code))
                rest = b""
                async for data in answer.aiter_raw():
                    *blocks, rest = (rest + data).split(b"\n\n")
                    for block in blocks:
                        if event := _event(tab, block.decode()):
                            self.history.events.append(event)
                            yield event
        except Refused as refused:
            self._note(sent, what, refused)
            raise
        except httpx.HTTPError as error:
            self.history.exchanges.append(Exchange(sent, tab, what, 0, type(error).__name__))

    async def follow(self, tab: str, run_id: str, last: str = "", *, for_s: float = 60.0) -> Event | None:
        """Watches a run to its end, coming back after each break; returns its last event, None where none came in time.

        Args:
            tab: Which of the person's tabs.
            run_id: The run.
            last: Id of the last event this tab has seen; empty: none.
            for_s: How long.
        """
        until = now() + for_s
        while now() < until:
            try:
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(until - now()):
                        async for event in self.events(tab, "GET", f"/v1/runs/{run_id}/events", after=last):
                            last = f"{run_id}:{event.seq}"
                            if event.name in FINAL:
                                return event
            except Refused as refused:
                if not refused.passes:
                    self.history.refused_cursors.append(f"{tab} came back to run {run_id} with {last!r}: {refused}")
                    return None
                await asyncio.sleep(min(refused.retry_after_s or _PAUSE_S, 2.0))
            await asyncio.sleep(self.random.uniform(0.05, _PAUSE_S))
        return None

    def _take(self, session: dict[str, Any]) -> None:
        self._http.headers["authorization"] = f"Bearer {session['access_token']}"

    def _url(self, path: str, edge: int | None) -> str:
        return (self.random.choice(self._edges) if edge is None else self._edges[edge % len(self._edges)]) + path

    def _note(self, sent: float, what: str, refused: Refused) -> None:
        exchange = Exchange(
            *(sent, self.name, what, refused.status, refused.code),
            retry_after=refused.retry_after_s is not None,
            detail=str(refused.body.get("detail", "")),
        )
        self.history.exchanges.append(exchange)


def _refusal(answer: httpx.Response) -> Refused:
    told = answer.headers.get("retry-after")
    return Refused(answer.status_code, _object(answer), float(told) if told else None)


def _object(answer: httpx.Response) -> dict[str, Any]:
    try:
        value = answer.json()
    except ValueError:
        return {}
    return value if isinstance(value, dict) else {}


def _event(tab: str, block: str) -> Event | None:
    fields = dict(line.partition(": ")[::2] for line in block.split("\n") if line and not line.startswith(":"))
    if "data" not in fields:
        return None
    run_id, _, seq = fields["id"].rpartition(":")
    return Event(now(), tab, run_id, int(seq), fields["event"], json.loads(fields["data"]))
