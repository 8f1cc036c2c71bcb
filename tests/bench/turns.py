"""One job of the load generator: streams in the background, probes among them, bursts, stops."""

from __future__ import annotations

import asyncio
import collections
import itertools
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from tests.bench import answers, targets
from tests.bench.answers import Answer
from tests.bench.http_client import Exchange, HttpClient
from tests.bench.spread import summary
from tests.bench.targets import Seat, Target
from tests.bench.wire import Arrival, BadStream

Mark = Callable[[str], Awaitable[None]]
"""Tells the runner where the job stands; returns when it has taken its samples."""

PROBE = Answer(rate=100, tokens=3)
_SETTLE_S = 0.5
_BEGIN_TIMEOUT_S = 30.0
_END_TIMEOUT_S = 30.0
_STOP_TOKENS_S = 0.1
_STOP_ANSWER = Answer(rate=50, tokens=500)


@dataclass(slots=True)
class Read:
    """What the exchanges of a job held, once they have been read.

    Attributes:
        first_ms: From asking to the first text, one an answer.
        token_ns: When each token of each whole answer arrived.
        transit_ns: For paced answers: sent when, received when.
        failures: How often what went wrong.
        whole: Answers whose text is just what the provider sent.
        received_bytes: All of them.
        last_ns: When the last text of all came.
    """

    first_ms: list[float] = field(default_factory=list)
    token_ns: list[list[int]] = field(default_factory=list)
    transit_ns: list[tuple[int, int]] = field(default_factory=list)
    failures: collections.Counter[str] = field(default_factory=collections.Counter)
    whole: int = 0
    received_bytes: int = 0
    last_ns: int = 0

    def add(self, target: Target, exchange: Exchange, answer: Answer) -> None:
        """Reads one exchange."""
        self.received_bytes += sum(len(data) for _, data in exchange.pieces)
        try:
            arrivals = _whole(target, exchange, answer)
        except BadStream as problem:
            self.failures[str(problem)] += 1
            return
        self.whole += 1
        self.first_ms.append((arrivals[0][0] - exchange.asked_ns) / 1e6)
        self.last_ns = max(self.last_ns, arrivals[-1][0])
        if answer.rate:
            self._add_tokens(arrivals, answer.tokens)

    def _add_tokens(self, arrivals: Sequence[Arrival], tokens: int) -> None:
        text = "".join(delta for _, delta in arrivals)
        received = _token_times(arrivals, tokens)
        self.token_ns.append(received)
        width = answers.TOKEN_WIDTH
        self.transit_ns += [
            (answers.sent_ns(text[width * index : width * (index + 1)], at), at) for index, at in enumerate(received)
        ]


def _whole(target: Target, exchange: Exchange, answer: Answer) -> list[Arrival]:
    """Returns an exchange's arrivals. Raises: BadStream: they are not the whole answer, or it did not end well."""
    if exchange.failure:
        raise BadStream(exchange.failure)
    arrivals = target.read(exchange.pieces)
    if not answers.is_whole("".join(delta for _, delta in arrivals), answer):
        raise BadStream("text differs from what was sent")
    return arrivals


