"""What a reader makes of the entries of a log in Redis."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from services.chat.domain import Done, Event, Kind, Progress, Reasoning, Reset, RunStatus, Text, Thinking
from services.chat.entries import EntryId, entry, entry_id, entry_of, key_of, marker, replay, seen_key_of
from services.chat.log import BATCH_MAX_CHARS, RunLog


def sent(events: list[Event], *, after: int | None = None, version: bytes | None = None) -> tuple[bytes, Any]:
    """Returns an entry as Redis gives it back."""
    fields = entry_of(events, after=events[0].seq - 1 if after is None else after)
    stored = {name: value if isinstance(value, bytes) else str(value).encode() for name, value in fields.items()}
    return str(EntryId(1, events[-1].seq)).encode(), stored | ({} if version is None else {b"v": version})


def a_log(length: int) -> RunLog:
    log = RunLog()
    for number in range(length):
        log.write(f"{number} ")
    log.append(Done(RunStatus.COMPLETED, "a"))
    return log


def test_all_that_is_said_of_a_run_lies_in_one_slot_under_its_organization() -> None:
    assert key_of("org", "run") == "parley:org:{run}:log"
    assert seen_key_of("org", "run") == "parley:org:{run}:seen"


def test_an_id_is_read_as_it_is_written() -> None:
    assert entry_id(str(EntryId(7, 12)).encode()) == EntryId(7, 12)


@given(st.lists(st.tuples(st.integers(0, 20), st.integers(1, 20)), max_size=20))
def test_entries_may_repeat_what_came_and_skip_nothing(spans: list[tuple[int, int]]) -> None:
    """A copy holds a prefix of the log, whatever entries come: repeated, overlapping, or beyond a gap."""
    events = a_log(20).after(0)
    copy = RunLog()
    reach = 0
    for start, length in spans:
        some = events[start : start + length]
        if some:
            replay(copy, [sent(some)])
            if some[0].seq <= reach + 1:
                reach = max(reach, some[-1].seq)
    assert copy.after(0) == events[:reach]


_KINDS: st.SearchStrategy[Kind] = st.one_of(
    st.builds(lambda text: Text(text, -1), st.sampled_from(["", "a", "Zürich ", "x" * 400])),
    st.builds(Reasoning, st.sampled_from(["Hm.", "So "])),
    st.sampled_from([Progress(2, "Going on"), Reset(1, 0)]),
)


@given(st.lists(st.tuples(_KINDS, st.booleans()), min_size=1, max_size=80), st.integers(0, 79))
def test_what_comes_next_of_a_log_is_what_it_has_not_sent(written: list[tuple[Kind, bool]], sent_seq: int) -> None:
    """However it is told: text by text where it is nothing else, or event by event."""
    log = RunLog()
    for kind, joins in written:
        log.append(Text(kind.delta, log.text_chars) if isinstance(kind, Text) else kind)
        if joins:
            log.parts()
    after = min(sent_seq, log.last_seq - 1)
    events = log.unsent(after)
    assert entry(log, after=after) == (events[-1].seq, entry_of(events, after=after))


def test_an_entry_of_long_texts_holds_no_more_than_a_message_may() -> None:
    log = RunLog()
    for _ in range(3):
        log.write("x" * (BATCH_MAX_CHARS // 2))
    last, fields = entry(log, after=0)
    assert last == 2
    assert fields == entry_of(log.unsent(0), after=0)


def test_a_whole_log_sent_again_mends_a_gap() -> None:
    events = a_log(5).after(0)
    copy = RunLog()
    replay(copy, [sent(events[3:4]), sent(events)])
    assert copy.after(0) == events


def test_a_log_made_anew_is_taken_with_its_jump() -> None:
    """Its numbers go on far beyond those of the lost one, in an entry that holds all of it."""
    copy = RunLog()
    replay(copy, [sent([Event(1, Thinking()), Event(2, Text("Hel", 0))])])
    replay(copy, [sent([Event(1, Thinking()), Event(10_002, Text("Hello", 0))], after=0)])
    assert (copy.last_seq, "".join(part.text for part in copy.parts())) == (10_002, "Hello")


def test_a_marker_says_nothing() -> None:
    copy = RunLog()
    replay(
        copy,
        [
            (
                b"2-0",
                {name: str(value).encode() if isinstance(value, int) else value for name, value in marker().items()},
            )
        ],
    )
    assert copy.last_seq == 0


def test_an_entry_in_another_format_is_left_alone() -> None:
    copy = RunLog()
    replay(copy, [(b"7-0", {b"v": b"1"}), sent(a_log(1).after(0), version=b"9")])
    assert copy.last_seq == 0
