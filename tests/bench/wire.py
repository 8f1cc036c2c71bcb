"""Turns received bytes and their times into arrivals of text, after the measurement: while it runs nothing is parsed."""

from __future__ import annotations

import bisect
import itertools
from collections.abc import Iterator
from dataclasses import dataclass, field

import msgspec

from parley.gateway.v1 import gateway_pb2

Piece = tuple[int, bytes]
"""When it was received (CLOCK_MONOTONIC, ns), and what."""
Arrival = tuple[int, str]
"""When a delta was there in full, and its text."""


_MESSAGE_HEAD_BYTES = 5


class BadStream(Exception):
    """What was received is not a whole and right answer; the message says why in a few words."""


class _Delta(msgspec.Struct):
    content: str | None = None


class _Choice(msgspec.Struct):
    delta: _Delta


class _Chunk(msgspec.Struct):
    choices: list[_Choice]


class _Event(msgspec.Struct):
    """The `data` of any of the edge's events; fields of other events keep their defaults."""

    seq: int
    delta: str = ""
    offset: int = 0
    status: str = ""
    code: str = ""


@dataclass(slots=True)
class _Body:
    """The body of an HTTP response without its transfer encoding, and where each part of it ended in the raw bytes."""

    parts: list[bytes] = field(default_factory=list)
    ends: list[int] = field(default_factory=list)
    raw_ends: list[int] = field(default_factory=list)
    whole: bool = False


_chunk = msgspec.json.Decoder(_Chunk)
_event = msgspec.json.Decoder(_Event)


def status(raw: bytes) -> int:
    """Returns the status of an HTTP response, 0 where there is none."""
    return int(raw[9:12]) if raw.startswith(b"HTTP/1.1 ") and raw[9:12].isdigit() else 0


def frames(pieces: list[Piece]) -> Iterator[Piece]:
    """Yields the frames of a chunked event stream, each with the time at which its last byte was received.

    Raises: BadStream.
    """
    raw = b"".join(data for _, data in pieces)
    if status(raw) != 200:
        raise BadStream(refusal(raw))
    piece_ends = list(itertools.accumulate(len(data) for _, data in pieces))
    body = _unchunk(raw)
    joined = b"".join(body.parts)
    start = 0
    while (end := joined.find(b"\n\n", start)) >= 0:
        end += 2
        part = bisect.bisect_left(body.ends, end)
        raw_end = body.raw_ends[part] - (body.ends[part] - end)
        yield pieces[bisect.bisect_left(piece_ends, raw_end)][0], joined[start : end - 2]
        start = end
    if not body.whole:
        raise BadStream("connection lost")


def provider_arrivals(pieces: list[Piece]) -> list[Arrival]:
    """Reads the provider's own stream.

    Raises: BadStream.
    """
    found: list[Arrival] = []
    done = False
    for received_ns, frame in frames(pieces):
        if frame == b"data: [DONE]":
            done = True
            continue
        texts = [choice.delta.content for choice in _chunk.decode(frame[len(b"data: ") :]).choices]
        found += [(received_ns, text) for text in texts if text]
    if not done:
        raise BadStream("no [DONE]")
    return found


def edge_arrivals(pieces: list[Piece]) -> list[Arrival]:
    """Reads the edge's stream, and checks that events are numbered without gaps and deltas lie end to end.

    Raises: BadStream.
    """
    found = []
    seq = length = 0
    ended = ""
    for received_ns, frame in frames(pieces):
        fields = dict(line.partition(b": ")[::2] for line in frame.split(b"\n") if not line.startswith(b":"))
        if b"data" not in fields:
            continue
        event = _event.decode(fields[b"data"])
        if event.seq != seq + 1:
            raise BadStream(f"event {event.seq} after {seq}")
        seq = event.seq
        if fields[b"event"] == b"text":
            if event.offset != length:
                raise BadStream(f"text at {event.offset} after {length} characters")
            length += len(event.delta)
            found.append((received_ns, event.delta))
        elif fields[b"event"] == b"error":
            raise BadStream(f"error event {event.code}")
        elif fields[b"event"] == b"done":
            ended = event.status
    if ended != "completed":
        raise BadStream(f"ended {ended or 'without done'}")
    return found


def gateway_arrivals(pieces: list[Piece]) -> list[Arrival]:
    """Reads the messages of `GatewayService.Chat`, as HTTP/2 carried them.

    Raises: BadStream.
    """
    found = []
    finished = False
    for received_ns, message in messages(pieces):
        for delta in gateway_pb2.ChatResponse.FromString(message).deltas:
            if delta.text:
                found.append((received_ns, delta.text))
            finished = finished or delta.HasField("finished")
    if not finished:
        raise BadStream("no finish")
    return found


def messages(pieces: list[Piece]) -> Iterator[Piece]:
    """Yields gRPC messages, each with the time at which its last byte was received."""
    raw = b"".join(data for _, data in pieces)
    piece_ends = list(itertools.accumulate(len(data) for _, data in pieces))
    start = 0
    while (body := start + _MESSAGE_HEAD_BYTES) <= len(raw):
        end = body + int.from_bytes(raw[start + 1 : body], "big")
        if end > len(raw):
            break
        yield pieces[bisect.bisect_left(piece_ends, end)][0], raw[body:end]
        start = end


def _unchunk(raw: bytes) -> _Body:
    body = _Body()
    at = raw.find(b"\r\n\r\n") + 4
    length = 0
    while (line_end := raw.find(b"\r\n", at)) >= 0:
        size = int(raw[at:line_end], 16)
        start, end = line_end + 2, line_end + 2 + size
        if size == 0:
            body.whole = True
            break
        data = raw[start:end]
        length += len(data)
        body.parts.append(data)
        body.ends.append(length)
        body.raw_ends.append(start + len(data))
        at = end + 2
    return body


def refusal(raw: bytes) -> str:
    """Returns what an HTTP response that is not a stream says: its status, and its code where it has one."""
    code = status(raw)
    if not code:
        return "connection lost before an answer"
    body = raw.partition(b"\r\n\r\n")[2]
    try:
        return f"HTTP {code} {msgspec.json.decode(body)['code']}"
    except (msgspec.DecodeError, KeyError, TypeError):
        return f"HTTP {code}"