def _token_times(arrivals: Sequence[Arrival], tokens: int) -> list[int]:
    times: list[int] = []
    length = 0
    for at, delta in arrivals:
        length += len(delta)
        arrived = min(length // answers.TOKEN_WIDTH, tokens)
        times += [at] * (arrived - len(times))
    return times


async def paced(target: Target, seats: Sequence[Seat], mark: Mark, job: dict[str, Any]) -> dict[str, Any]:
    """Keeps `streams` answers running, all asked for at once, and after a while lets probes ask beside them, one by one.

    Marks: `before` nothing runs; `window` all have begun and settled; `window_end` after `window_s`; `probes_end`.

    Args:
        target: Who is asked.
        seats: One for each stream; the rest are for the probes, in turn.
        mark: Awaited at each mark.
        job: `streams`, `rate` and `tokens` of their answers, `window_s`, `probes` (how many), `pause_s` (between probes).

    Returns: what came of it, times in ms.
    """
    count, answer = job["streams"], Answer(job["rate"], job["tokens"])
    clients = [await target.connect() for _ in range(count + 1)]
    await mark("before")
    exchanges = [target.ask(client, answer.model, seat) for client, seat in zip(clients, seats[:count], strict=False)]
    await _all(exchanges, "begun", _BEGIN_TIMEOUT_S)
    window = [0, 0]
    if count:
        await asyncio.sleep(_SETTLE_S)
        await mark("window")
        window[0] = time.monotonic_ns()
        await asyncio.sleep(job["window_s"])
        window[1] = time.monotonic_ns()
    await mark("window_end")
    probes = await _probe(target, clients[-1], seats[count:], job, among=exchanges)
    watched_until = time.monotonic_ns()
    await mark("probes_end")
    await _all(exchanges, "ended", answer.tokens / answer.rate + _END_TIMEOUT_S)
    for client in clients:
        client.close()
    return _paced_result(target, answer, exchanges, probes, (window[0], window[1], watched_until))


async def burst(target: Target, seats: Sequence[Seat], mark: Mark, job: dict[str, Any]) -> dict[str, Any]:
    """Asks for `streams` answers of `tokens` tokens, which the provider sends as fast as they are taken.

    Marks: `before`, `window` and `window_end`.
    """
    count, answer = job["streams"], Answer(0, job["tokens"])
    answers.burst_text(answer.tokens)
    clients = [await target.connect() for _ in range(count)]
    await mark("before")
    await mark("window")
    exchanges = [target.ask(client, answer.model, seat) for client, seat in zip(clients, seats, strict=False)]
    await _all(exchanges, "ended", 2 * _END_TIMEOUT_S)
    await mark("window_end")
    for client in clients:
        client.close()
    read = Read()
    for exchange in exchanges:
        read.add(target, exchange, answer)
    begun_ns = min(exchange.asked_ns for exchange in exchanges)
    tokens = read.whole * answer.tokens
    seconds = (read.last_ns - begun_ns) / 1e9
    return _common(read) | {"window_tokens": tokens, "tokens_s": tokens / seconds if tokens else None}


async def stop(target: Target, seats: Sequence[Seat], mark: Mark, job: dict[str, Any]) -> dict[str, Any]:
    """Stops `count` answers one after another in the middle, as a user does: by Stop where there is one, else by going away.

    Returns: `stopped_ns`, when each was stopped; the provider knows when its connection closed.
    """
    await mark("before")
    stopped_ns, answered_ms = [], []
    failures: collections.Counter[str] = collections.Counter()
    for number in range(job["count"]):
        seat = seats[number % len(seats)]
        client = await target.connect()
        exchange = target.ask(client, _STOP_ANSWER.model, seat)
        await _all([exchange], "begun", _BEGIN_TIMEOUT_S)
        await asyncio.sleep(_STOP_TOKENS_S)
        if exchange.ended.is_set():
            failures[exchange.failure or "ended before it was stopped"] += 1
            stopped_ns.append(0)
            continue
        if target.stoppable:
            answered_ms.append(await _press_stop(target, exchange, seat, stopped_ns))
            await _all([exchange], "ended", _END_TIMEOUT_S)
        else:
            stopped_ns.append(time.monotonic_ns())
        client.close()
        await mark("stopped")
    return {"stopped_ns": stopped_ns, "answered_ms": answered_ms, "failures": dict(failures)}


async def _press_stop(target: Target, exchange: Exchange, seat: Seat, stopped_ns: list[int]) -> float:
    received = b"".join(data for _, data in exchange.pieces)
    run_id = received.partition(b"\nid: ")[2].partition(b":")[0].decode()
    client: HttpClient = await target.connect()
    stopping = client.ask(targets.stop_request(run_id, seat))
    stopped_ns.append(stopping.asked_ns)
    await _all([stopping], "ended", _END_TIMEOUT_S)
    answered_ns = stopping.pieces[-1][0] if stopping.pieces else time.monotonic_ns()
    client.close()
    return (answered_ns - stopping.asked_ns) / 1e6


async def _probe(
    target: Target, client: Any, seats: Sequence[Seat], job: dict[str, Any], *, among: Sequence[Exchange]
) -> list[Exchange]:
    """Asks one by one; stops before its time when one of the streams has ended, for then there are fewer than the figure says."""
    exchanges = []
    for seat in itertools.islice(itertools.cycle(seats or [Seat()]), job["probes"]):
        await asyncio.sleep(job["pause_s"])
        if any(exchange.ended.is_set() for exchange in among):
            break
        exchanges.append(target.ask(client, PROBE.model, seat))
        await _all(exchanges[-1:], "ended", _BEGIN_TIMEOUT_S)
        if exchanges[-1].failure:
            client = await target.connect()
    return exchanges


async def _all(exchanges: Sequence[Exchange], what: str, timeout_s: float) -> None:
    try:
        async with asyncio.timeout(timeout_s):
            for exchange in exchanges:
                await getattr(exchange, what).wait()
    except TimeoutError:
        for exchange in exchanges:
            if not getattr(exchange, what).is_set():
                exchange.end(f"not {what} within {timeout_s:.0f} s")


def _paced_result(
    target: Target,
    answer: Answer,
    exchanges: Sequence[Exchange],
    probes: Sequence[Exchange],
    moments: tuple[int, int, int],
) -> dict[str, Any]:
    begin_ns, end_ns, watched_until_ns = moments
    streams, probed = Read(), Read()
    for exchange in exchanges:
        streams.add(target, exchange, answer)
    for exchange in probes:
        probed.add(target, exchange, PROBE)
    # The first gap is the wheel's choice of phase, not a gap between paced tokens.
    gaps_ms = [
        (later - earlier) / 1e6
        for times in streams.token_ns
        for earlier, later in itertools.pairwise(times[1:])
        if begin_ns <= later <= watched_until_ns
    ]
    transits_ms = [
        (received - sent) / 1e6 for sent, received in streams.transit_ns if begin_ns <= received <= watched_until_ns
    ]
    return _common(streams) | {
        "failures": dict(streams.failures + probed.failures),
        "whole": streams.whole + probed.whole,
        "burst_first_ms": streams.first_ms,
        "probe_first_ms": probed.first_ms,
        "gap_ms": summary(gaps_ms),
        "transit_ms": summary(transits_ms),
        "window_s": (end_ns - begin_ns) / 1e9,
        "window_tokens": sum(begin_ns <= at < end_ns for times in streams.token_ns for at in times),
    }


def _common(read: Read) -> dict[str, Any]:
    return {"failures": dict(read.failures), "whole": read.whole, "received_bytes": read.received_bytes}
