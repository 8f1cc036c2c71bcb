"""What is in Redis of a run's log: one stream a run, each entry all events that were new at a flush.

An entry's id is `<fence>-<last>`: the generation of the owner and the number of its last event. Redis refuses an id that is not above the
newest, so an owner is shut out by the first entry of the next one: a marker `<fence>-0`, which holds no events. The fields are `v`, the
version of this format; `first`, the number after which an entry goes on; `events`, a serialized WatchRunResponse. Where an entry repeats
what came before, the reader takes the rest of it; one with `first` 1 holds the whole log.
"""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any, NamedTuple

from parley.chat.v1 import chat_pb2
from services.chat.domain import Event
from services.chat.wire import add_event, add_texts, kind_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from runtime.resp import Command
    from services.chat.log import RunLog

VERSION = b"2"
START = "0-0"
"""Before any entry."""
_BOUND = (b"MAXLEN", b"~", b"20000")
# Where the stream has gone meanwhile, nothing is added: half a log would be of no use to anybody.
_BOUND_OF_MORE = (b"NOMKSTREAM", *_BOUND)


class EntryId(NamedTuple):
    """Who wrote an entry, and its last event."""

    fence: int
    last: int

    def __str__(self) -> str:
        return f"{self.fence}-{self.last}"


def key_of(org_id: str, run_id: str) -> str:
    """Returns the stream of a run; all that is ever said of it lies in one slot of a cluster."""
    return f"parley:{org_id}:{{{run_id}}}:log"


def seen_key_of(org_id: str, run_id: str) -> str:
    """Returns where the furthest position is kept that a watcher has come with."""
    return f"parley:{org_id}:{{{run_id}}}:seen"


def entry_id(raw: bytes) -> EntryId:
    """Reads an id."""
    fence, _, last = raw.partition(b"-")
    return EntryId(int(fence), int(last))


def marker() -> dict[Any, Any]:
    """Returns the entry with which an owner shuts out those before it."""
    return {b"v": VERSION, b"first": 0, b"events": b""}


def entry_of(events: Sequence[Event], *, after: int) -> dict[Any, Any]:
    """Returns events as an entry that goes on after a position."""
    response = chat_pb2.WatchRunResponse()
    for event in events:
        add_event(response.events, event)
    return _fields(response, after)


def entry(log: RunLog, *, after: int) -> tuple[int, dict[Any, Any]]:
    """Returns the number of the last event, and the entry, that the tail of a log goes on with after a position; there must be more behind it."""
    written = log.texts(after)
    if written is None:
        events = log.unsent(after)
        return events[-1].seq, entry_of(events, after=after)
    # Nearly always, and there is one for each run every few tens of milliseconds.
    offset, texts = written
    response = chat_pb2.WatchRunResponse()
    add_texts(response.events, texts, seq=after + 1, offset=offset)
    return after + len(texts), _fields(response, after)


def appended(key: bytes, fence: int, log: RunLog, *, after: int) -> tuple[int, Command]:
    """Returns the number of the last event, and the command that appends the entry; after nothing it begins the stream. Otherwise as `entry`."""
    last, fields = entry(log, after=after)
    flat = itertools.chain.from_iterable(fields.items())
    return last, (b"XADD", key, *(_BOUND_OF_MORE if after else _BOUND), b"%d-%d" % (fence, last), *flat)


def _fields(response: chat_pb2.WatchRunResponse, after: int) -> dict[Any, Any]:
    return {b"v": VERSION, b"first": b"%d" % (after + 1), b"events": response.SerializeToString()}


def newest_whole(entries: Sequence[tuple[bytes, dict[bytes, bytes]]]) -> Sequence[tuple[bytes, dict[bytes, bytes]]]:
    """Returns the entries from the last one on with which a log was sent, or made anew, from its beginning: what came before it is void.

    A watcher who has been told of the lost log goes on from where that ended; the next owner must not take both for the answer.
    """
    for index in range(len(entries) - 1, 0, -1):
        fields = entries[index][1]
        if fields.get(b"v") == VERSION and fields[b"first"] == b"1":
            return entries[index:]
    return entries


def replay(log: RunLog, entries: Iterable[tuple[bytes, dict[bytes, bytes]]]) -> None:
    """Adds what entries hold to a log, as far as they follow on it and this release knows what they say."""
    for _, fields in entries:
        if fields.get(b"v") != VERSION or not fields[b"events"] or int(fields[b"first"]) > log.last_seq + 1:
            continue
        events: list[Event] = []
        unknown = False
        for event in chat_pb2.WatchRunResponse.FromString(fields[b"events"]).events:
            if event.seq > log.last_seq:
                kind = kind_of(event)
                if unknown := kind is None:
                    break
                events.append(Event(event.seq, kind))
        log.load(events)
        if unknown:
            return
