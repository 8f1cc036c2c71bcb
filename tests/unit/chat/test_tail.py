"""What a reader makes of the entries of a log in Redis."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from parley.chat.v1 import chat_pb2
from services.chat.domain import Done, Event, RunStatus
from services.chat.log import RunLog
from services.chat.tail import VERSION, _Followed, _take, key_of
from services.chat.wire import event_pb


def entry(events: list[Event], version: bytes = VERSION) -> tuple[bytes, dict[bytes, bytes]]:
    body = chat_pb2.WatchRunResponse(events=map(event_pb, events)).SerializeToString()
    fields = {b"v": version, b"first": b"%d" % events[0].seq, b"last": b"%d" % events[-1].seq, b"events": body}
    return b"%d-0" % events[-1].seq, fields


def a_log(length: int) -> RunLog:
    log = RunLog()
    for number in range(length):
        log.write(f"{number} ")
    log.append(Done(RunStatus.COMPLETED, "a"))
    return log


def test_all_that_is_said_of_a_run_lies_in_one_slot_under_its_organization() -> None:
    assert key_of("org", "run") == "parley:org:{run}:log"


@given(st.lists(st.tuples(st.integers(0, 20), st.integers(1, 20)), max_size=20))
def test_entries_may_repeat_what_came_and_skip_nothing(spans: list[tuple[int, int]]) -> None:
    """A copy holds a prefix of the log, whatever entries come: repeated, overlapping, or beyond a gap."""
    events = a_log(20).after(0)
    followed = _Followed("run")
    reach = 0
    for start, length in spans:
        some = events[start : start + length]
        if some:
            _take(followed, [entry(some)])
            if some[0].seq <= reach + 1:
                reach = max(reach, some[-1].seq)
            assert followed.position == some[-1].seq
    assert followed.log.after(0) == events[:reach]


def test_a_whole_log_sent_again_mends_a_gap() -> None:
    events = a_log(5).after(0)
    followed = _Followed("run")
    _take(followed, [entry(events[3:4]), entry(events)])
    assert followed.log.after(0) == events


def test_an_entry_in_another_format_is_left_alone() -> None:
    followed = _Followed("run")
    _take(followed, [(b"7-0", {b"v": b"2"}), entry(a_log(1).after(0), version=b"9")])
    assert (followed.log.last_seq, followed.position) == (0, 2)
