"""Server-sent events: what they hold does not depend on how they arrive."""

from hypothesis import given
from hypothesis import strategies as st

from services.gateway.wires.sse import Events

PARTS = (
    b"data: {}",
    b"data: [DONE]",
    b"data:",
    b"data: ",
    b"x",
    b"\n",
    b"\n\n",
    b"\r\n",
    b"\r",
    b": c",
    b"event: e",
    b"ping",
)


def read(portions: list[bytes]) -> tuple[list[bytes], bool]:
    """Returns the data of all events, and whether this can be a stream of them."""
    events = Events()
    found = [each for portion in portions for each in events.feed(portion)]
    return found + events.end(), events.readable


@given(st.lists(st.sampled_from(PARTS), max_size=12))
def test_events_that_come_at_once_are_those_that_come_byte_by_byte(parts: list[bytes]) -> None:
    data = b"".join(parts)
    assert read([data]) == read([data[at : at + 1] for at in range(len(data))])


@given(st.lists(st.lists(st.sampled_from(PARTS), max_size=8), max_size=4))
def test_where_they_are_cut_does_not_matter(portions: list[list[bytes]]) -> None:
    cut = [b"".join(parts) for parts in portions]
    assert read(cut) == read([b"".join(cut)])


def test_several_events_of_one_portion_are_all_given_out() -> None:
    assert read([b'data: {"a":1}\n\ndata: {}\n\ndata: [DONE]\n\n']) == ([b'{"a":1}', b"{}", b"[DONE]"], True)
